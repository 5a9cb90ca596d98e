"""Weights stored in 16 bits, computed with in 32."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

LARGEST = float(np.finfo(np.float16).max)
"""65504, the largest finite float16."""

SMALLEST_STORED = 64
"""Elements from which half the bytes pay for the Cast node."""


def check_half(
    tensors: Iterable[tuple[str, np.ndarray]],
    advice: str = "Export with precision='float32', or scale that layer.",
) -> None:
    """Refuse weights that float16 can't hold.

    Args:
        tensors: (name, float32 array of any shape).
        advice: what to do, for the message.

    Raises:
        ValueError: a finite value lies beyond 65504; the message names the tensor.

    >>> import numpy as np
    >>> check_half([("kernel", np.array([1e5], "float32"))])
    Traceback (most recent call last):
    ValueError: Expected weights within +-65504, the largest float16. Received: 100000.0 in 'kernel'. ...
    """
    for name, values in tensors:
        finite = values[np.isfinite(values)]
        largest = np.abs(finite).max(initial=0.0)
        if largest > LARGEST:
            raise ValueError(
                f"Expected weights within +-{LARGEST:.0f}, the largest float16. Received: {float(largest)} "
                f"in {name!r}. {advice}"
            )


def store_in_half(graph: Any) -> None:
    """Store the float32 initializers of an ONNX graph, subgraphs too, as float16 with a Cast behind each.

    The Casts are folded when the file is loaded: it runs as fast as the float32 file. (Computing in float16
        is slower
    on every CPU measured.)

    Args:
        graph: an `onnx.GraphProto`, changed in place.

    Raises:
        ValueError: a finite value lies beyond 65504.
    """
    import onnx

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_STORED:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        check_half([(tensor.name, values)])
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}__float16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], f"{name}__cast", to=onnx.TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    for inner in _subgraphs(graph):
        store_in_half(inner)


def _subgraphs(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs
