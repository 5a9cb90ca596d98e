"""What a built Keras model takes: the names, shapes and dtypes of its inputs, and how to hand them over."""

import contextlib
import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.keras_private import inbound_nodes
from tfcompress.data.named_inputs import TensorInfo
from tfcompress.graph.inputs.symbolic import called_dtypes, graph_of, has_graph, input_name, recorded_shapes


@dataclasses.dataclass(frozen=True)
class Signature:
    """The inputs of a model and the way to call it with them.

    Attributes:
        inputs: {name: TensorInfo}, shapes as the model declares them, in the model's order.
        output_names: the names of the outputs in the order of `keras.tree.flatten`; None: known after a call
            only.
        declared: whether the model says the dtypes itself; a subclassed model doesn't.
        pack: flat list of tensors -> (args, kwargs) of the model.
    """

    inputs: dict[str, TensorInfo]
    output_names: tuple[str, ...] | None
    declared: bool
    pack: Callable[[Sequence[Any]], tuple[tuple[Any, ...], dict[str, Any]]]

    @property
    def own_inputs(self) -> dict[str, TensorInfo]:
        """The inputs that the Keras model itself has."""
        return self.inputs

    @property
    def sampled_inputs(self) -> dict[str, TensorInfo]:
        """The inputs that are known before the model is called; `completed` makes the rest."""
        return self.inputs

    def notes(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """Say what a user of a file with these outputs should know of how it is called."""
        return ()

    def completed(
        self, model: keras.Model, inputs: Mapping[str, np.ndarray], random: np.random.Generator | None = None
    ) -> dict[str, np.ndarray]:
        """Return inputs of the model with those that a file takes beside them, as `random` draws them; None: seeded."""
        return dict(inputs)

    def caller(self, model: keras.Model) -> Callable[[Sequence[Any]], dict[str, Any]]:
        """Return `call` for one model, to be called several times while its variables stay."""
        return functools.partial(self.call, model)

    def call(self, model: keras.Model, tensors: Sequence[Any]) -> dict[str, Any]:
        """Call `model` for inference with flat tensors; return {output name: tensor}."""
        args, kwargs = self.pack(tensors)
        outputs = model(*args, training=False, **kwargs)
        leaves = [(path, leaf) for path, leaf in keras.tree.flatten_with_path(outputs) if leaf is not None]
        names = self.output_names
        if names is None or len(names) != len(leaves):
            names = unique((_path_name(path, "output", len(leaves)) for path, _ in leaves), self.inputs)
        return dict(zip(names, (leaf for _, leaf in leaves), strict=True))


def read_signature(model: keras.Model) -> Signature:
    """Find out how `model` is called.

    Args:
        model: built; functional, sequential or subclassed.

    Raises:
        ValueError: the model isn't built, doesn't record what it was built with, or takes what no file can:
            strings, sparse or ragged tensors.
    """
    if not model.built:
        raise ValueError(
            f"Expected a built model. Received: {model.name!r}, which isn't built. Call it once on a batch "
            "of data, or model.build(input_shape), before export."
        )
    return _of_graph(graph_of(model)) if has_graph(model) else _of_subclass(model)


def unique(names: Iterable[Any], taken: Iterable[str] = ()) -> tuple[str, ...]:
    """Make names legal in both formats, and unique with a number behind.

    In ONNX an output can't have the name of an input, so in neither format it has: `taken` are the inputs'
    names.

    >>> unique(["out", "out", "my out:0", "x"], taken=["x"])
    ('out', 'out_1', 'my_out_0', 'x_1')
    """
    made: list[str] = []
    used = set(taken)
    for name in names:
        legal = re.sub(r"[^A-Za-z0-9_.\-/]", "_", str(name)) or "_"
        # TensorFlow lets a name begin with a letter, a digit or a dot.
        legal = legal if re.match(r"[A-Za-z0-9.]", legal) else f"x{legal}"
        free, number = legal, 0
        while free in used:
            number += 1
            free = f"{legal}_{number}"
        used.add(free)
        made.append(free)
    return tuple(made)


def _path_name(path: tuple[Any, ...], stem: str, count: int) -> str:
    """Name a leaf by its keys: {"logits": t} is "logits", (a, b) are "output_0" and "output_1"."""
    if any(isinstance(key, str) for key in path):
        return "_".join(str(key) for key in path)
    return "_".join([stem, *map(str, path)]) if count > 1 else stem


def _behind(graph: Any, tensor: Any) -> str:
    """Say which model is left behind the one layer that reads an input; "" if there are others."""
    readers = [op for op in graph.operations for node in inbound_nodes(op) if tensor in node.input_tensors]
    if len(graph.inputs) != 1 or len(readers) != 1 or not isinstance(readers[0], keras.layers.Layer):
        return ""
    return f": export keras.Model(model.get_layer({readers[0].name!r}).output, model.outputs)"


def _of_graph(graph: Any) -> Signature:
    tensors = keras.tree.flatten(graph.input)
    for tensor in tensors:
        if tensor.sparse or getattr(tensor, "ragged", False) or tensor.dtype == "string":
            kind = "sparse" if tensor.sparse else tensor.dtype if tensor.dtype == "string" else "ragged"
            raise ValueError(
                f"Expected dense numbers in every input. Received: input {input_name(tensor)!r}, which is {kind}. "
                f"Do that part of the preprocessing outside the model{_behind(graph, tensor)}."
            )
    names = unique(input_name(tensor) for tensor in tensors)
    outputs = keras.tree.flatten_with_path(graph.output)
    labels = [_path_name(path, name, 1) for (path, _), name in zip(outputs, graph.output_names, strict=True)]
    output_names = unique(labels, names)
    structure = graph.input

    def pack(flat: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (keras.tree.pack_sequence_as(structure, list(flat)),), {}

    return Signature(
        {name: _info(t.shape, t.dtype) for name, t in zip(names, tensors, strict=True)},
        output_names,
        True,
        pack,
    )


def _info(shape: Sequence[int | None], dtype: str) -> TensorInfo:
    """Describe an input as the file will have it: every floating dtype is float32 there."""
    return TensorInfo(tuple(shape), "float32" if keras.backend.is_float_dtype(dtype) else dtype)


def _of_subclass(model: keras.Model) -> Signature:
    recorded = recorded_shapes(model)
    if not recorded:
        raise ValueError(
            f"Expected a model that knows its input shapes. Received: {model.name!r}, a subclassed model "
            "that has recorded none. Call it once on a batch of data, or say them with input_shapes=; if it takes "
            "several arguments, let it take one dict."
        )
    first = next(iter(inspect.signature(model.call).parameters), "inputs")
    several = len(recorded) > 1
    leaves: list[tuple[str, tuple[int | None, ...]]] = []
    skeleton: dict[str, Any] = {}
    for key, value in recorded.items():
        argument = key.removesuffix("_shape") if several else first
        structure = _shapes(value)
        paths = keras.tree.flatten_with_path(structure)
        leaves += [(_path_name(path, argument, len(paths)), leaf.shape) for path, leaf in paths]
        skeleton[argument] = structure
    names = unique(name for name, _ in leaves)

    def pack(flat: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        packed = keras.tree.pack_sequence_as(skeleton, list(flat)) if several else None
        if packed is not None:
            return (), packed
        return (keras.tree.pack_sequence_as(skeleton[first], list(flat)),), {}

    dtypes = ["float32"] * len(leaves)
    if not several:
        with contextlib.suppress(ValueError):  # of more arguments than one; tracing says so
            dtypes = [_info((), dtype).dtype for dtype in called_dtypes(model)]
    return Signature(
        {name: TensorInfo(shape, dtype) for name, (_, shape), dtype in zip(names, leaves, dtypes, strict=True)},
        None,
        False,
        pack,
    )


@dataclasses.dataclass(frozen=True)
class _Shape:
    """A shape, where a tuple would be taken for structure."""

    shape: tuple[int | None, ...]


def _shapes(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shapes(inner) for key, inner in value.items()}
    if all(size is None or isinstance(size, int) for size in value):
        return _Shape((None, *value[1:]) if value else ())
    return [_shapes(inner) for inner in value]
