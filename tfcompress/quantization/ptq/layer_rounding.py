"""The integers of a quantized model's kernels, found layer by layer from data."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tfcompress.core.atomic_files import write_bytes
from tfcompress.core.error_messages import user_level
from tfcompress.core.names import listed
from tfcompress.core.passthrough import innermost
from tfcompress.core.progress import progress
from tfcompress.core.sharding import gathered
from tfcompress.core.transform import put, read
from tfcompress.core.wrapper import CompressedLayer, wrapped_layers
from tfcompress.data.model_batches import batches
from tfcompress.graph.stateful_layers import beginning
from tfcompress.quantization.ptq.kernel_products import MOST_INPUTS, ErrorStatistics, KernelProduct
from tfcompress.quantization.ptq.layerwise import Call, in_stages, only_moving, run
from tfcompress.quantization.ptq.reference_layers import linear, names_of
from tfcompress.quantization.ptq.rounding_methods import Rounding
from tfcompress.quantization.weights.codebook import Codebook
from tfcompress.quantization.weights.few_values import FewValues
from tfcompress.quantization.weights.uniform import WeightQuantizer

ON_GRID = 1e-4
"""In units of the scale: what is nearer to a whole number, as a zero of a mask or the largest weight, stays there."""

KEPT = ("Mask", "ChannelMask", "LeftDense")
"""Transforms before a quantizer that leave weights which are rounded as they are."""

OTHER = (
    "layers with one kernel that is a product of matrices, as Dense and Conv2D, of at most "
    f"{MOST_INPUTS:,} inputs, are rounded by data, unless they are ternary or binary."
)
SHARED = (
    "they are clustered, and weights that share a value would be parted if each were rounded for itself. Train the "
    "model, which moves the values; or leave clustering out where the bits leave few values anyway."
)
"""Why layers aren't rounded by data."""


def round_weights(
    quantized: keras.Model, reference: keras.Model, data: Any, method: Rounding, batch_size: int = 32
) -> None:
    """Choose the integers of a calibrated model's kernels so that each layer's outputs are near the float model's.

    One layer after the other, from its inputs in the quantized model, with the layers before it rounded already, and
    its outputs in the float model, before any activation. The weights of the model become their own rounded values, so
    that they lie on their grids, whose scales stay. What is pruned stays zero. Dense, EinsumDense and (depthwise)
    convolutions with channels last are rounded so; a warning names the others, which are rounded to the nearest.

    Args:
        quantized: A flat functional model with ranges; kernels are changed in place.
        reference: The float model, with layers of the same names and variables of its own.
        data: A few hundred samples: what `tfcompress.data.model_batches.batches` takes.
        method: How integers are chosen.
        batch_size: Samples in a batch, where `data` holds arrays.

    Raises:
        ValueError: If an output isn't finite, or no weight is an integer; no kernel is changed then.
    """
    points = _points(quantized, reference)
    with only_moving(quantized, []), only_moving(reference, []):
        given = list(batches(quantized, data, batch_size))
    kept = _Kept(method, given)
    variables = [point.variable for point in points]
    with progress(len(points)) as begin, only_moving(quantized, variables), only_moving(reference, []):
        _Walk(quantized, reference, given, method, kept, begin).run(points)


@dataclasses.dataclass(eq=False)
class _Point:
    """A kernel that is rounded."""

    layer: CompressedLayer
    reference: Any | None  # `None`: what the layer itself gives with float weights is what is wanted
    product: KernelProduct
    transform: WeightQuantizer
    variable: keras.Variable

    @property
    def values(self) -> np.ndarray:
        """The kernel, with the zeros of its masks."""
        return np.asarray(gathered(self.layer.value_before(self.transform)), np.float32)

    def spread(self, of_channels: Any) -> np.ndarray:
        """Return what is given for each scale for each value of the kernel."""
        return self.transform.spread(np.asarray(gathered(of_channels), np.float32), self.variable.shape)


def _points(quantized: keras.Model, reference: keras.Model) -> list[_Point]:
    named: dict[str, Any] = {}
    for layer in reference.layers:
        named.setdefault(layer.name, layer)
        named.setdefault(innermost(layer).name, layer)
    points: list[_Point] = []
    others: dict[str, list[str]] = {}
    for layer in wrapped_layers(quantized):
        chosen = [(at, t) for at, t in layer.transforms if isinstance(t, WeightQuantizer)]
        if not chosen:
            continue
        product = KernelProduct.of(layer)
        same = next((named[name] for name in sorted(names_of(layer)) if name in named), None)
        variables = [layer.innermost.weights[at] for at, _ in chosen]
        fits = product is not None and len(chosen) == 1 and variables[0] is product.layer.kernel
        fits = fits and not isinstance(chosen[0][1], FewValues)
        masked = all(type(t).__name__ in KEPT or t is chosen[0][1] for _, t in layer.transforms)
        if product is not None and fits and masked and product.shape[1] <= MOST_INPUTS:
            points.append(_Point(layer, same, product, chosen[0][1], variables[0]))
        else:
            shares = any(isinstance(t, Codebook) for _, t in layer.transforms)
            others.setdefault(SHARED if shares else OTHER, []).append(layer.name)
    if not points and not others:
        raise ValueError(
            f"Expected weights of integers, where they are to be rounded by data. Received: {quantized.name!r}, whose "
            "weights are float. Take a config with integer weights, or leave rounding out."
        )
    for reason, names in others.items():
        some = listed(map(repr, names))
        warnings.warn(f"The weights of {some} are rounded to the nearest: {reason}", stacklevel=user_level())
    return points


