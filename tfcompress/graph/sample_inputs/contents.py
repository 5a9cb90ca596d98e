"""What a graph itself knows of its inputs: the range of each channel, the size of a table, thresholds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import tree

from tfcompress.core.keras_private import flatten_layers, nodes_in_order
from tfcompress.core.passthrough import Inserted, innermost
from tfcompress.core.sharding import gathered
from tfcompress.graph.inputs.symbolic import graph_of, has_graph, input_name, tables
from tfcompress.graph.own_weights import Parameter
from tfcompress.graph.rewrite import call_of
from tfcompress.graph.sample_inputs.input_paths import (
    CALIBRATED,
    MOST_POINTS,
    NOISE,
    ORDER,
    WHOLE,
    Content,
    Line,
    affine,
    columns_of,
    moved,
    passes,
)
from tfcompress.layers.names import is_of_keras, name_of


class _Reader:
    """Goes through a graph once and notes what each input runs into."""

    def __init__(self, count: int):
        self.found: list[dict[str, list[tuple[Line, Content]]]] = [{} for _ in range(count)]
        self.points: list[list[float]] = [[] for _ in range(count)]
        self.masks: list[float | None] = [None] * count

    def note(self, kind: str, line: Line, content: Content) -> None:
        for source in line.sources:
            self.found[source].setdefault(kind, []).append((line, content))

    def point(self, line: Line, values: Any) -> None:
        back = np.ravel(line.back(np.asarray(values, float)))
        for source in line.sources:
            self.points[source] += [float(value) for value in back[:MOST_POINTS] if np.isfinite(value)]

    def read(self, graph: Any, lines: dict[int, Line]) -> list[Line | None]:
        """Go through a graph whose inputs are given lines, by `id`; return those of its outputs."""
        for node in nodes_in_order(graph):
            if not node.is_input:
                call = call_of(node)
                made = self.step(call, lines)
                lines.update((id(x), line) for x, line in zip(call.outputs, made, strict=False) if line is not None)
        return [lines.get(id(x)) for x in graph.outputs]

    def step(self, call: Any, lines: dict[int, Line]) -> list[Line | None]:
        """Note what a call tells of what it reads; return the lines of what it makes."""
        operation = innermost(call.operation)
        if isinstance(operation, keras.Model) and has_graph(operation):
            inner = graph_of(operation)
            given = {id(x): lines[id(y)] for x, y in zip(inner.inputs, call.inputs, strict=False) if id(y) in lines}
            return self.read(inner, given) if given else []
        if name_of(operation) in ("concatenate", "stack"):
            return [_joined([lines.get(id(x)) for x in call.inputs])]
        made: list[Line | None] = []
        for x in call.inputs:
            line = lines.get(id(x))
            if line is not None:
                made = list(_follow(self, operation, call, x, line)) or made
        return made


def _joined(lines: list[Line | None]) -> Line | None:
    """Return the line of tensors put together, if all are the inputs themselves, or are mapped alike."""
    known = [line for line in lines if line is not None]
    alike = {
        (float(line.scale), float(line.offset)) if np.ndim(line.scale) == np.ndim(line.offset) == 0 else None
        for line in known
    }
    if not known or len(alike) > 1 or None in alike:
        return None
    sources = tuple(sorted({source for line in known for source in line.sources}))
    return dataclasses.replace(known[0], sources=sources, columns=None)


def vocabulary(model: keras.Model) -> int:
    """Return how many different integers are safe as inputs: the smallest `input_dim` of an Embedding, or 2."""
    return min(tables(model), default=2)


def contents(model: keras.Model) -> list[Content]:
    """Return what is known of each input of a functional model, in their order.

    Known are ranges that calibration has seen, what Normalization and BatchNormalization have learned, the pixels
    that Rescaling or arithmetic with constants takes, and the tables of embeddings and encodings.

    Args:
        model: A functional or sequential model; nested ones are looked into.

    Example:

    >>> import keras
    >>> layers = [keras.layers.Rescaling(1 / 255, name="scaled"), keras.layers.Dense(2)]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> contents(model)[0].about, float(contents(model)[0].high)
    ("pixels from 0 to 255, as 'scaled' takes them", 255.0)
    """
    graph = graph_of(model)
    seen = seen_inputs(model)
    widths = [x.shape[-1] if len(x.shape) > 1 else None for x in graph.inputs]
    reader = _Reader(len(graph.inputs))
    reader.read(graph, {id(x): Line((place,)) for place, x in enumerate(graph.inputs)})
    made = []
    for place, x in enumerate(graph.inputs):
        whole = not keras.backend.is_float_dtype(x.dtype)
        content = _calibrated(_best(reader.found[place], widths[place]), seen.get(input_name(x)))
        if content is NOISE and whole:
            content = Content(WHOLE, 0.0, 1.0 if x.dtype == "bool" else vocabulary(model) - 1.0, True)
        points = tuple(dict.fromkeys(reader.points[place]))[:MOST_POINTS]
        if content is NOISE and points:
            content = dataclasses.replace(NOISE, about="values on both sides of the thresholds that the model has")
        padded = reader.masks[place] if reader.masks[place] is not None else content.padded
        made.append(dataclasses.replace(content, points=points, padded=padded, whole=whole or content.whole))
    return made


def _best(found: dict[str, list[tuple[Line, Content]]], width: int | None) -> Content:
    kind = next((kind for kind in ORDER if kind in found), None)
    if kind is None:
        return NOISE
    everywhere = [(line, content) for line, content in found[kind] if line.columns is None]
    if everywhere or width is None:
        first = (everywhere or found[kind])[0][1]
        if kind != "table":
            return first
        highs = [content.high for _, content in everywhere or found[kind]]
        return dataclasses.replace(first, high=np.minimum.reduce([np.asarray(high) for high in highs]))
    # Of some columns alone: the others are noise around nothing.
    low, high = np.zeros(width), np.zeros(width)
    known = np.zeros(width, bool)
    for line, content in found[kind]:
        fits = known[line.columns]
        low[line.columns] = np.where(fits, np.maximum(low[line.columns], content.low), content.low)
        high[line.columns] = np.where(fits, np.minimum(high[line.columns], content.high), content.high)
        known[line.columns] = True
    first = found[kind][0][1]
    low[~known], high[~known] = (0.0, 1.0)
    return dataclasses.replace(first, low=low, high=high, padded=None, whole=known)


def seen_inputs(model: keras.Model) -> dict[str, Any]:
    """Return what calibration has seen of each input, by name: least and largest value of each channel, and whether
    it holds whole numbers alone. It is kept by a layer that compression has inserted."""
    found: dict[str, Any] = {}
    for layer in flatten_layers(model):
        if isinstance(layer, Inserted):
            found.update(getattr(layer, "seen", None) or {})
    return found


def _calibrated(content: Content, seen: Any) -> Content:
    """Return what an input holds, calibration having seen it; a table is known better from itself."""
    if seen is None or (content.low is not None and content.whole is True and not content.about.startswith("pixels")):
        return content
    low, high, whole = (np.asarray(part) for part in seen)
    known = content.whole
    if np.ndim(known) and known.shape == low.shape:
        about = f"{content.about}, and of other columns the calibrated range"
        low, high = np.where(known, content.low, low), np.where(known, content.high, high)
        return dataclasses.replace(content, about=about, low=low, high=high, whole=known | whole)
    return Content(CALIBRATED, low, high, whole.astype(bool))


def _follow(reader: _Reader, operation: Any, call: Any, x: Any, line: Line) -> Iterator[Line | None]:
    """Note what an operation tells of a line, and yield the lines of its outputs."""
    kind = name_of(operation)
    if isinstance(operation, Inserted):
        yield line
    elif kind in ("normalization", "batchnormalization"):
        _normalized(reader, operation, x, line)
    elif passes(kind, call):
        if kind == "masking":
            for source in line.sources:
                reader.masks[source] = float(np.ravel(line.back(np.asarray(operation.mask_value, float)))[0])
        yield from moved(kind, call, x, line)
    elif kind in ("getitem", "split"):
        yield from columns_of(operation, call, x, line)
    elif (mapped := affine(operation, kind, call, x)) is not None:
        scale, offset = mapped
        try:
            yield dataclasses.replace(
                line,
                scale=line.scale * scale,
                offset=line.offset * scale + offset,
                by=line.by or getattr(operation, "name", kind),
            )
        except ValueError:  # constants along other axes
            return
    else:
        _ends(reader, operation, call, x, line)


def _normalized(reader: _Reader, operation: Any, x: Any, line: Line) -> None:
    batch = name_of(operation) == "batchnormalization"
    names = ("moving_mean", "moving_variance") if batch else ("mean", "variance")
    if getattr(operation, "invert", False) or any(getattr(operation, name, None) is None for name in names):
        return
    mean, variance = (np.asarray(gathered(getattr(operation, name)), float) for name in names)
    rank = len(x.shape)
    axis = operation.axis
    axes = [axis] if isinstance(axis, int) else list(axis or ())
    if [at % rank for at in axes] not in ([], [rank - 1]):
        return
    mean, variance = (value.reshape(-1) if value.size > 1 else value.reshape(()) for value in (mean, variance))
    learned = not (batch and np.all(mean == 0) and np.all(variance == 1))
    if learned and not line.by and np.all(variance >= 0) and line.columns is None:
        deviation = np.abs(np.sqrt(variance) / line.scale)
        about = f"drawn from the mean and deviation of each channel that {operation.name!r} knows"
        reader.note("normalization", line, Content(about, line.back(mean), deviation, normal=True))
    elif line.by:
        _pixels(reader, line)


def _ends(reader: _Reader, operation: Any, call: Any, x: Any, line: Line) -> None:
    """Note what an operation that isn't followed tells of what it reads."""
    kind = name_of(operation)
    size = _table_size(operation, kind, call, x)
    if size is not None:
        low, high = np.ceil(line.back(0.0)), np.floor(line.back(float(size - 1)))
        padded = 0.0 if kind == "embedding" and np.all(low <= 0) else None
        about = f"whole numbers of the table of {operation.name!r}, both ends included"
        reader.note("table", line, Content(about, np.maximum(low, 0.0), np.maximum(high, 0.0), True, padded=padded))
    elif kind == "integerlookup":
        known = [int(value) for value in operation.get_vocabulary(include_special_tokens=False)] or [0]
        about = f"whole numbers that {operation.name!r} knows, and others"
        reader.note("table", line, Content(about, float(min(known) - 1), float(max(known) + 1), True))
    elif kind == "discretization":
        reader.point(line, operation.bin_boundaries)
    elif kind in ("greater", "greaterequal", "less", "lessequal", "equal", "notequal", "maximum", "minimum"):
        others = [value for value in call.arguments if value is not x]
        if others and isinstance(others[0], int | float | np.ndarray | np.number):
            reader.point(line, others[0])
    elif kind == "relu" and (limits := _limits(operation)):
        reader.point(line, limits)
    elif kind in ("clip", "digitize", "threshold", "searchsorted"):
        values = [getattr(operation, name, None) for name in ("x_min", "x_max", "threshold")]
        values += [value for value in call.arguments[1:] if isinstance(value, int | float | np.ndarray | list | tuple)]
        points = [float(v) for value in values if value is not None for v in np.ravel(np.asarray(value, float))]
        if points:
            reader.point(line, points)
    elif line.by:
        _pixels(reader, line)


