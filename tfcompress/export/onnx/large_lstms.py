"""Large kernels of LSTMs on their way to ONNX: tf2onnx copies them some ten times where it makes LSTMs of loops.

So it gets stand-ins, small integers that say of which kernel and of which of its gates each is. Where they are in the
end, the kernels' own values go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfcompress.export.onnx.detached_constants import add_empty

_GATES = 4
_BYTE = 256
_KERNELS = ("w_idx", "r_idx", "weight_idx")
"""Where tf2onnx notes which inputs of a loop are kernels; 0 is none."""

_BIAS = 3
"""The input of an ONNX LSTM that is its bias; 1 and 2 are its kernels."""


class LargeKernels:
    """The kernels that are inputs of a graph while tf2onnx makes LSTMs of its loops.

    Args:
        values: {name of an input: what returns the array that it stands for}.
    """

    def __init__(self, values: Mapping[str, Callable[[], np.ndarray]]) -> None:
        self._inputs = values
        self._values: list[Callable[[], np.ndarray]] = []
        self._stand_ins: list[str] = []
        self._contexts: dict[str, dict[str, Any]] = {}
        self._dtype = np.dtype(np.uint8 if 2 * len(values) * _GATES <= _BYTE else np.uint16)

    def rewrite(self, graph: Any, ops: Any) -> Any:
        """Make LSTMs of loops, as one of tf2onnx' `custom_rewriter`, which come after its own.

        Args:
            graph: Of tf2onnx.
            ops: Its nodes.

        Returns:
            Its nodes then.
        """
        from tf2onnx.rewriter import rewrite_bi_direction_lstm
        from tf2onnx.rewriter.lstm_tf2_rewriter import rewriter_lstm_tf2
        from tf2onnx.tf_loader import find_function

        if graph.lstm_rewriter_context is not None:  # the body of such a loop, which is rewritten before the loop is
            self._contexts[graph.graph_name] = graph.lstm_rewriter_context
            graph.lstm_rewriter_context = None  # tf2onnx' own rewriter, which wants constants, passes the loop by
        for op in [op for op in ops if op.type in ("While", "StatelessWhile")]:
            body = find_function(op.get_attr_str("body"))
            context = self._contexts.get(body.graph_name)
            if context is None:
                continue
            kernels = {op.input[context[key]] for key in _KERNELS if context[key]}
            large = any(name in self._inputs for name in kernels)
            known = all(name in self._inputs or graph.is_const(name) for name in kernels)
            if not known or (large and not context["from_keras"]):  # it stays a loop
                continue
            for name in kernels if large else ():
                self._stand_in(graph, name)
            body.lstm_rewriter_context = context
            rewriter_lstm_tf2(graph, [op])
            body.lstm_rewriter_context = None
        if not self._contexts:
            return ops
        graph.delete_unused_nodes(graph.outputs)  # the loops that were, which seem to read what the LSTMs give
        return rewrite_bi_direction_lstm(graph, graph.get_nodes())

    def _stand_in(self, graph: Any, name: str) -> None:
        """Let a stand-in be where a kernel is: tf2onnx gives both kernels of an LSTM the dtype of one."""
        from tf2onnx import utils

        if name in self._stand_ins:  # of another loop that reads it too
            return
        value = self._inputs.get(name)
        if value is None:
            array = graph.get_tensor_value(name, as_list=False)
            value = lambda: array  # noqa: E731
        rows, columns = graph.get_shape(name)
        codes = np.repeat(np.arange(_GATES) + _GATES * len(self._values), columns // _GATES).astype(self._dtype)
        made = graph.make_const(utils.make_name("stand_in"), np.broadcast_to(codes, (rows, columns))).output[0]
        graph.replace_all_inputs(name, made)
        self._stand_ins.append(made)
        self._values.append(value)

    def put_back(self, graph: Any) -> None:
        """Give a graph the values of the kernels that it has stand-ins of."""
        for node in [node for node in graph.get_nodes() if node.type == "LSTM"]:
            for place in (1, 2, _BIAS):
                codes = self._codes(graph, node.input[place])
                if codes is None:
                    continue
                # A bias that isn't there is zeros of the kernels' dtype.
                made = np.zeros(codes.shape, np.float32) if place == _BIAS else self._kernel(codes)
                _replace(graph, node.input[place], made)
        for name, value in zip(self._stand_ins, self._values, strict=True):
            if graph.find_output_consumers(name):  # a loop that stayed one
                _replace(graph, name, value())

    def _codes(self, graph: Any, name: str) -> np.ndarray | None:
        node = graph.get_node_by_output(name)
        if node is None or not node.is_const():
            return None
        if node.get_attr_value("value").data_type != _data_type(self._dtype):
            return None
        codes: np.ndarray = node.get_tensor_value(as_list=False)
        return codes

    def _kernel(self, codes: np.ndarray) -> np.ndarray:
        """Return what stand-ins of the shape (directions, gates of units, inputs) stand for."""
        directions, rows, inputs = codes.shape
        made = np.empty((directions, _GATES, rows // _GATES, inputs), np.float32)
        for direction in range(directions):
            for gate, code in enumerate(codes[direction, :: rows // _GATES, 0]):
                kernel, which = divmod(int(code), _GATES)
                made[direction, gate] = np.split(self._values[kernel](), _GATES, axis=1)[which].T
        return made.reshape(codes.shape)


def _data_type(dtype: np.dtype) -> int:
    """Return ONNX' number of a dtype."""
    import onnx

    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype))


def _replace(graph: Any, name: str, value: np.ndarray) -> None:
    """Let a constant of a graph have other values."""
    data_type = _data_type(value.dtype)
    graph.remove_node(graph.get_node_by_output(name).name)
    made = add_empty(graph, name, name, data_type=data_type, dims=value.shape, dtype=data_type, shape=value.shape)
    made.raw_data = value.tobytes()
