"""What pruning does to generalization: a training for each sparsity, evaluated on training and on test data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfcompress.core.arguments import check_several
from tfcompress.core.old_calls import accepts_old_calls
from tfcompress.data.dataset import Data, Dataset
from tfcompress.data.named_inputs import check_names
from tfcompress.data.reading import collected
from tfcompress.evaluation import evaluate
from tfcompress.evaluation.summary import summary
from tfcompress.graph import strip
from tfcompress.graph.selectors import Layers
from tfcompress.pipeline.checkpoints import Resume
from tfcompress.pipeline.losses import loss_for
from tfcompress.pipeline.pruning_configs import rising_schedule
from tfcompress.pipeline.scan import Scan
from tfcompress.pipeline.scan_plots import canvas, finish
from tfcompress.pipeline.stages import Stage, silent
from tfcompress.pipeline.training import check_fits, check_one_output, fit, steps_per_epoch
from tfcompress.pruning import PruneConfig, prune
from tfcompress.pruning.schedules.base import check_sparsity
from tfcompress.reports.tables import number, plain, significant


@dataclasses.dataclass(frozen=True)
class SweepRow:
    """One model.

    Attributes:
        target: the sparsity that it was trained to; None: the model as it was given.
        sparsity: the share of zeros in its kernels.
        train: the metric on the data that it was trained on.
        test: the metric on the data that training never saw.
    """

    target: float | None
    sparsity: float
    train: float
    test: float


@dataclasses.dataclass(frozen=True)
class Sweep(Scan):
    """What `sweep` found.

    Attributes:
        model: the model's name.
        data: the data's name.
        metric: "accuracy" or "mse".
        epochs: of each training.
        rows: the model as given, then one `SweepRow` per sparsity, ascending from 0.
    """

    model: str
    data: str
    metric: str
    epochs: int
    rows: tuple[SweepRow, ...]

    @property
    def verdict(self) -> str:
        """What the metric on test data is at each sparsity, in one sentence."""
        said = [f"{self._text(row.test)} at {100 * row.target:.4g} %" for row in self.rows if row.target is not None]
        metric = self.metric[0].upper() + self.metric[1:]
        return f"{metric} on test data: {self._text(self.rows[0].test)} as given, {', '.join(said)} zeros."

    def headings(self) -> list[str]:
        """Return the titles of the table's columns."""
        return ["trained to", "zeros", f"train {self.metric}", f"test {self.metric}", "gap"]

    def cells(self) -> list[list[str]]:
        """Return the table's cells, a list per model."""
        found = []
        for row in self.rows:
            name = "as given" if row.target is None else f"{100 * row.target:.4g} %"
            gap = row.train - row.test
            said = number(100 * gap, 2, sign=True) if self.metric == "accuracy" else f"{gap:+.3g}"
            found.append([name, f"{100 * row.sparsity:.2f} %", self._text(row.train), self._text(row.test), said])
        return found

    def caption(self) -> str:
        """Return the line below the table: how each model was trained."""
        return (
            f"{self.model} on {self.data}; each sparsity was trained for {self.epochs} epoch"
            f"{'' if self.epochs == 1 else 's'} from the model as given. "
            f"gap: train minus test{', in points' if self.metric == 'accuracy' else ''}."
        )

    def _text(self, value: float) -> str:
        return f"{100 * value:.2f} %" if self.metric == "accuracy" else significant(value)

    def draw(self) -> Any:
        """Return the picture."""
        return _draw(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return plain({"version": 1, **dataclasses.asdict(self)})

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> Sweep:
        """Return what `to_dict` gave the fields of."""
        return cls(**{**fields, "rows": tuple(SweepRow(**row) for row in fields["rows"])})


def _draw(result: Sweep) -> Any:
    """Return a picture of a sweep: the metric on training and on test data against the sparsity."""
    figure, axis = canvas()
    factor = 100.0 if result.metric == "accuracy" else 1.0
    given, *trained = result.rows
    zeros = [100 * row.sparsity for row in trained]
    for name, colour, marker in (("train", "C0", "o"), ("test", "C1", "s")):
        value = factor * getattr(given, name)
        axis.axhline(value, color=colour, linewidth=0.8, linestyle="--", label=f"{name}, as given")
        values = [factor * getattr(row, name) for row in trained]
        axis.plot(zeros, values, color=colour, marker=marker, markersize=5, label=f"{name}, pruned and fine-tuned")
    axis.set_xlabel("zeros in all kernels, %")
    axis.set_ylabel(f"{result.metric}, %" if factor == 100 else result.metric)
    axis.set_title(f"{result.model} on {result.data}", fontsize=10, parse_math=False)
    finish(axis)
    return figure


@accepts_old_calls(places=((1, "data", lambda value: isinstance(value, Dataset)),))
def sweep(
    model: keras.Model,
    sparsities: Sequence[float],
    data: Any,
    layers: Layers = None,
    *,
    test_data: Any = None,
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    scope: str = "layer",
    seed: int = 0,
    stage: Stage | None = None,
    resume: Resume | None = None,
) -> Sweep:
    """Prune a trained model to each of several sparsities while it is trained, and evaluate each on both sets of data.

    Each training starts from the model as it was given, with the same seed. A training to sparsity 0 is always among
    them: what differs from it is what pruning does, and not the further training.

    Args:
        model: A trained model with one input and one output; it is not changed.
        sparsities: Shares of zeros, in [0, 1).
        data: What to train with: `(x, y)`, or what yields batches of them, as for `tfc.evaluate`; or a
            `tfcompress.pipeline.Dataset`, which holds test data too.
        layers: Which layers are pruned, as in `tfc.prune`.
        test_data: What to evaluate on, that training never sees, in any of these forms.
        epochs: Epochs of each training.
        batch_size: Samples per training step.
        learning_rate: Adam's, at the beginning.
        scope: "layer" or "global", as in `tfc.PruneConfig`.
        seed: Of what is random in a training.
        stage: `with stage(text, epochs) as callbacks:` surrounds each training, for a progress bar; `None`: nothing
            is shown.
        resume: Where trainings are backed up, so that they go on where they were killed.

    Returns:
        A `Sweep`: rows, `table()`, `plot()`, `to_json(path)`.

    Raises:
        ValueError: If the model, the data or an argument doesn't fit.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    >>> data = np.random.default_rng(0).normal(size=(32, 8)).astype("float32"), np.arange(32) % 3
    >>> [row.sparsity for row in sweep(model, [0.5], data, test_data=data, epochs=2, batch_size=8).rows]
    [0.0, 0.0, 0.5]
    """
    check_several("sparsities", sparsities, "[0.5, 0.9]")
    levels = sorted({0.0, *(check_sparsity("sparsities", value) for value in sparsities)})
    if len(levels) < 2 or epochs < 1 or batch_size < 1:
        raise ValueError(
            "Expected a sparsity above 0, at least 1 epoch and 1 sample per batch. Received: sparsities="
            f"{list(sparsities)!r}, epochs={epochs}, batch_size={batch_size}."
        )
    data = _both(model, data, test_data)
    check_one_output(model)
    check_fits(model, data)
    loss = loss_for(model, data)
    steps = epochs * steps_per_epoch(data, batch_size)
    configs = [PruneConfig(rising_schedule(level, steps), scope=scope) for level in levels]
    metric, train, test = _evaluated(model, data)
    rows = [SweepRow(None, summary(model).sparsity, train, test)]
    how: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    for level, config in zip(levels, configs, strict=True):
        keras.utils.set_random_seed(seed)
        pruned = prune(model, config, layers=layers)
        with (stage or silent)(f"prune to {100 * level:.4g} % and fine-tune", epochs) as callbacks:
            fit(pruned, data, loss, callbacks=callbacks, backup=resume.backup(f"{level}") if resume else None, **how)
        final = strip(pruned)
        metric, train, test = _evaluated(final, data)
        rows.append(SweepRow(level, summary(final).sparsity, train, test))
    return Sweep(model.name, data.name, metric, epochs, tuple(rows))


def _both(model: keras.Model, data: Any, test_data: Any) -> Dataset:
    """Return what to train with and what to evaluate on, as arrays."""
    if isinstance(data, Dataset) != (test_data is None):
        raise ValueError(
            "Expected data to train with, and test_data to evaluate on; or a tfcompress.pipeline.Dataset, which holds "
            f"both, alone. Received: data of type {type(data).__name__}, test_data of type {type(test_data).__name__}."
        )
    if isinstance(data, Dataset):
        return data
    train, test = ((single_input(model, x), y) for x, y in map(collected, (data, test_data)))
    return Data("data", *train, *test)


def single_input(model: keras.Model, x: Any) -> Any:
    """Return the array of the one input that a model has, of a dict too."""
    if not isinstance(x, Mapping):
        return x
    if len(model.inputs) != 1:
        raise ValueError(f"Expected a model with one input. Received: {model.name!r} with {len(model.inputs)}.")
    check_names(x, [model.inputs[0].name])
    return next(iter(x.values()))


def _evaluated(model: keras.Model, data: Dataset) -> tuple[str, float, float]:
    """Return the metric's name, and its value on training and on test data."""
    (metric, train), (_, test) = (evaluate(model, split.in_order()).scores[""] for split in (data.train, data.test))
    return metric, train, test
