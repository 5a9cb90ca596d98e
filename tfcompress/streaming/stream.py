"""A step function, run over a signal: its states are carried from step to step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tfcompress.data.array_checks import numbers_of
from tfcompress.data.named_inputs import TensorInfo, by_name, fit_inputs
from tfcompress.runtime.integer_io import as_integers, io_grids, quantize, real_values
from tfcompress.runtime.opening import open_runner
from tfcompress.streaming.states import new_state
from tfcompress.streaming.step_model import StepModel
from tfcompress.streaming.windows import TIME

Arrays = dict[str, np.ndarray]


class Stream:
    """Runs a step model, or a file of one, over a signal that comes in pieces.

    A file of integer inputs takes real values, and gives real values back; its states stay integers, and begin with
    the zero point of each.

    Args:
        step: what `tfcompress.stepwise` returned, or the path of a `.tflite` or `.onnx` file that was exported of its
            model, or of recurrent layers with `stateful="io"`.
        samples: signals beside each other.
        threads: how many threads a file's runtime may use.

    Raises:
        ValueError: a file has no states, or another number of samples.

    Example:

    >>> import keras, numpy as np
    >>> from tfcompress.streaming.step_model import stepwise
    >>> layers = [keras.layers.Conv1D(1, 2, padding="causal", kernel_initializer="ones")]
    >>> stream = Stream(stepwise(keras.Sequential([keras.Input((None, 1)), *layers])))
    >>> [float(stream(np.full((1, 1, 1), value))[0, 0, 0]) for value in (1, 10, 100)]
    [1.0, 11.0, 110.0]
    """

    def __init__(self, step: StepModel | str | os.PathLike[str], samples: int = 1, threads: int = 1):
        self._run: Callable[[Arrays], Mapping[str, Any]]
        self._grids: dict[str, tuple[float, int]] = {}
        if isinstance(step, StepModel):
            specs = {name: TensorInfo(tuple(x.shape), x.dtype) for name, x in step.model.input.items()}
            self._run, outputs = step.model.predict_on_batch, tuple(step.model.output)
        else:
            runner = open_runner(step, threads)
            self._grids = io_grids(runner)
            specs, outputs, self._run = runner.input_specs, runner.output_names, runner.run
        self.states = {name: new_state(name) for name in specs if "state" in name and new_state(name) in outputs}
        if not self.states and not isinstance(step, StepModel):
            raise ValueError(
                "Expected a step function, whose states are inputs and outputs. Received: one with inputs "
                f"{', '.join(specs)} and outputs {', '.join(outputs)}. Make one with tfcompress.stepwise."
            )
        self.specs = {name: spec for name, spec in specs.items() if name not in self.states}
        self.outputs = tuple(name for name in outputs if name not in self.states.values())
        sizes = {spec.shape[0] for spec in specs.values()} - {None, samples}
        if sizes:
            raise ValueError(f"Expected samples={sizes.pop()}, as many as the file takes. Received: samples={samples}.")
        self._zeros = {
            name: np.full(
                [samples, *specs[name].shape[1:]],  # type: ignore[list-item]
                self._grids[name][1] if name in self._grids else 0,
                specs[name].dtype,
            )
            for name in self.states
        }
        self.reset()

    @property
    def frames(self) -> int:
        """How many frames a step takes."""
        return int(next(iter(self.specs.values())).shape[TIME] or 1)

    def reset(self) -> None:
        """Begin a new signal."""
        self._values = dict(self._zeros)

    def __call__(self, frames: Any) -> Any:
        """Take the next frames; return what the step gives.

        Args:
            frames: shape (samples, frames of a step, ...): an array, or a list or dict of them where there are several
                inputs. For a quantized input integers of its own dtype go in as they are, others are quantized.

        Returns:
            An array, or {output name: array} where there are several outputs; quantized ones are dequantized, except
            where all quantized inputs were given as integers.
        """
        named = {name: numbers_of(value, f"input {name!r}") for name, value in by_name(frames, self.specs).items()}
        named, real = as_integers(named, self.specs, self._grids)
        made = self._run({**fit_inputs(named, self.specs), **self._values})
        self._values = {name: self._carried(name, np.asarray(made[new])) for name, new in self.states.items()}
        found = {name: np.asarray(made[name]) for name in self.outputs}
        if real:
            found = {name: real_values(value, self._grids.get(name)) for name, value in found.items()}
        return next(iter(found.values())) if len(found) == 1 else found

    def _carried(self, name: str, value: np.ndarray) -> np.ndarray:
        """Return a new state as the next step takes it: on the grid of the input, where that is another one."""
        old, new = self._grids.get(name), self._grids.get(self.states[name])
        if old is None or new is None or old == new:
            return value
        return quantize(name, real_values(value, new), *old, self._zeros[name].dtype.name)

    def steps(self, signal: np.ndarray) -> Iterator[Any]:
        """Yield what each step gives for a whole signal of one input; frames at its end that fill no step are left.

        Args:
            signal: shape (samples, frames, ...).
        """
        for at in range(0, signal.shape[TIME] - self.frames + 1, self.frames):
            yield self(signal[:, at : at + self.frames])
