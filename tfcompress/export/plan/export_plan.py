"""What a file of a model is to compute with, said before anything is converted."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras

from tfcompress.core.arguments import check_choice
from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.passthrough import innermost
from tfcompress.export.plan.deployment import Deployment, deploy
from tfcompress.export.plan.file_operators import StoredWeight
from tfcompress.export.plan.planned_weights import SMALLEST_STORED, PlannedWeight, PlannedWeights
from tfcompress.graph import check_built
from tfcompress.graph.keras_quantized import mode_of
from tfcompress.graph.leaf_layers import leaf_layers
from tfcompress.layers.catalogue import traits_of
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.graph.operator_status import OperatorStatus, operator_status
from tfcompress.quantization.numerics.grid import Grid
from tfcompress.quantization.quantize import is_quantized
from tfcompress.reports.json_document import Document
from tfcompress.reports.tables import to_text

FORMATS = ("tflite", "onnx")
NOT_QUANTIZED = "not quantized"
SMALL = f"stored as float32: fewer than {SMALLEST_STORED} weights"
ARITHMETIC = ("integer", "dynamic", "weight-only", "float")


@dataclasses.dataclass(frozen=True)
class PlannedOperator:
    """What a layer or operation of a model becomes in a file.

    Attributes:
        layer: Its name.
        kind: Its class.
        arithmetic: "integer"; "dynamic": its input is rounded at run time where the runtime has a kernel for that;
            "weight-only": integers that are computed with in float; "float".
        status: In few words; of what is float, why.
        weights: Those that the file stores as integers.
        grid: Of its output; `None` where that is float, or lies on the grid of an input.
        stored: In what an exported file has weights of fewer than 8 bits, "int8"; empty: not known.
    """

    layer: str
    kind: str
    arithmetic: str
    status: str
    weights: tuple[PlannedWeight, ...] = ()
    grid: Grid | None = None
    stored: str = ""


@dataclasses.dataclass(frozen=True)
class ExportPlan(Document):
    """What each operator of a file computes in, each weight's encoding and each output's grid.

    Attributes:
        model: The model's name.
        format: "tflite" or "onnx".
        operators: In the order in which they are called.
        weights: All that are integers with scales in the model; a file stores those that `operators` have as integers.
        grids: {name of what rounds it: grid}, of all activations that are rounded to one.
        sources: {name of a layer of the exported graph, or of an output: layer of the model}.
        otherwise: Why what has no entry computes in float.
    """

    model: str
    format: str
    operators: tuple[PlannedOperator, ...]
    weights: PlannedWeights
    grids: Mapping[str, Grid]
    sources: Mapping[str, str]
    otherwise: str

    def __str__(self) -> str:
        from rich import box
        from rich.table import Table

        counts = ", ".join(
            f"{count} {kind}" for kind in ARITHMETIC if (count := sum(one.arithmetic == kind for one in self.operators))
        )
        table = Table(title=f"{self.model} as .{self.format}: {counts}", box=box.SIMPLE)
        for heading in ("layer", "class", "computes in", "weights", "output", "status"):
            table.add_column(heading, no_wrap=heading == "computes in", overflow="fold")
        for one in self.operators:
            weights, grid = ", ".join(map(_brief, one.weights)), one.grid
            weights += f" in {one.stored}" if one.stored else ""
            output = "" if grid is None else grid.brief()
            table.add_row(one.layer, one.kind, one.arithmetic, weights, output, one.status)
        return to_text(table, width=120)

    @functools.cached_property
    def layers(self) -> frozenset[str]:
        """The names of all layers and operations."""
        return frozenset(one.layer for one in self.operators)

    @functools.cached_property
    def integer(self) -> frozenset[str]:
        """The layers with weights that have integer kernels in the file."""
        return frozenset(one.layer for one in self.operators if one.arithmetic == "integer" and one.weights)

    @functools.cached_property
    def stored(self) -> frozenset[str]:
        """The layers whose weights are integers in the file, computed with or not."""
        return frozenset(one.layer for one in self.operators if one.weights)

    @functools.cached_property
    def reasons(self) -> dict[str, str]:
        """{layer: why it computes in float}, of those that do among integers."""
        floats = [one for one in self.operators if one.arithmetic in ("float", "weight-only")]
        return {one.layer: one.status for one in floats if one.status != NOT_QUANTIZED}

    @property
    def computes_in(self) -> dict[str, str]:
        """{layer: what it computes in, and of what is float among integers, why}."""
        reasons = self.reasons
        said = {one.layer: reasons.get(one.layer) or one.arithmetic for one in self.operators}
        return {layer: text if text.startswith(ARITHMETIC) else f"float: {text}" for layer, text in said.items()}

    def with_stored(self, weights: Iterable[StoredWeight]) -> ExportPlan:
        """Return the plan with what a file that was made after it stores weights in."""
        found: dict[str, list[str]] = {}
        for weight in weights:
            found.setdefault(weight.layer, []).append(weight.type)
        operators = (dataclasses.replace(one, stored=", ".join(found.get(one.layer, ()))) for one in self.operators)
        return dataclasses.replace(self, operators=tuple(operators))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the integers themselves, ready for JSON."""
        return {
            "version": 1,
            "model": self.model,
            "format": self.format,
            "operators": [
                {
                    "layer": one.layer,
                    "class": one.kind,
                    "arithmetic": one.arithmetic,
                    "status": one.status,
                    "stored": one.stored,
                    "output": None if one.grid is None else dataclasses.asdict(one.grid),
                    "weights": [
                        {
                            "name": weight.name,
                            "shape": list(weight.encoding.shape),
                            "bits": weight.encoding.bits,
                            "scale_axes": list(weight.encoding.axis),
                            "block": weight.encoding.block,
                            "scales": weight.encoding.scale.reshape(-1).tolist(),
                        }
                        for weight in one.weights
                    ],
                }
                for one in self.operators
            ],
        }


