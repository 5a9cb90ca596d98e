"""The tensors of a Keras model that a file should compute, too."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import keras

from tfcompress.core.wrapper import wrapped_layers
from tfcompress.graph import rebuild, strip
from tfcompress.graph.index import GraphIndex, index_of
from tfcompress.graph.inputs.symbolic import is_graph
from tfcompress.graph.rewrite import Call
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer, activation_quantizers
from tfcompress.quantization.graph.op_policies import TRANSPARENT, rule_of
from tfcompress.quantization.graph.placement import place as placed
from tfcompress.quantization.graph.quantizer_sources import name_of_call, quantizer_of
from tfcompress.quantization.quantize import is_quantized


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """A tensor of a Keras model that a file should compute, too.

    Attributes:
        name: of the quantizer or layer that makes it.
        source: of the layer whose output it is.
        tensor: symbolic.
        scale: of its quantization; None: float.
        names: of the layers whose work it may hold: the quantizer, then what is before it.
        output: the place among the model's outputs, or None.
        folded: the name of what it is folded into in a file, so that it isn't there itself; or None.
        moved: whether it only moves the values of what is before it.
    """

    name: str
    source: str
    tensor: Any
    scale: float | None
    names: tuple[str, ...]
    output: int | None = None
    folded: str | None = None
    moved: bool = False

    @property
    def values(self) -> int:
        """How many numbers it has for one sample, as far as its sizes are known."""
        return math.prod(size or 1 for size in self.tensor.shape[1:])


def flat(model: keras.Model) -> keras.Model:
    """Return a model as one flat functional graph without wrappers that training alone needs."""
    if static_quantizers(model):
        return model
    plain = strip(model) if wrapped_layers(model) and not is_quantized(model) else model
    return rebuild(plain, check=False)


def static_quantizers(model: keras.Model) -> list[ActivationQuantizer]:
    """Return the quantizers of a model that have a range; of one that isn't functional none."""
    if not is_graph(model):
        return []
    return [quantizer for quantizer in activation_quantizers(model) if not quantizer.spec.dynamic]


def probes(model: keras.Model) -> list[Probe]:
    """Return what can be compared of a flat model, in the order in which it is computed.

    Of a model with ranges, the output of each quantizer; of another one, that of each layer; then the model's
    outputs that are none of these.
    """
    graph = index_of(model)
    places = {id(x): place for place, x in enumerate(model.outputs)}
    quantized = bool(static_quantizers(model))
    folded = {} if quantized or not is_quantized(model) else _folded(graph)
    found = []
    for call in graph:
        isolated = isinstance(call.operation, ActivationQuantizer)
        if isolated is not quantized:
            continue
        floats = [x for x in call.outputs if keras.backend.is_float_dtype(x.dtype)]
        for place, x in enumerate(floats):
            own = name_of_call(call, graph) if isolated else call.operation.name
            name = own if len(floats) == 1 else f"{own}[{place}]"
            names = (own, *_before(call, graph)) if quantized else (own,)
            scale = call.operation.grid.scale if isolated else None
            first = isolated and call.keywords.get("observe", True)
            source = (call.operation.source if first else "") or names[-1]
            moved = rule_of(call).kind == TRANSPARENT
            found.append(Probe(name, source, x, scale, names, places.get(id(x)), folded.get(call), moved))
    there = {id(probe.tensor) for probe in found}
    for x in model.outputs:
        if id(x) not in there:
            last = graph.producer(x)
            source = last.operation.name if last else x.name
            scale = tensor_scale(x, graph) if quantized else None
            found.append(Probe(model.output_names[places[id(x)]], source, x, scale, (source,), places[id(x)]))
    return found


def _folded(graph: GraphIndex) -> dict[Call, str]:
    """Return {call: name of the last affine map that is folded into it}."""
    found: dict[Call, str] = {}
    maps = placed(graph).folded
    for call in (call for call in graph if call in maps):
        before = graph.producer(call.inputs[0])
        while before is not None:
            found[before] = call.operation.name
            before = graph.producer(before.inputs[0]) if before in maps else None
    return found


def _before(call: Call, graph: GraphIndex) -> Iterator[str]:
    """Yield the names of what is before a quantizer, up to the one before it or to where branches meet."""
    while len(call.inputs) == 1:
        before = graph.producer(call.inputs[0])
        if before is None:
            yield call.inputs[0].name
            return
        if isinstance(before.operation, ActivationQuantizer):
            return
        yield before.operation.name
        call = before


def tensor_scale(x: Any, graph: GraphIndex) -> float | None:
    """Return the scale with which a tensor is quantized: its quantizer's, or that of what is only moved to it."""
    quantizer = quantizer_of(x, graph.producer)
    return None if quantizer is None or quantizer.spec.dynamic else quantizer.grid.scale


def output_scales(model: keras.Model) -> list[float | None]:
    """Return the scale of each output of a model, in their order; None where it has none."""
    if not static_quantizers(model):
        return []
    graph = index_of(model)
    return [tensor_scale(x, graph) for x in model.outputs]


def is_dynamic(model: keras.Model) -> bool:
    """Return whether a model finds ranges at run time."""
    return any(quantizer.spec.dynamic for quantizer in activation_quantizers(model))
