"""Layer by layer: where a file first leaves the Keras model that it was made from."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.arguments import check_model, check_number, running
from tfcompress.core.atomic_files import check_target, draft
from tfcompress.core.out_of_memory import says_memory
from tfcompress.core.uneven_rows import is_uneven
from tfcompress.data.model_batches import check_batch_size
from tfcompress.data.named_batches import Arrays, stream
from tfcompress.data.named_inputs import count_samples
from tfcompress.graph.rewrite import calls_forgotten
from tfcompress.parity.debug_plot import draw
from tfcompress.parity.pairing import pair
from tfcompress.parity.probing.file_tensors import open_observer
from tfcompress.parity.probing.model_tensors import flat, is_dynamic
from tfcompress.parity.probing.tensor_comparison import Comparison, FloatComparison
from tfcompress.parity.tensor_difference import TensorDifference
from tfcompress.reports.tables import number, plain, significant, to_text
from tfcompress.runtime.integer_io import held, io_grids, quantize
from tfcompress.runtime.opening import open_runner
from tfcompress.runtime.runner import Runner
from tfcompress.tracing.signature import read_signature

SHARE_OF_PEAK = 1 / 1024
"""The unit of `threshold` where a tensor has no grid, or one of 16 bits: that part of its largest value."""

DYNAMIC_SHARE = 1 / 32
"""The same where ranges are found at run time: Keras finds them for each sample, the runtimes for what they get."""


@dataclasses.dataclass(frozen=True)
class DebugReport:
    """What `tfc.debug` found; `print` shows the table.

    Attributes:
        model: the Keras model's name.
        path: of the file.
        format: "tflite" or "onnx".
        samples: that were run.
        threshold: as given.
        tensors: one `TensorDifference` each, in the order in which they are computed.
        same_outputs: whether the file's outputs stayed the same while its inner tensors were read.
        named: whether the names of the file's inner tensors are known.
    """

    model: str
    path: pathlib.Path
    format: str
    samples: int
    threshold: float
    tensors: tuple[TensorDifference, ...]
    same_outputs: bool
    named: bool = True

    @property
    def first(self) -> str | None:
        """Name of the first tensor whose layer computes something else in the file; None: every layer is right."""
        return next((tensor.name for tensor in self.tensors if tensor.differs), None)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the tensors that the file doesn't have, or has under another name."""
        return tuple(tensor.name for tensor in self.tensors if tensor.tensor is None)

    def __getitem__(self, name: str) -> TensorDifference:
        """Return the tensor called `name`."""
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise KeyError(f"Expected one of {[tensor.name for tensor in self.tensors]}. Received: {name!r}.")

    def __str__(self) -> str:
        return self.table()

    def table(self, width: int = 120) -> str:
        """Return the table as text of at most `width` columns."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        quantized = any(tensor.float_sqnr is not None for tensor in self.tensors)
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("", no_wrap=True)
        table.add_column("tensor", overflow="fold")
        for title in ("SQNR dB", "max", "steps", "equal", "own SQNR", "own max", "own steps", "own equal"):
            table.add_column(title, justify="right", no_wrap=True)
        if quantized:
            table.add_column("float dB", justify="right", no_wrap=True)
        for tensor in self.tensors:
            cells = [Text("!" if tensor.differs else ""), Text(tensor.name)]
            if tensor.tensor is None:
                cells += [Text("not in the file"), *(Text("") for _ in range(7))]
            else:
                cells += [Text(cell) for cell in _cells(tensor)]
            if quantized:
                cells.append(Text(number(tensor.float_sqnr, 1)))
            table.add_row(*cells)
        return to_text(table, self.caption(), width=width)

    def caption(self) -> str:
        """Return the lines below the table."""
        lines = [f"{self.path.name} ({self.format}) against Keras model {self.model!r}, {self.samples:,} samples."]
        lines.append("own: of the layer alone, computed by Keras from the file's own tensors before it.")
        if self.first is None:
            lines.append("No layer that was found differs by more than the threshold.")
        else:
            lines.append(f"First layer that differs: {self.first} (marked with !).")
        floats = {x.layer: x.computes_in for x in self.tensors if x.computes_in not in ("", "float", "integer")}
        if floats:
            lines.append(f"Planned: {'; '.join(f'{layer}: {said}' for layer, said in floats.items())}.")
        if self.missing:
            lines.append(f"{len(self.missing)} of {len(self.tensors)} tensors are not in the file: fused, or renamed.")
        if not self.named:
            lines.append(
                "The file has no names of inner tensors: they were told by their grids and values. To be sure, give "
                "the artifact of the export instead of the path, or export with names=True."
            )
        if not self.same_outputs:
            lines.append("Beware: reading its tensors changed the file's outputs; the runtime fused less.")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        document = {
            "version": 2,
            "model": self.model,
            "path": str(self.path),
            "format": self.format,
            "samples": self.samples,
            "threshold": self.threshold,
            "first": self.first,
            "missing": list(self.missing),
            "same_outputs": self.same_outputs,
            "named": self.named,
        }
        return plain({**document, "tensors": [dataclasses.asdict(tensor) for tensor in self.tensors]})

    def plot(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> pathlib.Path:
        """Draw the SQNR of each tensor, and that of each layer alone, as a picture.

        Args:
            path: ends in `.png`.
            overwrite: whether an existing file may be replaced.

        Returns:
            The path.

        Raises:
            FileExistsError: the file exists, and `overwrite` is False.
            FileNotFoundError: the folder doesn't exist.
            ValueError: another suffix.
        """
        target = check_target(path, ".png", overwrite)
        with draft(target) as beside:
            draw(self.tensors, f"{self.path.name} against Keras", beside)
        return target


@says_memory
def debug(
    model: keras.Model,
    path: str | os.PathLike[str],
    data: Any,
    *,
    reference: keras.Model | None = None,
    threshold: float = 2.0,
    batch_size: int = 8,
) -> DebugReport:
    """Compare a file with the Keras model that it was made from, tensor by tensor.

    Of a model with quantized activations each quantizer's output is compared, of another one each layer's. In a deep
    net a rounding that falls otherwise early on is many steps later; so each layer is compared a second time, Keras
    computing it from the file's own tensors before it. Right layers differ by one step then, in few values.

    Args:
        model: built; plain, pruned or quantized.
        path: of a `.tflite` or `.onnx` file; or its `Artifact`, whose plan then says of each layer what it computes in.
        data: an array, a dict or list of arrays for several inputs, or anything that yields batches. A few samples
            are enough.
        reference: the float model that `model` was quantized from; shows for each layer what quantizing costs.
        threshold: a layer differs if, alone, it is off by more than that: in scales of its quantization; of a
            float tensor in parts of 1/1024 of its largest value (1/32 where ranges are found at run time).
        batch_size: samples at once; the file takes as many as it was made for, where that is fixed.

    Returns:
        A `DebugReport`: `print(it)`, `it.first`, `it.plot("debug.png")`.

    Raises:
        TypeError: `model` or `reference` is no Keras model.
        FileNotFoundError: there is no such file.
        ValueError: the file isn't one of the model's, the model can't be opened into one graph, or the data is
            empty or doesn't fit.

    Example:
        >>> import keras, tempfile, tfcompress as tfc
        >>> model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="y")])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     artifact = tfc.export(model, f"{folder}/model.onnx")
        ...     report = debug(model, artifact.path, np.ones((8, 4)))
        >>> report.first, [tensor.name for tensor in report.tensors]
        (None, ['y'])
    """
    check_model(model)
    check_batch_size(batch_size)
    if reference is not None:
        check_model(reference, "reference")
    check_number("threshold", threshold, 0, above=True)
    inputs = read_signature(model).inputs
    runner = open_runner(path)
    names = pair(inputs, runner.input_specs, "input", path)
    opened = flat(model)
    with calls_forgotten(opened):
        comparison = Comparison(opened, open_observer(path), runner.batch_size == 1)
        floats = None if reference is None else FloatComparison(opened, comparison.probes, reference)
        samples, same = 0, True
        batches = stream(data, inputs, runner.batch_size or batch_size)
        each = batches_for_both(batches, runner, names)
        for count, full, given in _joined(each, batch_size if comparison.joins else 1):
            samples += count
            with running(runner.path.name, given[0]):
                comparison.add(list(full.values()), given)
            same = same and _same_outputs(comparison, runner, given)
            if floats is not None:
                floats.add(list(full.values()))
    share = DYNAMIC_SHARE if is_dynamic(opened) else SHARE_OF_PEAK
    tensors = tuple(_tensor(comparison, floats, place, threshold, share) for place in range(len(comparison.probes)))
    plan = getattr(path, "plan", None)
    if plan is not None:
        said = plan.computes_in
        tensors = tuple(dataclasses.replace(one, computes_in=said.get(one.layer, "")) for one in tensors)
    how = samples, float(threshold), tensors, same, comparison.observer.are_named
    return DebugReport(model.name, pathlib.Path(path), runner.format, *how)


def batches_for_both(
    batches: Iterable[Arrays], runner: Runner, names: Mapping[str, str]
) -> Iterator[tuple[int, Arrays, Arrays]]:
    """Yield how many samples each batch has, what the model takes, and what the file takes.

    Args:
        batches: for the model, of as many samples as the file takes at once; of the last one there may be fewer.
        runner: the file, opened.
        names: {name of an input of the model: its name in the file}.
    """
    for batch in batches:
        full = held(runner, _filled(batch, runner.batch_size))
        yield count_samples(batch), full, _for_file(runner, {names[name]: value for name, value in full.items()})


def _filled(batch: Arrays, size: int | None) -> Arrays:
    """Repeat the last sample until there are as many as the file takes at once."""
    missing = 0 if size is None or is_uneven(batch.values()) else size - count_samples(batch)
    if not missing:
        return batch
    return {
        name: np.concatenate([value, np.repeat(value[-1:], missing, axis=0)]) if value.ndim else value
        for name, value in batch.items()
    }


def _for_file(runner: Runner, batch: Arrays) -> Arrays:
    grids = io_grids(runner)
    ready = {}
    for name, value in batch.items():
        dtype = runner.input_specs[name].dtype
        ready[name] = quantize(name, value, *grids[name], dtype) if name in grids else value.astype(dtype)
    return ready


def _joined(batches: Iterable[tuple[int, Arrays, Arrays]], most: int) -> Iterator[tuple[int, Arrays, list[Arrays]]]:
    """Yield batches of a sample each, of one shape and at most so many, as one for the model; 1: all as they are."""
    for _, alike in itertools.groupby(batches, lambda batch: {name: np.shape(x) for name, x in batch[1].items()}):
        while some := list(itertools.islice(alike, most)):
            counts, full, given = zip(*some, strict=True)
            one = full[0] if most == 1 else {name: np.concatenate([x[name] for x in full]) for name in full[0]}
            yield sum(counts), one, list(given)


def _same_outputs(comparison: Comparison, runner: Runner, batches: Sequence[Arrays]) -> bool:
    """Return whether the file gives what it gives when nobody looks into it."""
    for batch, observed in zip(batches, comparison.outputs, strict=True):
        for name, value in runner.run(batch).items():
            tensor = comparison.observer.outputs.get(name)
            if tensor is None:
                continue
            real = tensor.real(value) if value.dtype.kind in "iu" else value
            if not np.allclose(real, observed[name], rtol=1e-5, atol=1e-7, equal_nan=True):
                return False
    return True


def _tensor(
    comparison: Comparison, floats: FloatComparison | None, place: int, threshold: float, share: float
) -> TensorDifference:
    probe, tensor = comparison.probes[place], comparison.tensors[place]
    lost = None if floats is None else floats.sqnr(place)
    if tensor is None:
        return TensorDifference(probe.name, probe.source, None, probe.scale, float_sqnr=lost)
    whole, own = comparison.whole[place], comparison.own[place]
    return TensorDifference(
        probe.name,
        probe.source,
        tensor.name,
        probe.scale,
        whole.sqnr,
        whole.largest,
        whole.max_steps,
        whole.share,
        own.sqnr,
        own.largest,
        own.max_steps,
        own.share,
        own.largest > 1.005 * threshold * max(probe.scale or 0.0, share * own.peak, 1e-30),
        lost,
    )


def _cells(tensor: TensorDifference) -> list[str]:
    cells = []
    for sqnr, largest, steps, equal in (
        (tensor.sqnr, tensor.max_abs, tensor.max_steps, tensor.equal),
        (tensor.own_sqnr, tensor.own_max_abs, tensor.own_max_steps, tensor.own_equal),
    ):
        cells += ["exact" if sqnr is None else number(sqnr, 1), significant(largest), number(steps, 1)]
        cells.append("-" if equal is None else f"{equal:.2%}")
    return cells
