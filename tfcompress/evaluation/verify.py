"""How close a file is to the Keras model that it was made from, output by output."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.arguments import check_model, running
from tfcompress.core.old_calls import accepts_old_fields
from tfcompress.core.out_of_memory import says_memory
from tfcompress.data.model_batches import check_batch_size
from tfcompress.data.named_batches import Arrays, Carried, stream
from tfcompress.data.named_inputs import count_samples
from tfcompress.export.file_for_target import runtime_for
from tfcompress.parity.pairing import pair
from tfcompress.parity.probing.model_tensors import output_scales
from tfcompress.parity.probing.values import Values
from tfcompress.reports.tables import number, plain, significant, to_text
from tfcompress.runtime.integer_io import predict
from tfcompress.runtime.opening import open_runner
from tfcompress.targets import Target
from tfcompress.tracing.float32_view import float32_view
from tfcompress.tracing.random_inputs import noise_signature, samples_at_once
from tfcompress.tracing.recurrent_state import StreamingSignature, has_states, streaming_signature
from tfcompress.tracing.signature import read_signature


@accepts_old_fields(step="scale")
@dataclasses.dataclass(frozen=True)
class OutputDifference:
    """How far one output of a file is from Keras.

    Attributes:
        name: of the output.
        scale: of its quantization; None where it is float.
        max_abs: largest absolute difference.
        mean_abs: mean absolute difference.
        max_rel: the largest as a part of the largest |value| of Keras.
        max_steps: the largest in scales, the steps from one integer to the next; None where it is float.
        mean_steps: the mean in such steps.
        equal: share of equal values: on a grid the same integer, else the same number.
        argmax_agreement: share of the rows (along the last axis) whose largest entry is the same one.
        sqnr: variance of Keras' values over the mean squared difference, in dB; None if nothing differs.
    """

    name: str
    scale: float | None
    max_abs: float
    mean_abs: float
    max_rel: float
    max_steps: float | None
    mean_steps: float | None
    equal: float
    argmax_agreement: float
    sqnr: float | None


@dataclasses.dataclass(frozen=True)
class Verification:
    """What `tfc.verify` found; `print` shows the table.

    Attributes:
        model: the Keras model's name.
        path: of the file.
        format: "tflite" or "onnx".
        samples: that were compared.
        outputs: one `OutputDifference` each, in the model's order.
    """

    model: str
    path: pathlib.Path
    format: str
    samples: int
    outputs: tuple[OutputDifference, ...]

    def __getitem__(self, name: str) -> OutputDifference:
        """Return the output called `name`."""
        for output in self.outputs:
            if output.name == name:
                return output
        raise KeyError(f"Expected one of {[output.name for output in self.outputs]}. Received: {name!r}.")

    def __str__(self) -> str:
        return self.table()

    def table(self, width: int = 100) -> str:
        """Return the table as text of at most `width` columns."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("output", overflow="fold")
        for title in ("max", "mean", "relative", "max steps", "mean steps", "equal", "argmax", "SQNR dB"):
            table.add_column(title, justify="right", no_wrap=True)
        for output in self.outputs:
            table.add_row(
                Text(output.name),
                significant(output.max_abs),
                significant(output.mean_abs),
                significant(output.max_rel),
                number(output.max_steps, 1),
                number(output.mean_steps, 3),
                f"{output.equal:.2%}",
                f"{output.argmax_agreement:.2%}",
                "exact" if output.sqnr is None else number(output.sqnr, 1),
            )
        text = f"{self.path.name} ({self.format}) against Keras model {self.model!r}, {self.samples:,} samples."
        return to_text(table, text, width=width)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        outputs = [dataclasses.asdict(output) for output in self.outputs]
        about = {"version": 2, "model": self.model, "path": str(self.path), "format": self.format}
        return plain({**about, "samples": self.samples, "outputs": outputs})


