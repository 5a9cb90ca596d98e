"""Pixels from 0 to 255 for a model that was trained on smaller numbers: seen by what it makes of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.error_messages import user_level
from tfcompress.core.keras_private import layer_calls
from tfcompress.core.transform import read
from tfcompress.core.uneven_rows import is_uneven
from tfcompress.data.array_checks import NUMBERS
from tfcompress.graph.inputs.symbolic import graph_of, has_graph, input_name
from tfcompress.graph.output_activation import last_activation
from tfcompress.graph.sample_inputs.contents import contents
from tfcompress.graph.sample_inputs.input_paths import Content

HEAD = 32
"""Samples in which pixels are looked for."""

TRIED = 8
"""Samples that the model is run on, where there are pixels of which it doesn't say that it takes them."""

BRIGHT = 100.0
"""What the largest is above: counts and categories are whole numbers as well, but seldom so large."""

FAR = 32.0
"""Deviations from the mean: pixels are 58 times as large as what ImageNet's deviation makes of them, and 127 or 255
times as large as what is usual else. A batch normalization that is trained on them is nearer after three steps."""

NOTHING = 1e-6
"""A probability of the second class beside which a model is too sure of the first, in half of the rows."""

CLEAR = 0.8
"""What the likeliest class has on the average where inputs are as those of training. A model that was trained on pixels
from 0 to 255 has next to the same for all classes, or for all samples, where they are so small."""

SCALES = ((1 / 255, 0.0), (1 / 127.5, -1.0))
"""What pixels are multiplied by before a training, and what is then added."""


def warn_of_pixels(model: keras.Model, samples: Sequence[Any]) -> None:
    """Warn of pixels from 0 to 255 that drive a model far out of what it was trained on.

    It is run on such numbers alone, and only if it doesn't say that it takes them, as by a `Rescaling` or a table.

    Args:
        model: A built model; it isn't changed.
        samples: Of each input, in their order; the first are looked at.
    """
    arrays = head(samples)
    runs = not is_uneven(arrays) and (has_graph(model) or len(arrays) == 1)
    suspects = _suspects(model, arrays) if runs else {}
    if not suspects:
        return
    try:
        found = _saturation(model, [array[:TRIED] for array in arrays], list(suspects))
    except Exception:  # what the model doesn't take, others say
        return
    if found:
        warnings.warn(
            f"Expected inputs of the size that {model.name!r} was trained on. Received: whole numbers from 0 to 255, "
            f"as pixels are, for {', '.join(suspects.values())}, with which {found}. If it was trained on pixels from "
            "0 to 1, give x / 255; if from -1 to 1, x / 127.5 - 1 (of files with images, by tfcompress "
            "--rescale=1/255 or --rescale=1/127.5,-1).",
            stacklevel=user_level(),
        )


def head(batch: Sequence[Any]) -> list[np.ndarray]:
    """Return the first samples of a batch, as arrays of their own; all of one that belongs together."""
    arrays = [np.asarray(array) for array in batch]
    return [array[:HEAD].copy() if array.ndim and not is_uneven(arrays) else array for array in arrays]


def are_pixels(array: np.ndarray) -> bool:
    """Return whether an array holds whole numbers from 0 to 255 alone, and a large one.

    >>> are_pixels(np.array([[0.0, 254.0]])), are_pixels(np.array([[0.5, 254.0]])), are_pixels(np.array([[0, 9]]))
    (True, False, False)
    """
    if array.dtype.kind not in NUMBERS or array.ndim < 2 or not array.size:
        return False
    low, high = array.min(), array.max()
    return bool(low >= 0 and BRIGHT < high <= 255 and np.array_equal(array, np.floor(array)))


def _suspects(model: keras.Model, arrays: Sequence[np.ndarray]) -> dict[int, str]:
    """Return the inputs that are given pixels, by place, but for those of which the model says that it takes them."""
    if not any(map(are_pixels, arrays)):
        return {}
    if not has_graph(model):
        return {0: "its input"}
    graph = graph_of(model)
    known = contents(model)
    return {
        place: repr(input_name(x))
        for place, (x, array, content) in enumerate(zip(graph.inputs, arrays, known, strict=True))
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
        and are_pixels(array)
        and not _reaches(content)
    }


