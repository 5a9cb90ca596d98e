"""Statistics of gradients from data, before a model is pruned: streamed through a copy of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.error_messages import told
from tfcompress.core.keras_private import keras_mask, variable_index
from tfcompress.core.passthrough import innermost
from tfcompress.core.replicas import not_distributed
from tfcompress.core.transform import read
from tfcompress.core.wrappers import inner_weights
from tfcompress.data.array_checks import check_finite, one_hot_classes
from tfcompress.data.model_batches import check_batch_size
from tfcompress.data.named_inputs import check_names
from tfcompress.data.nested_inputs import arrays, unnested
from tfcompress.data.reading import parts
from tfcompress.graph import kernel_positions, rebuild
from tfcompress.graph.float32_layers import widened
from tfcompress.graph.inputs.symbolic import input_name
from tfcompress.graph.loss_scaling import policy_of_layers
from tfcompress.layers.names import base_name_of
from tfcompress.pruning.prune_config import PruneConfig
from tfcompress.pruning.running_statistics import GATHERED
from tfcompress.quantization.ptq.batch_norm_reestimation import reestimate_batch_norm

Gathered = dict[tuple[str, int], dict[str, np.ndarray]]
"""By (layer's name, weight's position): {name of a statistic: its value}."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What statistics are gathered from before a model is pruned.

    Attributes:
        data: `(x, y)` arrays or an iterable of batches, or `None`.
        loss: As for `compile`, or `None`.
        batch_size: Samples in a batch of arrays.
        loss_weights: As for `compile`, or `None`.
    """

    data: Any
    loss: Any
    batch_size: int = 32
    loss_weights: Any = None


def check_evidence(config: PruneConfig, evidence: Evidence, at_once: bool = False) -> None:
    """Raise ValueError if a criterion lacks what it looks at, or is given what it doesn't.

    Args:
        config: What is pruned and when.
        evidence: For the statistics.
        at_once: Whether the model is pruned without any training.
    """
    data, loss = evidence.data, evidence.loss
    check_batch_size(evidence.batch_size)
    if data is not None and not isinstance(data, Iterable) and not hasattr(data, "__getitem__") and not callable(data):
        raise ValueError(
            f"Expected `data` to be arrays, or an iterable of batches. Received: data of type {type(data).__name__}."
        )
    needed = [name for name in config.needs if name != "scale"]
    named = f"criterion={config.criterion!r}" if isinstance(config.criterion, str) else "this criterion"
    if data is not None and not needed:
        raise ValueError(
            f"Expected data=None, since {named} looks at weights alone. Received: data of type {type(data).__name__}."
        )
    if "activation_frequency" in needed and data is None:
        raise ValueError(
            f"Expected `data` with {named}: inputs on which units fire or don't. Received: data=None. Give an array of "
            "samples, or an iterable of batches."
        )
    if not any(name in GATHERED for name in needed):
        return
    if data is not None and loss is None:
        raise ValueError(
            f"Expected a loss with {named}, whose gradients are gathered from `data`. Received: loss=None and a model "
            "that isn't compiled. Give `loss`, such as keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
        )
    if data is not None and config.schedule.regrows:
        raise ValueError("Expected data=None with a schedule that regrows: it follows the gradients of training.")
    early = not config.schedule.regrows and bool(ops.convert_to_numpy(config.schedule.updates(0)))
    if data is None and (at_once or early):
        raise ValueError(
            f"Expected `data` and `loss` with {named} where masks are computed before any gradient is known. Received: "
            + ("no data." if at_once else f"no data, and {config.schedule!r}, which begins at step 0.")
            + " Give both"
            + (
                "."
                if at_once
                else ", or a schedule with a later begin_step, so that gradients are gathered in training."
            )
        )


class _Sum(keras.optimizers.Optimizer):
    """Adds up gradients, each `learning_rate` times, and leaves the variables as they are."""

    def __init__(self) -> None:
        super().__init__(learning_rate=1.0, name="sum")
        self.sums: list[keras.Variable] = []

    def build(self, variables: list[keras.Variable]) -> None:
        """Create a sum for each variable, 0 at first."""
        if not self.built:
            super().build(variables)
            self.sums = [self.add_variable_from_reference(variable, name="sum") for variable in variables]

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Add a gradient to the sum of a variable."""
        total = self.sums[variable_index(self, variable)]
        self.assign_add(total, ops.cast(gradient, total.dtype) * ops.cast(learning_rate, total.dtype))


