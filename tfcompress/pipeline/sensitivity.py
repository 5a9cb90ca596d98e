"""How much each layer matters: the metric with that layer alone pruned, or quantized."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import numbers
import os
import pathlib
from collections.abc import Sequence, Set
from typing import Any

import keras
import numpy as np

from tfcompress.core.arguments import check_flag, check_several, short
from tfcompress.core.atomic_files import check_target
from tfcompress.core.old_calls import accepts_old_calls
from tfcompress.core.out_of_memory import says_memory
from tfcompress.core.progress import progress as progress_bar
from tfcompress.core.transform import read
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import inner_weights
from tfcompress.graph import LayerChoice, kernel_positions, rebuild
from tfcompress.graph.keras_quantized import check_floats
from tfcompress.graph.selectors import Layers
from tfcompress.layers.kernel_layouts import channel_axes
from tfcompress.pipeline.repeated_metric import METRICS, Measure, Metric
from tfcompress.pipeline.sensitivity_curves import Sensitivity, SensitivityRow
from tfcompress.pruning.mask import Mask
from tfcompress.pruning.schedules.base import check_sparsity
from tfcompress.pruning.top_k import keep_count, largest
from tfcompress.quantization.numerics.arrays import dequantize, uniform_quantize
from tfcompress.quantization.numerics.finite import check_bits

SPARSITIES = (0.3, 0.5, 0.7, 0.9)


def _are_shares(value: Any) -> bool:
    """Return whether a value holds numbers, as no choice of layers does."""
    return isinstance(value, Sequence | Set | np.ndarray) and any(isinstance(x, numbers.Real) for x in value)


@dataclasses.dataclass(frozen=True)
class _Kernel:
    """One weight that a scan changes.

    Attributes:
        weight: The variable.
        value: What it holds, under the masks that it has.
        axes: Its channels, each with a scale of its own; None: one scale.
    """

    weight: keras.Variable
    value: np.ndarray
    axes: tuple[int, ...] | None


@accepts_old_calls(places=((2, "sparsities", _are_shares),))
@says_memory
def sensitivity(
    model: keras.Model,
    data: Any,
    layers: Layers = None,
    *,
    sparsities: Sequence[float] | None = None,
    bits: Sequence[int] | None = None,
    metric: Metric = "accuracy",
    resume: str | os.PathLike[str] | None = None,
    progress: bool = True,
    batch_size: int = 32,
) -> Sensitivity:
    """Measure how much each layer matters: prune or quantize one at a time, all others as they are (Li et al., 2017).

    Nothing is trained. Layers are pruned by magnitude, as `tfc.prune_once` does; their weights are quantized
    symmetrically, a scale per output channel (of embeddings: one scale), as the int8 recipes do.

    Args:
        model: A built Keras model of any kind; it is not changed.
        data: `(x, y)`, as `tfc.evaluate` takes them; or what yields batches `(x, y)`: a list, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a function that returns an iterator, or a generator, whose batches are kept.
        layers: Which layers, as in `tfc.prune`; `None`: all with a kernel.
        sparsities: Shares of zeros, in [0, 1); `None`: 0.3, 0.5, 0.7 and 0.9, unless `bits` is given.
        bits: Widths of weights, 2 to 16, to be tried instead of sparsities.
        metric: "accuracy", "macro_f1", "roc_auc", "r2", "mse" or "mae" of `tfc.evaluate`; or a function from
            (y, outputs) to a number of which more is better.
        resume: A `.json` file to which the result is written after each point. If it is there, and of the same model
            and settings, only what it lacks is measured.
        progress: Whether a bar shows how far it is, on a terminal.
        batch_size: Samples at once.

    Returns:
        A `Sensitivity`: rows, `table()`, `plot()`, `to_json(path)`; `tfc.allocation.from_sensitivity` makes sparsities
        of it.

    Raises:
        TypeError: If `model` or `data` is of a wrong type.
        ValueError: If an argument is out of its range, the data doesn't fit, or `resume` is of another model or
            has other settings.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> keras.utils.set_random_seed(0)
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(3, name="b")])
    >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    >>> result = tfc.sensitivity(model, (x, model.predict(x, verbose=0).argmax(1)), sparsities=(0.5, 0.9))
    >>> result.baseline, [(row.layer, row.level) for row in result.rows]
    (1.0, [('a', 0.5), ('a', 0.9), ('b', 0.5), ('b', 0.9)])
    """
    check_flag("progress", progress)
    kind, levels = _levels(sparsities, bits)
    target = None if resume is None else check_target(resume, ".json", overwrite=True)
    check_floats(model, "Measure")
    copy = rebuild(model)
    kernels = _kernels(copy, layers)
    measure = Measure(copy, data, metric, batch_size)
    result = Sensitivity(
        kind=kind,
        metric=metric if isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__),
        higher_is_better=METRICS.get(metric, True) if isinstance(metric, str) else True,
        baseline=math.nan,
        samples=0,
        sizes=_sizes(kernels),
        levels=levels,
        rows=(),
        fingerprint=_fingerprint(copy),
    )
    points = [(layer, level) for layer in kernels for level in levels]
    earlier = Sensitivity.from_json(target) if target is not None and target.exists() else None
    if earlier is not None and target is not None:
        _check_same(target, earlier, result)
    done = {} if earlier is None else {(row.layer, row.level): row.value for row in earlier.rows}
    bar = progress_bar(1 + len(points) - len(done)) if progress else contextlib.nullcontext(lambda _: None)
    with bar as show:
        show("as given")
        result = dataclasses.replace(result, baseline=measure(), samples=measure.samples)
        if earlier is not None and target is not None:
            _check_same_data(target, earlier, result)
        for point in points:
            if point not in done:
                layer, level = point
                show(f"{layer}: {result.label(level)}")
                done[point] = _measured(kernels[layer], kind, level, measure)
            rows = tuple(SensitivityRow(*at, done[at]) for at in points if at in done)
            if len(rows) > len(result.rows):
                result = dataclasses.replace(result, rows=rows)
                if target is not None:
                    result.to_json(target, overwrite=True)
    return result


def scanned_layers(model: keras.Model, layers: Layers = None) -> dict[str, int]:
    """Return the layers that `sensitivity` measures, each with the number of its kernels' weights."""
    return _sizes(_kernels(rebuild(model), layers))