@dataclasses.dataclass
class _Walk:
    """Goes through a quantized model, and runs the float model beside it."""

    quantized: keras.Model
    reference: keras.Model
    data: list[list[Any]]
    method: Rounding
    kept: _Kept
    begin: Any
    begun: set[int] = dataclasses.field(default_factory=set)
    known: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    found: dict[int, ErrorStatistics] = dataclasses.field(default_factory=dict)
    wanted: Iterator[Any] = dataclasses.field(default_factory=lambda: iter(()))
    points: dict[int, _Point] = dataclasses.field(default_factory=dict)

    def run(self, points: list[_Point]) -> None:
        """Round the weights of these points."""
        self.points = {id(point.layer): point for point in points}
        in_stages(self.quantized, self.data, [point.layer for point in points], self.measure, self.adjust)

    def measure(self, operation: Any, call: Call, args: Any, kwargs: Any) -> None:
        """Take in one call of a layer; the first one looks at what the float model gives, and at what is kept."""
        point = self.points[id(operation)]
        if id(operation) not in self.begun:
            self.begun.add(id(operation))
            self.begin(f"{operation.name}: looks at its inputs")
            integers = self.kept.integers(point)
            if integers is not None:
                self.known[id(operation)] = integers
            else:
                self.found[id(operation)] = ErrorStatistics(point.product, point.product.matrices(point.values))
                self.wanted = self.outputs(point)
        if id(operation) in self.found:
            bias = point.product.layer.bias
            wanted = None if point.reference is None else next(self.wanted)
            self.found[id(operation)].add(args[0], wanted, None if bias is None else read(bias))

    def outputs(self, point: _Point) -> Iterator[Any]:
        """Yield what the float model's layer gives, in the order of batches and calls, a batch at a time."""
        made: list[Any] = []

        def visit(operation: Any, call: Call, args: Any, kwargs: Any) -> Any:
            if operation is point.reference:
                with linear(operation):
                    made.append(call(*args, **kwargs))
            return call(*args, **kwargs)

        with beginning(self.reference):
            for number, batch in enumerate(self.data):
                run(self.reference, batch, visit, number=number)
                yield from made
                made.clear()

    def adjust(self, operation: Any) -> None:
        """Let a layer's kernel lie on its grid, as the method chooses."""
        point = self.points[id(operation)]
        values = point.values
        scale = point.spread(point.transform.scale(values))
        integers = self.known.pop(id(operation), None)
        if integers is None:
            found = self.found.pop(id(operation))
            if not all(np.all(np.isfinite(part)) for part in found.means()):
                raise ValueError(
                    f"Expected finite activations. Received: NaN or infinite ones at {operation.name!r} on the data. "
                    "Check the data, and the weights of that layer and of those before it."
                )
            scaled = np.divide(values, scale, out=np.zeros_like(values), where=scale > 0)
            whole = np.rint(scaled)
            scaled = np.where(np.abs(scaled - whole) < ON_GRID, whole, scaled)
            matrices = point.product.matrices
            chosen = self.method.integers(found, matrices(scaled), matrices(scale), point.transform.ends)
            integers = point.product.kernel(chosen).astype(np.int16)
        limit = np.asarray(gathered(point.transform.limit(values)))
        # The largest weight, of which the grid is made where its range is "minmax", is left as it is.
        rounded = np.where(np.abs(values) >= point.spread(limit), values, integers * scale).astype(np.float32)
        self.kept.keep(point, integers)
        put(point.variable, rounded)
        point.transform.hold(rounded, limit)


class _Kept:
    """The integers of layers in a folder, each under what they depend on."""

    def __init__(self, method: Rounding, data: list[list[Any]]):
        self.folder = None if method.folder is None else pathlib.Path(method.folder)
        self.key = hashlib.blake2b(digest_size=16)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.key.update(repr(dataclasses.replace(method, folder=None)).encode())
            for batch in data:
                for x in batch:
                    self.key.update(np.ascontiguousarray(gathered(x)).tobytes())

    def integers(self, point: _Point) -> np.ndarray | None:
        """Return what was found for a layer before, with the same data, weights and layers before it."""
        if self.folder is None:
            return None
        values = point.values
        others = [] if point.reference is None else list(map(read, innermost(point.reference).weights))
        for part in (values, point.spread(point.transform.scale(values)), *others):
            self.key.update(np.ascontiguousarray(part).tobytes())
        path = self._path(point)
        return np.load(path) if path.exists() else None

    def keep(self, point: _Point, integers: np.ndarray) -> None:
        """Keep what was found for a layer; the next ones depend on it."""
        if self.folder is None:
            return
        path = self._path(point)
        if not path.exists():
            content = io.BytesIO()
            np.save(content, integers)
            write_bytes(path, content.getvalue())
        self.key.update(np.ascontiguousarray(integers).tobytes())

    def _path(self, point: _Point) -> pathlib.Path:
        assert self.folder is not None
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in point.layer.name)
        return self.folder / f"{safe}-{self.key.hexdigest()}.npy"