@says_memory
def verify(
    model: keras.Model,
    path: str | os.PathLike[str],
    data: Any,
    *,
    batch_size: int = 32,
    threads: int = 1,
    runtime: str | None = None,
    target: str | os.PathLike[str] | Target | None = None,
) -> Verification:
    """Run a file and the Keras model that it was made from on the same data, and say how far they are apart.

    The data streams through: only one batch is held. A file with integer inputs and outputs is compared in real
    numbers. One that was exported with `random="inputs"` gets the same seeded draws as the model, others in each batch.
    One that was exported with `stateful="io"` runs batch after batch, as many samples in each as the model was
    made for: its states begin with zeros and go on from run to run, as those of the model do beside it.

    Args:
        model: built; plain, pruned or quantized. The file of a quantized model computes what that model simulates.
        path: of a `.tflite` or `.onnx` file.
        data: an array, a dict or list of arrays for several inputs, or anything that yields batches (targets
            behind the inputs are left out).
        batch_size: samples at once, where the file leaves that free.
        threads: of one inference of the file.
        runtime: what runs the file: "litert", "onnxruntime", or "tflm" for TFLite Micro; None: that of its format.
        target: what the file is for, as in `tfc.export`: it is run in the runtime that proves such files, and refused
            if it has what the target can't do. None: not said.

    Returns:
        A `Verification`: `print(it)`, `it["output"].max_steps`.

    Raises:
        TypeError: `model` is no Keras model.
        FileNotFoundError: there is no such file.
        ValueError: the file isn't one of the model's (its inputs or outputs are others), the data is empty or
            doesn't fit, or the target can't run the file.

    Example:
        >>> import keras, tempfile, tfcompress as tfc
        >>> model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="y")])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     artifact = tfc.export(model, f"{folder}/model.onnx")
        ...     verify(model, artifact.path, np.ones((8, 4)))["y"].max_rel < 1e-5
        True
    """
    check_model(model)
    check_batch_size(batch_size)
    runner = open_runner(path, threads, runtime_for(path, target, runtime))
    signature = read_signature(model)
    if not signature.inputs.keys() >= runner.input_specs.keys() and has_states(model):
        signature = streaming_signature(model)
    elif signature.inputs.keys() < runner.input_specs.keys():
        signature = noise_signature(model, runner.batch_size) or signature
    call = signature.caller(model)
    random = np.random.default_rng(0)
    names = pair(signature.inputs, runner.input_specs, "input", path)
    scales = output_scales(model)
    sums: dict[str, Values] = {}
    agreeing: dict[str, list[int]] = {}
    ends: dict[str, str] = {}
    samples = 0
    states = signature.states if isinstance(signature, StreamingSignature) else {}
    keras_states, file_states = Carried(states), Carried(states)
    together = keras_states.samples or samples_at_once(signature) or batch_size
    for given_batch in stream(data, signature.own_inputs, together):
        batch = signature.completed(model, given_batch, random)
        keras_states.check(batch)
        with keras.StatelessScope() if states else contextlib.nullcontext():  # the model's own states stay
            expected = reference(model, call, {**batch, **keras_states.values})
        keras_states.take(expected.values())
        if not sums:
            ends = pair(expected, runner.output_specs, "output", path)
            known = [*scales, *[None] * len(states)]
            known = known if len(known) == len(expected) else [None] * len(expected)
            sums = {name: Values(scale) for name, scale in zip(expected, known, strict=True)}
            agreeing = {name: [0, 0] for name in expected}
        given = {**batch, **file_states.values}
        received = predict(runner, {names[name]: value for name, value in given.items()})
        if not isinstance(received, Mapping):
            received = {runner.output_names[0]: received}
        file_states.take(np.asarray(received[ends[name]]) for name in expected)
        for name, ours in expected.items():
            theirs = np.asarray(received[ends[name]])
            if theirs.shape != ours.shape:
                raise ValueError(
                    f"Expected output {name!r} of {os.fspath(path)!r} to have the shape that the model gives, "
                    f"{ours.shape}. Received: {theirs.shape}. Give the file that was exported from this model."
                )
            sums[name].add(ours.astype(np.float64), theirs.astype(np.float64))
            if ours.ndim and ours.size:
                same = ours.argmax(-1) == theirs.argmax(-1)
                agreeing[name][0] += int(same.sum())
                agreeing[name][1] += same.size
        samples += count_samples(batch)
    outputs = tuple(_difference(name, values, *agreeing[name]) for name, values in sums.items())
    return Verification(model.name, pathlib.Path(path), runner.format, samples, outputs)


def reference(model: keras.Model, call: Callable[[Sequence[Any]], dict[str, Any]], batch: Arrays) -> Arrays:
    """Return the outputs of Keras, called in float32 by its signature's `caller`, by name."""
    tensors: Sequence[Any] = [keras.ops.convert_to_tensor(value) for value in batch.values()]
    with float32_view(model), running(f"the model {model.name!r}", dict(batch)):
        outputs = call(tensors)
    return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}


def _difference(name: str, values: Values, same: int, rows: int) -> OutputDifference:
    return OutputDifference(
        name,
        values.scale,
        values.largest,
        values.mean,
        values.largest / values.peak if values.peak else values.largest,
        values.max_steps,
        values.mean_steps,
        values.share,
        same / rows if rows else 1.0,
        values.sqnr,
    )