@not_distributed()  # the last batch may have too few samples for all devices
def gather_gradients(model: keras.Model, names: Sequence[str], evidence: Evidence) -> Gathered:
    """Return the statistics that come from the gradient of the mean loss on all of the data.

    So they are the same, up to the rounding of sums, however the data is cut into batches and ordered. The model runs
    in inference mode: what draws at random or looks at the rest of a batch would not give one result. Where batch
    normalization has seen no data yet, it takes its statistics from all of this one first.

    Args:
        model: A built model; a copy of it runs, in float32, and is not trained.
        names: Of `GATHERED`.
        evidence: Its data are `(x, y)`, or an iterable of batches that are such pairs.

    Raises:
        ValueError: If there is no batch, or a statistic becomes NaN or infinite; the message names the layer.
    """
    # In float16 the loss is scaled, at first by too much: steps that overflow are there to be skipped.
    half = policy_of_layers(model) is not None
    copy = rebuild(widened(rebuild(model)) if half else model)
    copy.trainable = True
    batches: Iterable[Any] = _batches(evidence)
    if _has_fresh_norms(copy):
        batches = list(batches)
        reestimate_batch_norm(copy, [batch[0] for batch in batches])
    _pin_inference(copy)
    sums = _Sum()
    sums.build(copy.trainable_variables)
    copy.compile(sums, evidence.loss, loss_weights=evidence.loss_weights, auto_scale_loss=False)
    losses = keras.tree.flatten(evidence.loss)
    added = any(getattr(loss, "reduction", "") in ("sum", "none", None) for loss in losses)
    seen = 0.0
    for batch in batches:
        count = 1.0 if added else _terms(copy, losses, batch)
        sums.learning_rate = count
        if isinstance(batch[0], Mapping):
            names = [input_name(x) for x in copy.inputs]
            check_names(unnested(batch[0], names), names)
        try:
            copy.train_on_batch(*batch)
        except Exception as error:
            raise ValueError(
                f"Expected data and a loss that go with the model. Received: loss={evidence.loss!r}, on which a "
                f"batch failed: {told(error)}. Check the shapes and the range of the targets."
            ) from error
        seen += count
    if not seen:
        raise ValueError("Expected data with at least one batch. Received: an empty iterable.")
    by_variable = {id(variable): total for variable, total in zip(copy.trainable_variables, sums.sums, strict=True)}
    gathered: Gathered = {}
    for layer in copy.layers:
        for position in kernel_positions(layer):
            variable = inner_weights(layer)[position]
            if id(variable) in by_variable:
                slope = read(by_variable[id(variable)]) / (1.0 if added else seen)
                value = read(variable).astype("float32")
                found = {name: np.asarray(GATHERED[name](value, slope), "float32") for name in names}
                gathered[layer.name, position] = found
    broken = [key[0] for key, found in gathered.items() if not all(np.isfinite(x).all() for x in found.values())]
    if broken:
        raise ValueError(
            f"Expected finite gradients. Received: NaN or infinite ones in layer {broken[0]!r}. Look at the data and "
            "the loss (tfcompress gives them to the model as they are)."
        )
    return gathered