def plan_export(model: keras.Model, format: str = "tflite") -> ExportPlan:
    """Return what a file of a model will compute with, without writing one.

    `tfcompress.export` makes the same plan, and refuses a file in which a layer came out otherwise.

    Args:
        model: Built; one from `tfcompress.quantize` calibrated or trained. Of others every operator is float.
        format: "tflite" or "onnx".

    Returns:
        An `ExportPlan`: for each layer and operation what it computes in and why, its weights' integers and scales,
        and the grid of its output; `print` shows it, `to_json` writes it.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it isn't built, or quantized and not calibrated, or no runtime has kernels of so many bits.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="dense")])
    >>> plan = tfc.plan_export(tfc.quantize(model, "int8", np.ones((8, 4))), "onnx")
    >>> [(one.layer, one.arithmetic, [w.name for w in one.weights]) for one in plan.operators]
    [('dense_linear', 'integer', ['kernel'])]
    """
    check_built(model)
    check_choice("format", format, FORMATS)
    return made_plan(model, format, deploy(model, format))


def made_plan(model: keras.Model, kind: str, deployment: Deployment) -> ExportPlan:
    """Return the plan for a model.

    Args:
        model: Plain or wrapped.
        kind: "tflite" or "onnx".
        deployment: What is exported for it.
    """
    if not is_quantized(model):
        return ExportPlan(model.name, kind, tuple(_floats(model)), deployment.weights, {}, {}, "")
    scheme = deployment.scheme
    activations = None if scheme is None else scheme.activations
    weights: dict[str, list[PlannedWeight]] = {}
    for weight in deployment.weights.weights:
        weights.setdefault(weight.layer, []).append(weight)
    unrounded = _without_products(deployment) if activations == "dynamic" else set()
    operators = []
    for found in operator_status(model).values():
        own = tuple(weights.get(found.name, ()))
        arithmetic, status = _arithmetic(found, activations, kind, bool(own))
        if kind == "onnx" and arithmetic != "integer":
            rounded = arithmetic == "dynamic" and found.name not in unrounded
            stored = tuple(one for one in own if _pays(one, rounded))
            if own and not stored:
                arithmetic, status = "float", ", ".join(filter(None, (status, SMALL)))
            own = stored
        grid = _grid(found.quantizer) if arithmetic == "integer" else None
        operators.append(PlannedOperator(found.name, found.kind, arithmetic, status, own, grid))
    otherwise = {
        "static": "its surroundings are float, or no such kernel",
        "dynamic": f"only products{' of matrices' if kind == 'onnx' else ''} are rounded",
        None: "activations are float",
    }[activations]
    weights_grids = deployment.weights, deployment.grids
    return ExportPlan(model.name, kind, tuple(operators), *weights_grids, deployment.sources, otherwise)


def _without_products(deployment: Deployment) -> set[str]:
    """Return the layers whose weights of two dimensions no product of matrices multiplies in an ONNX file."""
    layers = flatten_layers(deployment.model, include_self=False)
    others = [layer for layer in layers if traits_of(layer).multiplications in ("recurrent", "none")]
    return {deployment.sources.get(layer.name, layer.name) for layer in others}


def _pays(weight: PlannedWeight, rounded: bool) -> bool:
    """Return whether an ONNX file without an integer kernel for a weight stores it as integers.

    Args:
        weight: With its encoding in the exported layer's layout.
        rounded: Whether what a matrix is multiplied by is rounded at run time.
    """
    integers = weight.encoding.integers
    return (rounded and integers.ndim == 2) or integers.size >= SMALLEST_STORED


def _floats(model: keras.Model) -> Iterator[PlannedOperator]:
    """Yield the operators of a model that isn't quantized."""
    for layer in leaf_layers(model):
        inner = innermost(layer)
        mode = mode_of(inner)
        status = f"quantized by Keras itself ({mode})" if mode else NOT_QUANTIZED
        yield PlannedOperator(layer.name, type(inner).__name__, "float", status)


def _arithmetic(found: OperatorStatus, activations: str | None, kind: str, weights: bool) -> tuple[str, str]:
    """Return what an operator computes in, and its status; of what is float, why."""
    stored = "weight-only" if weights else "float"
    if activations is None:
        return stored, found.status
    if activations == "dynamic":
        return ("dynamic" if weights else "float"), found.status
    if found.bits > 8 and kind == "onnx":
        return stored, f"ONNX Runtime has no kernels of {found.bits} bits"
    if found.fallback or (kind == "onnx" and "float in ONNX" in found.status):
        return stored, found.status
    return "integer", found.status


def _grid(quantizer: ActivationQuantizer | None) -> Grid | None:
    return None if quantizer is None or quantizer.spec.dynamic else quantizer.grid


def _brief(weight: PlannedWeight) -> str:
    name = "" if weight.name == "kernel" else f"{weight.name} "
    block = weight.encoding.block
    where = f" in blocks of {block}" if block else " per channel" if weight.encoding.axis else ""
    return f"{name}int{weight.encoding.bits}{where}"
