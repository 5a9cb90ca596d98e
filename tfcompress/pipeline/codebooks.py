"""Codebooks beside each other: how much of each kernel they keep, by bits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.arguments import check_choice, check_model, check_several, is_whole
from tfcompress.evaluation.kernels import kernels_of
from tfcompress.graph import LayerChoice, check_built, kernel_positions
from tfcompress.graph.keras_quantized import check_floats
from tfcompress.graph.leaf_layers import leaf_layers
from tfcompress.graph.selectors import Layers
from tfcompress.layers.kernel_layouts import channel_axes
from tfcompress.pipeline.scan import Scan
from tfcompress.pipeline.scan_plots import canvas, finish
from tfcompress.quantization.weights.levels import LEVELS, scale_of
from tfcompress.quantization.weights.starts import start
from tfcompress.reports.tables import number, plain

METHODS = ("uniform", "power_of_two", "additive_power_of_two", "quantile", "kmeans")
GRANULARITIES = ("per_tensor", "per_channel")


@dataclasses.dataclass(frozen=True)
class CodebookRow:
    """One kernel with one codebook.

    Attributes:
        layer: The layer's name.
        weight: The kernel's name.
        method: Of the codebook.
        bits: Of a place in it.
        signal: The sum of the squares of the weights.
        noise: The sum of the squares of what they differ by then.
    """

    layer: str
    weight: str
    method: str
    bits: int
    signal: float
    noise: float

    @property
    def relative_error(self) -> float:
        """The mean squared error, relative to the weights' mean square."""
        return self.noise / self.signal if self.signal else 0.0


@dataclasses.dataclass(frozen=True)
class CodebookComparison(Scan):
    """What `tfc.compare_codebooks` found.

    Attributes:
        model: The model's name.
        granularity: What has a table of its own: "per_tensor" or "per_channel".
        sizes: {"layer/kernel": number of weights}, in the order of the model.
        rows: One for each kernel, method and number of bits.
    """

    model: str
    granularity: str
    sizes: Mapping[str, int]
    rows: tuple[CodebookRow, ...]

    @property
    def bits(self) -> tuple[int, ...]:
        """All bits, ascending."""
        return tuple(sorted({row.bits for row in self.rows}))

    @property
    def methods(self) -> tuple[str, ...]:
        """All methods, in their order."""
        return tuple(dict.fromkeys(row.method for row in self.rows))

    def signal_to_noise(self, method: str, bits: int, kernel: str | None = None) -> float:
        """Return the ratio of signal to noise in decibels; infinite where nothing is lost.

        Args:
            method: Of the codebook.
            bits: Of a place in it.
            kernel: "layer/kernel"; `None`: of all kernels together.
        """
        rows = [row for row in self.rows if (row.method, row.bits) == (method, bits)]
        rows = [row for row in rows if kernel in (None, f"{row.layer}/{row.weight}")]
        signal, noise = sum(row.signal for row in rows), sum(row.noise for row in rows)
        return 10 * math.log10(signal / noise) if signal and noise else math.inf

    @property
    def verdict(self) -> str:
        """Which method keeps most at each number of bits, in one sentence."""
        said = []
        for bits in self.bits:
            best = max(self.methods, key=lambda method: self.signal_to_noise(method, bits))
            said.append(f"{best.replace('_', ' ')} at {bits} bits ({_decibels(self.signal_to_noise(best, bits))} dB)")
        return f"Most is kept by {', '.join(said)}."

    def headings(self) -> list[str]:
        """Return the titles of the table's columns."""
        return ["kernel", "weights", "bits", *(method.replace("_", " ") for method in self.methods)]

    def cells(self) -> list[list[str]]:
        """Return the table's cells, a list per kernel and number of bits."""
        rows = []
        for kernel, size in ((None, sum(self.sizes.values())), *self.sizes.items()):
            for place, bits in enumerate(self.bits):
                found = [self.signal_to_noise(method, bits, kernel) for method in self.methods]
                said = [_decibels(value) + ("*" if value == max(found) else " ") for value in found]
                name = ("all" if kernel is None else kernel, f"{size:,}") if not place else ("", "")
                rows.append([*name, str(bits), *said])
        return rows

    def caption(self) -> str:
        """Return the line below the table."""
        return f"Signal to noise in dB, tables {self.granularity.replace('_', ' ')}; * the best of a line."

    def draw(self) -> Any:
        """Return the picture: a line for each method, signal to noise of all kernels against bits."""
        figure, axis = canvas()
        for place, method in enumerate(self.methods):
            values = [self.signal_to_noise(method, bits) for bits in self.bits]
            style: dict[str, Any] = {"color": f"C{place}", "marker": "osD^v"[place % 5], "markersize": 4}
            axis.plot(self.bits, values, linewidth=1.4, label=method.replace("_", " "), **style)
        axis.set_xlabel("bits of a weight's place in the codebook")
        axis.set_xticks(self.bits)
        axis.set_ylabel("signal to noise of all kernels, dB")
        axis.set_title(
            f"Codebooks of {self.model}, {self.granularity.replace('_', ' ')}", fontsize=10, parse_math=False
        )
        finish(axis)
        return figure

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return plain({"version": 1, **dataclasses.asdict(self)})

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> CodebookComparison:
        """Return what `to_dict` gave the fields of."""
        return cls(**{**fields, "rows": tuple(CodebookRow(**row) for row in fields["rows"])})