def _reaches(content: Content) -> bool:
    """Return whether a model itself says that an input is about as large as pixels are."""
    if content.low is None:
        return False
    low, high = (np.asarray(end, float) for end in (content.low, content.high))
    return bool(np.max(low + 3 * high if content.normal else high) > BRIGHT)


def _saturation(model: keras.Model, samples: Sequence[np.ndarray], suspects: Sequence[int]) -> str:
    """Run a model, and return what shows that some of its inputs are too large; "" if nothing does."""
    norms: list[tuple[str, float]] = []

    def around(layer: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if isinstance(layer, keras.layers.BatchNormalization) and args:
            norms.append((layer.name, _deviations(layer, args[0])))
        return call(*args, **kwargs)

    with layer_calls(around):
        outputs = _outputs(model, samples)
    if norms:
        name, largest = max(norms, key=lambda norm: norm[1])
        return f"{name!r} gets what lies more than {FAR:g} deviations off the mean of training" if largest > FAR else ""
    ends = [last_activation(tensor) for tensor in model.outputs] if has_graph(model) else [""] * len(outputs)
    sure = [place for place, end in enumerate(ends) if _is_too_sure(_probabilities(outputs[place], end))]
    for scale, offset in SCALES if sure else ():
        scaled = [array * scale + offset if place in suspects else array for place, array in enumerate(samples)]
        made = _outputs(model, scaled)
        for place in sure:
            if _tells_apart(_probabilities(made[place], ends[place])):
                return f"the {ends[place]} at its end is too sure of itself, and isn't with smaller numbers"
    return ""


def _outputs(model: keras.Model, samples: Sequence[np.ndarray]) -> list[Any]:
    given: Any = samples[0].astype("float32")
    if has_graph(model):
        graph = graph_of(model)
        cast = [keras.ops.cast(array, x.dtype) for array, x in zip(samples, graph.inputs, strict=True)]
        given = keras.tree.pack_sequence_as(graph.input, cast)
    with keras.StatelessScope():
        return list(keras.tree.flatten(model(given, training=False)))


def _deviations(norm: Any, x: Any) -> float:
    """Return how many deviations off the mean values are, of half of the channels at least; 0 without statistics."""
    mean, variance = (read(statistic) for statistic in (norm.moving_mean, norm.moving_variance))
    if not np.any(mean) and np.all(variance == 1):
        return 0.0
    axis = norm.axis[0] if isinstance(norm.axis, list | tuple) else norm.axis
    values = np.moveaxis(np.asarray(keras.ops.convert_to_numpy(x), "float32"), axis, -1).reshape(-1, len(mean))
    scaled = (values - mean) / np.sqrt(variance + norm.epsilon)
    return float(np.median(np.sqrt(np.mean(np.square(scaled), axis=0))))


def _probabilities(values: Any, activation: str) -> np.ndarray | None:
    """Return a row of probabilities for each decision that an output makes; `None` if it makes none."""
    made = np.asarray(keras.ops.convert_to_numpy(values), "float32")
    if activation == "sigmoid":
        return np.stack([1 - made.ravel(), made.ravel()], axis=1)
    if activation == "softmax" and made.ndim > 1 and made.shape[-1] > 1:
        return made.reshape(-1, made.shape[-1])
    return None


def _is_too_sure(rows: np.ndarray | None) -> bool:
    return rows is not None and bool(np.mean(np.partition(rows, -2, axis=1)[:, -2] < NOTHING) >= 0.5)


def _tells_apart(rows: np.ndarray | None) -> bool:
    """Return whether probabilities are those of a model at work: clear, and not the same class for all samples."""
    return rows is not None and bool(rows.max(axis=1).mean() >= CLEAR) and len(set(rows.argmax(axis=1).tolist())) > 1
