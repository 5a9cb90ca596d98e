"""What a training loop runs: how many steps, on which batch, and the loss scale after each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops, tree

from tfcompress.core.keras_private import jax_state, steps_applied
from tfcompress.core.transform import read


class TrainingWatch:
    """Stands around `model.train_function` while `fit` runs, and counts its steps; the steps stay what they are.

    On JAX it looks at the batches that the function takes. On TensorFlow these don't leave the graph: where batches
    are wanted the training step returns its batch beside its logs, for which it is traced once more.

    Args:
        model: A model in `fit`, which has made its train function.
        batches: Whether batches are wanted.

    Attributes:
        steps: That have run, the skipped ones among them.
        batch: The last one; `None` before the first.
        whole: The last one of the shape of the first, which is no smaller rest of an epoch.
    """

    def __init__(self, model: keras.Model, batches: bool):
        self.model = model
        self.batches = batches
        self.steps = 0
        self.batch: Any = None
        self.whole: Any = None
        self._structure: Any = None
        before = model.train_function
        self.before = getattr(before, "watched", before)  # that of a `fit` that was interrupted is still there
        on_jax = keras.backend.backend() == "jax"
        self._function = self._on_jax() if on_jax else self._on_tensorflow()
        self._function.watched = self.before  # type: ignore[attr-defined]
        model.train_function = self._function

    def end(self) -> None:
        """Give the model the function back that it had."""
        if self.model.train_function is self._function:
            self.model.train_function = self.before
        self.batch = self.whole = None

    def _on_jax(self) -> Callable[..., Any]:
        def train(state: Any, batches: Iterator[Any]) -> Any:
            return self.before(state, _Taken(batches, self._saw))

        return train

    def _on_tensorflow(self) -> Callable[..., Any]:
        several = self.model.steps_per_execution > 1
        if not several and not self.batches:

            def counted(batches: Any) -> Any:
                logs = self.before(batches)
                self.steps += 1
                return logs

            return counted

        step = self.model.train_step
        # How many steps an execution had isn't known outside: at the end of an epoch there may be fewer.
        count = keras.Variable(0, dtype="int64", trainable=False) if several else None

        def watched_step(data: Any) -> dict[str, Any]:
            logs = step(data)
            if count is not None:
                count.assign_add(1)
            leaves = tree.flatten(data) if self.batches else []
            self._structure = tree.map_structure(lambda x: x is not None, data)
            # A tuple: TensorFlow takes a list for one tensor.
            return {"logs": logs, "batch": tuple(leaf for leaf in leaves if leaf is not None)}

        object.__setattr__(self.model, "train_step", watched_step)
        try:
            self.model.make_train_function(force=True)
        finally:
            object.__delattr__(self.model, "train_step")
        made = self.model.train_function

        def train(batches: Any) -> Any:
            outputs = made(batches)
            self.steps = self.steps + 1 if count is None else int(read(count))
            if self.batches:
                leaves = iter(outputs["batch"])
                self._note(tree.map_structure(lambda there: next(leaves) if there else None, self._structure))
            return outputs["logs"]

        return train

    def _saw(self, batch: Any) -> None:
        self.steps += 1
        if self.batches:
            self._note(batch)

    def _note(self, batch: Any) -> None:
        def shapes(batch: Any) -> list[Any]:
            return [tuple(x.shape) for x in tree.flatten(batch) if x is not None]

        self.batch = batch
        if self.whole is None or shapes(batch) == shapes(self.whole):
            self.whole = batch


class _Taken:
    """An iterator that shows each item that is taken."""

    def __init__(self, items: Iterator[Any], show: Callable[[Any], None]):
        self.items = items
        self.show = show

    def __iter__(self) -> _Taken:
        return self

    def __next__(self) -> Any:
        item = next(self.items)
        self.show(item)
        return item


class ScaleWatch:
    """What loss scaling did, read from the optimizer's own variables.

    Args:
        model: A compiled model.

    Attributes:
        dynamic: Whether the optimizer is a `keras.optimizers.LossScaleOptimizer`.
        scale: What the next step multiplies the loss by.
        lowest: The least that this was.
        highest: The most.
        skipped: Steps that were left out, since a gradient wasn't finite.
        first: Steps that the optimizer had done before.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        optimizer = model.optimizer
        self.dynamic = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        self.scale = self._scale()
        self.lowest = self.highest = self.scale
        self.skipped = 0
        self.first = self._iterations()

    def update(self, steps: int) -> int:
        """Read the optimizer's variables.

        Args:
            steps: That have run since this was made.

        Returns:
            How many steps were skipped since the last time.
        """
        if not self.dynamic:
            return 0
        self.scale = self._scale()
        self.lowest, self.highest = min(self.lowest, self.scale), max(self.highest, self.scale)
        before, self.skipped = self.skipped, steps - (self._iterations() - self.first)
        return self.skipped - before

    def _scale(self) -> float:
        optimizer = self.model.optimizer
        if not self.dynamic:
            return float(getattr(optimizer, "loss_scale_factor", None) or 1.0)
        return float(self._value(optimizer.dynamic_scale)) if optimizer.built else float(optimizer.initial_scale)

    def _iterations(self) -> int:
        # `iterations` counts rounds of accumulated gradients, this one every step that wasn't skipped.
        optimizer = self.model.optimizer.inner_optimizer if self.dynamic else self.model.optimizer
        return int(self._value(steps_applied(optimizer)))

    def _value(self, variable: keras.Variable) -> Any:
        """Return a variable's value; while JAX trains, the variables themselves are empty."""
        state = jax_state(self.model)
        if state is not None:
            place = next(i for i, v in enumerate(self.model.optimizer.variables) if v is variable)
            return ops.convert_to_numpy(state["optimizer_variables"][place])
        return read(variable)