def _sizes(kernels: dict[str, list[_Kernel]]) -> dict[str, int]:
    return {layer: sum(kernel.value.size for kernel in found) for layer, found in kernels.items()}


def _measured(kernels: Sequence[_Kernel], kind: str, level: float, measure: Measure) -> float:
    """Return the metric with the kernels of one layer changed, and put them back."""
    change = _pruned if kind == "sparsity" else _quantized
    try:
        for kernel in kernels:
            kernel.weight.assign(change(kernel, level))
        return measure()
    finally:
        for kernel in kernels:
            kernel.weight.assign(kernel.value)


def _pruned(kernel: _Kernel, sparsity: float) -> np.ndarray:
    (kept,) = largest([np.abs(kernel.value)], keep_count(kernel.value.size, sparsity))
    return np.where(np.asarray(keras.ops.convert_to_numpy(kept)), kernel.value, 0)


def _quantized(kernel: _Kernel, bits: float) -> np.ndarray:
    if not np.any(kernel.value):
        return kernel.value
    # The narrow grid is the one that weights have in the files.
    how: dict[str, Any] = {"symmetric": True, "narrow": True, "axis": kernel.axes}
    return dequantize(*uniform_quantize(kernel.value, int(bits), **how), axis=kernel.axes)


def _levels(sparsities: Sequence[float] | None, bits: Sequence[int] | None) -> tuple[str, tuple[float, ...]]:
    """Return what is varied, and the levels, ascending, each once."""
    name = "sparsities" if bits is None else "bits"
    given: Any = bits if bits is not None else SPARSITIES if sparsities is None else sparsities
    if bits is not None and sparsities is not None:
        raise ValueError(f"Expected sparsities or bits. Received: both, {short(sparsities)} and {short(bits)}.")
    check_several(name, given, "[0.5, 0.9]" if bits is None else "[4, 8]")
    if bits is None:
        return "sparsity", tuple(sorted({check_sparsity("sparsities", value) for value in given}))
    for value in given:
        check_bits(value)
    return "bits", tuple(sorted({int(value) for value in given}))


def _kernels(model: keras.Model, layers: Layers) -> dict[str, list[_Kernel]]:
    """Return the kernels of the chosen layers of a flat model, by layer."""
    choice = LayerChoice(layers)
    found = {}
    for layer in model.layers:
        if not choice.includes(layer):
            continue
        positions = kernel_positions(layer)
        if not positions and choice.names_it(layer):
            raise ValueError(
                f"Expected layers with a kernel. Received: {layer.name!r} of class {type(layer).__name__}, which has "
                "nothing to prune. Leave it out of `layers`."
            )
        if positions:
            found[layer.name] = [_kernel(layer, position) for position in positions]
    choice.check()
    if not found:
        raise ValueError(f"Expected layers with a kernel. Received: {model.name!r}, layers={layers!r}: none has one.")
    return found


def _kernel(layer: Any, position: int) -> _Kernel:
    weight = inner_weights(layer)[position]
    value = read(weight)
    if isinstance(layer, CompressedLayer):  # on JAX a weight isn't zero where its mask is
        for mask in (transform for transform in layer.chain(position) if isinstance(transform, Mask)):
            value = np.asarray(keras.ops.convert_to_numpy(mask.apply(value)))
    return _Kernel(weight, value.copy(), None if weight.name == "embeddings" else channel_axes(layer, position))


def _fingerprint(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for weight in model.weights:
        value = read(weight)
        digest.update(f"{weight.name} {value.shape} {value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _check_same(path: pathlib.Path, earlier: Sensitivity, now: Sensitivity) -> None:
    """Raise ValueError unless a file is of the same model and settings."""
    names = ("fingerprint", "kind", "metric", "sizes", "levels")
    other = [name for name in names if getattr(earlier, name) != getattr(now, name)]
    if other:
        words = {"fingerprint": "the model's weights", "sizes": "the layers", "kind": "sparsities or bits"}
        raise ValueError(
            f"Expected `resume` to be a scan of this model with these settings. Received: {path}, which differs in "
            f"{', '.join(words.get(name, name) for name in other)}. Name another file, or delete it to begin anew."
        )


def _check_same_data(path: pathlib.Path, earlier: Sensitivity, now: Sensitivity) -> None:
    near = math.isclose(earlier.baseline, now.baseline, rel_tol=1e-3, abs_tol=1e-6)
    if earlier.samples != now.samples or not (near or math.isnan(now.baseline)):
        raise ValueError(
            f"Expected `resume` to be a scan on this data. Received: {path}, where {earlier.metric} was "
            f"{earlier.baseline:.6g} on {earlier.samples} samples; now {now.baseline:.6g} on {now.samples}. Name "
            "another file, or delete it to begin anew."
        )
