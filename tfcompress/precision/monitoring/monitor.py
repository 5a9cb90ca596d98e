"""A callback that shows what half precision does to a training."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import keras
import numpy as np
from keras import tree

from tfcompress.core.arguments import check_count, check_flag, check_path
from tfcompress.core.replicas import writes_files
from tfcompress.precision.monitoring.readings import Collection
from tfcompress.precision.monitoring.training_loop import ScaleWatch, TrainingWatch
from tfcompress.precision.monitoring.training_probe import Probe, Reading
from tfcompress.precision.monitoring.training_report import MonitorReport
from tfcompress.reports.tensorboard import ScalarLog

LOOKED_INTO = 8
"""Skipped steps of an epoch that are looked into."""


class PrecisionMonitor(keras.callbacks.Callback):
    """Shows where half precision loses something: the loss scale, skipped steps, and each layer's numbers.

    Training stays as it is, bit by bit. What a layer returns and its gradients are computed once more, beside the
    training, on one of its batches and with the loss scale of that moment, and nothing is assigned. That happens

    - after the first batch, and then every `every` batches;
    - for skipped steps, at most 8 in an epoch: their weights and batch are still there, and with the same dropout
      they show in which layer the overflow arose. (With `steps_per_execution` above 1 only the last batch of an
      execution is there.)

    The loss scale and the skipped steps are read from the optimizer after every batch: they are exact.

    What it shows of each layer:

    - **largest activation**: the largest absolute value that it returns, beside the largest number of its dtype:
      65,504 in float16; bfloat16 has float32's range;
    - **underflow**: the share of the gradients of its weights that are 0 in half precision and not in float32, on
      the same batch with the same dropout. A unit that is off or a weight under a mask has a gradient of 0 in
      float32 too, and isn't counted; nor is what float32 itself rounds off, below 2^-21 of a tensor's largest.
      Regularizers of weights are left out, since their gradients are computed in float32 anyway;
    - **overflow**: the share of these gradients that are infinite or NaN.

    It warns, once for each layer and by its name: of activations that are infinite or NaN, at the first layer that
    has them; of activations beyond half of the range; of gradients of which more than 10 % underflow; and of those
    that overflow where loss scaling can't help, at a scale of 1 or less. Overflow above that is how loss scaling
    finds its scale.

    What a layer calls in a loop, such as the cell of a recurrent layer, is seen in what that layer returns. A model
    with a `train_step` of its own is shown without gradients.

    Cost: two numbers are read after each batch. A look takes the forward and backward pass of a step, and both once
    more in float32, with the memory that a step in float32 takes; they are traced once. On TensorFlow, without
    `data`, `fit` traces its own step anew.

    In several processes, each of which has to have it, the first one writes and prints.

    Args:
        log_dir: Folder of TensorBoard logs; `None` writes none. The scalars are `precision/loss_scale`,
            `precision/skipped_steps`, and by layer `precision/largest_activation/NAME`, `precision/underflow/NAME`
            and `precision/overflow/NAME`.
        every: Batches between two looks; `None`: at the end of each epoch.
        data: `(x, y)` or `(x, y, sample_weight)`: the one batch to look at, always the same. `None`: the batches of
            the training.
        reference: Whether to compute gradients in float32 too, for `underflow`; `False` where a step in float32
            doesn't fit into the memory.
        verbose: 1 prints the table at the end, 0 doesn't.

    Attributes:
        report: A `MonitorReport` of the last `fit`, so far: `print(report)`, `report.rows`,
            `report["layer"].underflow`, `report.to_json("precision.json")`.

    Raises:
        ValueError: In `fit`, if a model on several replicas of TensorFlow is given no `data`.

    Reference: Micikevicius et al., "Mixed Precision Training", 2018.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> layers = [keras.Input((8,)), keras.layers.Dense(4, name="dense", dtype="mixed_float16")]
    >>> model = keras.Sequential(layers, name="small")
    >>> model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), "mse")
    >>> monitor = tfc.callbacks.PrecisionMonitor(verbose=0)
    >>> _ = model.fit(np.ones((4, 8)), np.ones((4, 4)), verbose=0, callbacks=[monitor])
    >>> monitor.report.skipped, monitor.report.scale, monitor.report["dense"].overflow
    (0, 32768.0, 0.0)
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        every: int | None = None,
        data: Any = None,
        reference: bool = True,
        verbose: int = 1,
    ):
        super().__init__()
        check_flag("reference", reference)
        check_count("verbose", int(verbose) if isinstance(verbose, bool) else verbose, 0, 2)
        if every is not None:
            check_count("every", every)
        if data is not None and (not isinstance(data, tuple) or len(data) not in (2, 3)):
            raise ValueError(
                "Expected data=(x, y) or (x, y, sample_weight), arrays of one batch. Received: data of type "
                f"{type(data).__name__}" + (f" of length {len(data)}." if isinstance(data, tuple) else ".")
            )
        self.log_dir = None if log_dir is None else check_path(log_dir)
        self.every = every
        self.reference = reference
        self.verbose = verbose
        self._data = None if data is None else tree.map_structure(_as_in_fit, data)
        self._log = ScalarLog(None)
        self._watch: TrainingWatch | None = None
        self._report: MonitorReport | None = None

    @property
    def report(self) -> MonitorReport:
        """What was found in the last `fit`, so far."""
        if self._watch is not None:
            return self._made()
        if self._report is None:
            raise ValueError("Expected a monitor that has been in a `fit`. Received: one that wasn't yet.")
        return self._report

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin to watch."""
        strategy = getattr(self.model, "distribute_strategy", None)
        replicas = 1 if strategy is None else strategy.num_replicas_in_sync
        if replicas > 1 and self._data is None:
            raise ValueError(
                f"Expected `data`, one batch to look at, for a model on {replicas} replicas, whose batches stay on "
                "their devices. Received: data=None. Give PrecisionMonitor(data=(x, y))."
            )
        self._collected = Collection()
        self._probe: Probe | None = None
        self._scale = ScaleWatch(self.model)
        self._log = ScalarLog(self.log_dir if writes_files() else None)
        self._watch = TrainingWatch(self.model, batches=self._data is None)
        self._looked = self._next = 0
        self._broken = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look into skipped steps again."""
        self._looked = 0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Begin to count skipped steps: now all callbacks have begun, one that loads the optimizer's state too."""
        if not self._watching().steps:
            self._scale = ScaleWatch(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Read the loss scale; look at a batch if it is time."""
        watch = self._watching()
        scale = self._scale.scale
        skipped = self._scale.update(watch.steps)
        if self._scale.scale != scale or skipped or not self._collected.batches:
            self._write_scale()
        if skipped and self._looked < LOOKED_INTO and self._data is None:
            self._looked += 1
            self._look(watch.batch, scale, skipped=True)
        if watch.steps >= self._next:
            self._look_at_time()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the loss scale; look at a batch if nothing else says when."""
        self._write_scale()
        if self.every is None:
            self._look_at_time()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Print the table, and leave the model as it was."""
        self._report = self._made()
        self._watching().end()
        self._watch = self._probe = None
        self._log.close()
        if self.verbose and writes_files():
            print(self._report)

    def _watching(self) -> TrainingWatch:
        assert self._watch is not None
        return self._watch

    def _look_at_time(self) -> None:
        watch = self._watching()
        self._next = sys.maxsize if self.every is None else (watch.steps // self.every + 1) * self.every
        self._look(watch.whole if self._data is None else self._data, self._scale.scale, skipped=False)

    def _look(self, batch: Any, scale: float, skipped: bool) -> None:
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        if self._probe is None:
            self._probe = Probe(self.model)
        reading = self._probe(batch, scale, reference=self.reference and not skipped, again=skipped)
        broken = any(layer.nonfinite for layer in reading.layers)
        if broken and skipped and self.reference and not self._broken:  # for the warning: is it so in float32 too?
            reading = self._probe(batch, scale, reference=True, again=True)
        self._broken = self._broken or broken
        self._collected.add(reading, skipped)
        self._write(reading, skipped)
        for text in self._collected.warnings(reading, self._watching().steps, self._scale.dynamic):
            warnings.warn(text, stacklevel=2)

    def _write(self, reading: Reading, skipped: bool) -> None:
        for layer in reading.layers:
            scalars = {"largest_activation": np.inf if layer.nonfinite else layer.largest}
            if not skipped:
                scalars |= {"underflow": layer.underflow, "overflow": layer.overflow}
            known = {f"precision/{what}/{layer.layer}": value for what, value in scalars.items() if value is not None}
            self._log.write(known, self._step())

    def _step(self) -> int:
        return self._scale.first + self._watching().steps

    def _write_scale(self) -> None:
        scalars = {"loss_scale": self._scale.scale, "skipped_steps": float(self._scale.skipped)}
        self._log.write({f"precision/{name}": value for name, value in scalars.items()}, self._step())

    def _made(self) -> MonitorReport:
        scale, found = self._scale, self._collected
        return MonitorReport(
            self.model.name,
            self._watching().steps,
            scale.skipped,
            scale.scale,
            scale.lowest,
            scale.highest,
            scale.dynamic,
            found.batches,
            found.looked_into,
            self._probe is None or self._probe.has_gradients,
            found.diverged,
            found.rows(),
        )


def _as_in_fit(array: Any) -> Any:
    """Return an array as `fit` gives it to the model: of Keras' float type if it is of another one."""
    value = np.asarray(array)
    return value.astype(keras.config.floatx()) if value.dtype.kind == "f" else value