def _terms(model: keras.Model, losses: Sequence[Any], batch: tuple[Any, ...]) -> float:
    """Return of how many terms the loss of a batch is the mean: its samples, or of these what a mask leaves.

    Of several outputs the terms are not the same; there each sample is one.
    """
    x, y, *rest = batch
    samples = float(len(keras.tree.flatten(x)[0]))
    if len(losses) != 1 or len(model.outputs) != 1:
        return samples
    weights = None
    if keras_mask(model.outputs[0]) is not None:
        mask = keras_mask(keras.tree.flatten(model(x, training=False))[0])
        weights = None if mask is None else ops.convert_to_numpy(mask).astype("float64")
    ignored = getattr(losses[0], "ignore_class", None)
    if ignored is not None:
        classes = np.asarray(y)
        classes = classes[..., 0] if classes.ndim > 1 and classes.shape[-1] == 1 else classes
        kept = (classes != ignored).astype("float64")
        weights = kept if weights is None else weights * kept
    if rest and rest[0] is not None and getattr(losses[0], "reduction", "") == "mean_with_sample_weight":
        given = np.asarray(rest[0], "float64")
        weights = (
            given if weights is None else weights * given.reshape(given.shape + (1,) * (weights.ndim - given.ndim))
        )
    return samples if weights is None else float(weights.sum())


def _batches(evidence: Evidence) -> Iterator[tuple[Any, ...]]:
    for batch in _pairs(evidence.data, evidence.batch_size):
        if not isinstance(batch, list | tuple) or len(batch) not in (2, 3):
            raise ValueError(
                f"Expected batches of (inputs, targets). Received: {type(batch).__name__}. Give data=(x, y) or an "
                "iterable of such pairs."
            )
        yield _checked(batch, evidence.loss)


def _has_fresh_norms(model: keras.Model) -> bool:
    """Return whether all batch normalization of a flat model still has the statistics that it begins with."""
    norms = [innermost(layer) for layer in model.layers]
    norms = [norm for norm in norms if base_name_of(norm) == "batchnormalization"]
    return bool(norms) and all(
        not read(norm.moving_mean).any() and (read(norm.moving_variance) == 1).all() for norm in norms
    )


def _pin_inference(model: keras.Model) -> None:
    """Let a model run in inference mode, also in a training step."""
    call = model.call

    def in_inference(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return call(inputs, training=False, mask=mask)

    model.call = in_inference


def _pairs(data: Any, batch_size: int) -> Iterator[Any]:
    """Yield the batches of `(x, y)` arrays, or of an iterable of batches as they are."""
    if not isinstance(data, tuple):
        yield from parts(data, 0)
        return
    data = tuple(arrays(part, what) for part, what in zip(data, ("x", "y", "sample weights"), strict=False))
    flat = keras.tree.flatten(data)
    if not flat or any(array.ndim == 0 for array in flat):
        raise ValueError(
            "Expected x and y with a first dimension that counts the samples. Received: "
            + ("a single number." if flat else "no arrays.")
        )
    sizes = {len(array) for array in flat}
    if len(sizes) != 1:
        raise ValueError(
            f"Expected arrays with as many samples each. Received: {sorted(sizes)} samples. Of rows that "
            "belong together, as those of a graph, give a list of batches: [(x, y)]."
        )
    for start in range(0, sizes.pop(), batch_size):
        yield keras.tree.map_structure(lambda x, start=start: x[start : start + batch_size], data)


def _checked(batch: Sequence[Any], loss: Any) -> tuple[Any, ...]:
    """Return a batch whose numbers are finite, one-hot rows for a loss that takes classes made classes."""
    x, y, *rest = (arrays(part, what) for part, what in zip(batch, ("x", "y", "sample weights"), strict=False))
    for what, part in (("x", x), ("y", y)):
        for array in keras.tree.flatten(part):
            if array.dtype.kind != "U":
                check_finite(array, what)
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    if name in ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy") and isinstance(y, np.ndarray):
        classes = one_hot_classes(y)
        y = y if classes is None else classes
    return (x, y, *rest)