def _decibels(value: float) -> str:
    return "exact" if value == math.inf else number(value, 1)


def compare_codebooks(
    model: keras.Model,
    bits: Sequence[int] = (2, 3, 4, 8),
    *,
    methods: Sequence[str] = METHODS,
    layers: Layers = None,
    granularity: str = "per_tensor",
) -> CodebookComparison:
    """Return how much of each kernel of a model codebooks keep, before anything is trained.

    Args:
        model: A built Keras model, plain or wrapped; its kernels are taken as its layers see them.
        bits: Of a place in a codebook, 2 to 8 each. Free codebooks have 2^bits values, levels are one fewer: 0, and as
            many below it as above.
        methods: Of "uniform", "power_of_two" and "additive_power_of_two", whose scale has the least squared error;
            "quantile"; "kmeans", the least squared error of all.
        layers: Which layers: `None` for all with a kernel; a name or regular expression, or several; or a function from
            a layer to bool.
        granularity: "per_tensor": one codebook for a kernel; "per_channel": one for each output channel.

    Returns:
        Squared errors, with a table (`print`), `to_json` and `plot`.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it isn't built, an argument is something else, no layer that is meant has a kernel, or a weight
            is NaN or infinite.

    Example:

    >>> import keras, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(64, name="dense")])
    >>> found = tfc.compare_codebooks(model, bits=[4])
    >>> found.signal_to_noise("kmeans", 4) > found.signal_to_noise("uniform", 4)
    True
    """
    check_model(model)
    check_built(model)
    check_floats(model, "Compare codebooks of")
    check_several("bits", bits, "(2, 4, 8)")
    check_several("methods", methods, "('uniform', 'kmeans')")
    for one in bits:
        if not is_whole(one) or not 2 <= one <= 8:
            raise ValueError(f"Expected bits to be whole numbers from 2 to 8. Received: {one!r}.")
    for method in methods:
        check_choice("methods", method, METHODS)
    check_choice("granularity", granularity, GRANULARITIES)
    rows: list[CodebookRow] = []
    sizes: dict[str, int] = {}
    for layer, weight, ordered in _kernels(model, LayerChoice(layers), granularity):
        sizes[f"{layer}/{weight}"] = sum(len(one.values) for one in ordered)
        for method in dict.fromkeys(methods):
            for count in sorted({int(one) for one in bits}):
                noise = sum(one.noise(_table(one.values, method, count)) for one in ordered)
                rows.append(CodebookRow(layer, weight, method, count, sum(one.signal for one in ordered), noise))
    if not rows:
        raise ValueError(
            f"Expected a model with layers to compress. Received: {model.name!r}, in which none has a kernel."
        )
    return CodebookComparison(model.name, granularity, sizes, tuple(rows))


def _kernels(model: keras.Model, choice: LayerChoice, granularity: str) -> Iterator[tuple[str, str, list[_Ordered]]]:
    """Yield the kernels that are meant: the names of layer and kernel, and the weights of each table."""
    for outer in leaf_layers(model):
        if not choice.includes(outer):
            continue
        for position, kernel in zip(kernel_positions(outer), kernels_of(outer), strict=True):
            value = np.asarray(kernel.value, np.float32)
            if not np.isfinite(value).all():
                raise ValueError(
                    f"Expected finite weights. Received: {kernel.label!r} of layer {outer.name!r}, which holds NaN or "
                    "infinite values. Train or load the model anew."
                )
            axes = channel_axes(outer, position) if granularity == "per_channel" else ()
            axis = next((place for place in axes if value.shape[place] > 1), None)
            parts = [value] if axis is None else np.moveaxis(value, axis, 0)
            yield outer.name, kernel.label, [_Ordered(one) for one in parts]
    choice.check()


class _Ordered:
    """Values in ascending order, with the sums that the error of any table is known by."""

    def __init__(self, values: np.ndarray):
        self.values = np.sort(values, axis=None)
        zero = np.zeros(1)
        self.sums = np.concatenate([zero, np.cumsum(self.values, dtype=np.float64)])
        self.squares = np.concatenate([zero, np.cumsum(np.square(self.values, dtype=np.float64))])

    @property
    def signal(self) -> float:
        """The sum of squares."""
        return float(self.squares[-1])

    def noise(self, table: np.ndarray) -> float:
        """Return the sum of the squared distances to the nearest entries of a table, ascending."""
        inside = np.searchsorted(self.values, (table[1:] + table[:-1]) / 2, side="right")
        ends = np.concatenate([[0], inside, [len(self.values)]])
        total, square = np.diff(self.sums[ends]), np.diff(self.squares[ends])
        return max(float((square - 2 * table * total + np.square(table) * np.diff(ends)).sum()), 0.0)


def _table(values: np.ndarray, method: str, bits: int) -> np.ndarray:
    """Return the table of a method for some values, ascending."""
    if method in LEVELS:
        levels = LEVELS[method](2**bits - 1)
        return levels * scale_of(values, levels)
    return np.sort(start(values, 2**bits, method, zero=False, seed=0).astype(np.float64))
