"""Samples to try a model on: one place that decides their sizes and what they hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfcompress.core.keras_private import run_through_graph
from tfcompress.core.sharding import gathered
from tfcompress.graph.inputs.declared import Shape, given_shapes
from tfcompress.graph.inputs.sizes import (
    NoSizeFits,
    Sizes,
    batch_of,
    find_sizes,
    hints_of,
    how_many,
    is_free,
    with_batch,
)
from tfcompress.graph.inputs.symbolic import graph_of, input_name
from tfcompress.graph.sample_inputs.contents import flat_contents, vocabulary
from tfcompress.graph.sample_inputs.input_paths import NOISE, Content

FAR = (1.0, 1.0, 3.0, 10.0)
"""What noise is multiplied by, sample after sample, where it is to reach unknown thresholds."""

PADDED = 0.5
"""Share of the samples of sequences that end in padding."""


def random_inputs(model: keras.Model, samples: int | None = None, seed: int = 0, far: bool = False) -> Any:
    """Return random samples in the structure of a functional model's inputs.

    Values are what `contents` knows of each input, noise otherwise. Free sizes are those that `inputs_given` says,
    or the first with which the model runs; if it runs with none, common ones.

    Args:
        model: A functional or sequential model.
        samples: How many, where the batch is free; `None`: 4 to 16, the more the smaller they are.
        seed: Of the generator.
        far: Whether noise is to reach unknown thresholds, and so is larger in some samples.

    Example:

    >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.Cropping1D(50), keras.layers.Dense(1)])
    >>> random_inputs(model, 3).shape
    (3, 128, 2)
    """
    structure = graph_of(model).input
    tensors = tree.flatten(structure)
    known = flat_contents(model, structure)
    words = vocabulary(model)
    dtypes = [keras.backend.standardize_dtype(x.dtype) for x in tensors]

    def make(shapes: Sequence[Sizes]) -> Any:
        generator = np.random.default_rng(seed)
        made = [draw(*each, generator, words, far=far) for each in zip(shapes, dtypes, known, strict=True)]
        return tree.pack_sequence_as(structure, made)

    def run(shapes: Sequence[Sizes]) -> list[Any]:
        given = make(shapes)
        with keras.StatelessScope():
            outputs = tree.flatten(model(given, training=False))
            nothing = _makes_nothing(graph_of(model), given)
        return [gathered(ops.full_like(x, np.nan, "float32") if nothing else ops.cast(x, "float32")) for x in outputs]

    shapes = given_shapes([input_name(x) for x in tensors], [tuple(x.shape) for x in tensors])
    return make(sample_shapes(shapes, run, samples, hints_of(model, shapes) if is_free(shapes) else ()))


def _makes_nothing(graph: Any, given: Any) -> bool:
    """Return whether a tensor within a graph has no entries: what follows from it, such as a mean, is any number.

    A convolution is asked for its shape: that of TensorFlow 2.21 on CPUs gives, where nothing fits, what was in memory.
    """
    sizes: list[int] = []

    def watched(operation: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            made = operation(*args, **kwargs)
            shapes = [x.shape for x in tree.flatten(made) if hasattr(x, "shape")]
            if hasattr(operation, "kernel_size") and args:
                try:
                    shapes.append(operation.compute_output_shape(tuple(args[0].shape)))
                except ValueError:  # Keras' word for a size below 1
                    sizes.append(0)
            sizes.extend(map(math.prod, shapes))
            return made

        return call

    flat = [ops.cast(x, own.dtype) for x, own in zip(tree.flatten(given), graph.inputs, strict=True)]
    run_through_graph(graph, flat, operation_fn=watched)
    return min(sizes, default=1) <= 0


def sample_shapes(
    shapes: Sequence[Shape], run: Any, samples: int | None = None, hints: Iterable[int] = (), strict: bool = False
) -> list[Sizes]:
    """Return the shapes of samples of a model's inputs.

    Args:
        shapes: As the model declares them.
        run: As `find_sizes` takes it; it is called only where sizes are free.
        samples: How many, where the batch is free; `None`: see `how_many`.
        hints: As for `find_sizes`.
        strict: Whether to raise `NoSizeFits` if the model runs with no size, rather than to return common ones.
    """
    if not is_free(shapes):
        count = batch_of(shapes) or samples or how_many(shapes)
        return [tuple(size or 1 for size in shape) for shape in with_batch(shapes, count)]
    few = with_batch(shapes, batch_of(shapes) or min(samples or 2, 2))
    try:
        found: Sequence[Shape] = find_sizes(few, run, hints)
    except NoSizeFits as error:
        if strict:
            raise
        found = error.shapes
    count = batch_of(shapes) or samples or how_many([(None, *shape[1:]) for shape in found])
    freed = [(own[0], *sizes[1:]) if own else () for own, sizes in zip(shapes, found, strict=True)]
    return [tuple(size or 1 for size in shape) for shape in with_batch(freed, count)]


def draw(
    shape: Sizes,
    dtype: str,
    content: Content = NOISE,
    generator: np.random.Generator | None = None,
    words: int = 2,
    *,
    far: bool = False,
) -> np.ndarray:
    """Return random values of one input.

    Args:
        shape: With the batch.
        dtype: Its dtype.
        content: What is known of it.
        generator: Of random numbers; `None`: a new one, always the same.
        words: One more than the largest whole number where nothing is known of it.
        far: As for `random_inputs`.

    Example:

    >>> made = draw((16, 3), "int32", Content("ids", 0, 9, True))
    >>> int(made.min()), int(made.max())
    (0, 9)
    """
    generator = np.random.default_rng(0) if generator is None else generator
    whole = "int" in dtype or _of_channels(content.whole, shape)
    if dtype == "bool":
        return generator.integers(0, 2, shape).astype(bool)
    if content.low is None and not content.points and np.all(whole):
        values = _within(shape, 0.0, _largest(dtype, words - 1), True, generator)
    elif content.low is None:
        values = _noise(shape, content.points, generator, far)
        values = np.clip(np.rint(values), 0, None) if np.all(whole) else values
    elif content.normal:
        mean, deviation = (_of_channels(part, shape) for part in (content.low, content.high))
        values = mean + deviation * np.clip(generator.standard_normal(shape), -3, 3)
        values = np.where(whole, np.rint(values), values)
    else:
        values = _within(shape, content.low, np.minimum(content.high, _largest(dtype, np.inf)), whole, generator)
    if content.points and content.low is not None and not np.any(whole):
        values = np.where(generator.random(shape) < 0.25, _noise(shape, content.points, generator, far), values)
    if content.padded is not None and len(shape) > 1:
        _pad(values, content.padded, generator)
    if not keras.backend.is_float_dtype(dtype) and dtype != "string":
        limits = np.iinfo(dtype)
        return np.clip(values, limits.min, limits.max).astype(dtype)
    return np.asarray(ops.convert_to_numpy(ops.cast(values.astype("float32"), dtype)))


def _within(shape: Sizes, low: Any, high: Any, whole: Any, generator: np.random.Generator) -> np.ndarray:
    """Return values of a range, uniform, with both ends of each channel among them."""
    low, high = (np.asarray(_of_channels(end, shape), float) for end in (low, high))
    share = generator.random(shape)
    integers = np.clip(low + np.floor(share * (high - low + 1)), low, high)
    values = np.where(whole, integers, low + share * (high - low))
    if values.ndim:
        flat = values.reshape(-1, shape[-1]) if np.ndim(low) and low.size > 1 else values.reshape(-1, 1)
        lows, highs = (np.broadcast_to(end, (flat.shape[1],)) for end in (low.ravel(), high.ravel()))
        for column in range(flat.shape[1]) if len(flat) > 1 else ():
            first, last = generator.choice(len(flat), 2, replace=False)
            flat[first, column], flat[last, column] = lows[column], highs[column]
        values = flat.reshape(shape)
    return values


def _of_channels(value: Any, shape: Sizes) -> np.ndarray:
    """Return a value, or one for each channel; of those that aren't as many, the largest."""
    array = np.asarray(value)
    return array if array.ndim == 0 or (shape and array.shape == (shape[-1],)) else np.max(array)