def _limits(relu: Any) -> list[float]:
    """Return where a ReLU begins and ends; nothing if it begins at 0 and has no end."""
    least, most = getattr(relu, "threshold", 0.0), getattr(relu, "max_value", None)
    if most is None:
        return [least] if least else []
    return [least, most]


def _table_size(operation: Any, kind: str, call: Any, x: Any) -> int | None:
    if kind == "take" and len(call.arguments) > 1 and call.arguments[1] is x:
        table = call.arguments[0]
        return None if operation.axis is None else table.shape[operation.axis]
    if kind in ("onehot", "multihot"):
        return int(operation.num_classes)
    if kind == "categoryencoding":
        return int(operation.num_tokens)
    if isinstance(operation, keras.layers.Layer) and not isinstance(operation, Parameter):
        sizes = tables(operation)
        if not sizes and "int" in keras.backend.standardize_dtype(x.dtype) and not is_of_keras(operation):
            sizes = [weight.shape[0] for weight in operation.weights if len(weight.shape) == 2]
        return min(sizes, default=None)
    return None


def _pixels(reader: _Reader, line: Line) -> None:
    """Take what arithmetic maps to 0..1, or with an offset to -1..1, as the range of the input."""
    if line.columns is not None:
        return
    scale, offset = np.asarray(line.scale, float), np.asarray(line.offset, float)
    if (np.all(scale == 1) and np.all(offset == 0)) or np.any(scale == 0):
        return
    centred = offset != 0
    far = np.where(centred, 2 * line.back(0.0), 1 / scale)
    top = float(np.max(np.abs(far)))
    if np.all(far > 0) and 200 <= top <= 260:  # what is subtracted from pixels is about their mean
        far = np.asarray(255.0)
    low, high = np.minimum(far, 0.0), np.maximum(far, 0.0)
    whole = bool(np.all(far == np.rint(far)) and np.all(np.abs(far) >= 8))
    span = f"{np.min(low):g} to {np.max(high):g}"
    about = f"pixels from {span}" if whole else f"drawn from {span}"
    reader.note("pixels", line, Content(f"{about}, as {line.by!r} takes them", low, high, whole))


def flat_contents(model: keras.Model, structure: Any) -> list[Content]:
    """Return `contents` in the order in which a structure of a model's inputs is flattened."""
    graph = graph_of(model)
    by_tensor = dict(zip(map(id, graph.inputs), contents(model), strict=True))
    return [by_tensor[id(x)] for x in tree.flatten(structure)]