def _noise(shape: Sizes, points: Sequence[float], generator: np.random.Generator, far: bool) -> np.ndarray:
    """Return normal noise, around each of the points where there are any."""
    values = generator.standard_normal(shape)
    if points:
        gaps = np.diff(np.sort(points))
        gap = float(np.min(gaps[gaps > 0], initial=math.inf))
        gap = gap if math.isfinite(gap) else max(1.0, abs(points[0]))
        chosen = generator.choice(np.asarray(points), shape)
        near = generator.choice([0.0, -1e-3, 1e-3, -0.4, 0.4, -1.0, 1.0], shape)
        return chosen + near * gap
    if far and values.ndim > 1:
        factors = np.resize(FAR, shape[0]).reshape(-1, *[1] * (values.ndim - 1))
        values = values * factors
    return values


def _pad(values: np.ndarray, value: float, generator: np.random.Generator) -> None:
    """Fill up the ends of some sequences, so that they are of different lengths."""
    length = values.shape[1]
    for sample in range(1, len(values)) if length > 1 else ():
        if generator.random() < PADDED:
            values[sample, int(generator.integers(1, length)) :] = value


def _largest(dtype: str, wanted: float) -> float:
    return min(float(np.iinfo(dtype).max), wanted) if "int" in dtype else min(2.0**24, wanted)


def in_words(known: Sequence[Content], names: Sequence[str]) -> str:
    """Say what samples hold: once if that is the same of all inputs.

    >>> in_words([NOISE, NOISE], ["a", "b"])
    'standard normal noise: nothing is known of the inputs'
    """
    if len({content.about for content in known}) <= 1:
        return known[0].about if known else NOISE.about
    return "; ".join(f"{name}: {content.about}" for name, content in zip(names, known, strict=True))
