"""Which tensor of a file is which tensor of a Keras model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfcompress.parity.probing.file_tensors import FileTensor, Observer
from tfcompress.parity.probing.model_tensors import Probe
from tfcompress.tracing.trace import CALL_SUFFIX


@dataclasses.dataclass(frozen=True)
class Candidates:
    """What a probe may be in a file: the most likely tensor by name and grid, if there is one, and all."""

    likely: FileTensor | None = None
    tensors: Sequence[FileTensor] = ()


def match(found: Sequence[Probe], observer: Observer, known: set[str]) -> list[Candidates]:
    """Find the tensors of a file that each probe may be.

    A file says the names of quantizers itself (ONNX), or its tensors are called as the operations of the layers; two
    that are on the same grid and of the same size are the same one more likely than others.

    Args:
        found: the probes, in order.
        observer: the file.
        known: the names of all layers of the model.
    """
    scopes = {tensor.key: _scopes(tensor.name, known) for tensor in observer.tensors}
    order = {probe.names[0]: place for place, probe in enumerate(found)}
    folded = {probe.names[0]: probe.folded for probe in found if probe.folded}
    ends = list(observer.outputs.values())
    matched: list[Candidates] = []
    for probe in found:
        if probe.output is not None and probe.output < len(ends):
            matched.append(Candidates(ends[probe.output], [ends[probe.output]]))
        elif probe.name in observer.named:
            matched.append(Candidates(observer.named[probe.name], [observer.named[probe.name]]))
        elif probe.folded:
            matched.append(Candidates())
        elif probe.scale is not None:
            matched.append(_on_grid(probe, observer, scopes))
        else:
            matched.append(_of_layer(probe, observer, scopes, order, folded))
    return matched


Scopes = list[tuple[str, str]]
"""For each operation that a tensor's name holds: the scope up to the innermost layer, and the name of the layer."""


def _scopes(name: str, known: set[str]) -> Scopes:
    found = []
    for part in name.split(";"):
        path = part.split(":")[0].split("/")
        for depth in range(1, len(path) + 1):
            component = path[depth - 1]
            # A name that stands alone was given as it is; in a scope it has the number of the call behind it.
            candidates = [component] if len(path) == 1 else [CALL_SUFFIX.sub("", component), component]
            layer = next((candidate for candidate in candidates if candidate in known), None)
            if layer is not None:
                found.append(("/".join(path[:depth]), layer))
                break
        else:
            found.append(("", ""))
    return found


def fits(probe: Probe, tensor: FileTensor) -> bool:
    """Return whether the sizes, as far as they are known, allow a tensor to be a probe's."""
    wanted = probe.tensor.shape[1:]
    if tensor.shape is None or None in tensor.shape[1:] or None in wanted:
        return True
    size = math.prod(wanted)
    # Some operators leave the batch of 1 out, or merge it with what follows.
    return size in (math.prod(s or 1 for s in tensor.shape[1:]), math.prod(s or 1 for s in tensor.shape))


def _on_grid(probe: Probe, observer: Observer, scopes: Mapping[Any, Scopes]) -> Candidates:
    """Return the tensors on a quantizer's grid: by grid and name, else by name, else by grid."""
    assert probe.scale is not None
    ranked: dict[int, list[FileTensor]] = {}
    for tensor in observer.tensors:
        if not fits(probe, tensor):
            continue
        layers = {layer for _, layer in scopes[tensor.key]}
        named = not layers.isdisjoint(probe.names)
        same = tensor.scale is not None and abs(tensor.scale - probe.scale) <= 1e-4 * probe.scale
        if tensor.scale is None:
            rank = 3 if probe.names[0] in layers else None  # else it is what is before the quantizer
        else:
            rank = (0 if same else 1) if named else 2 if same else None
        if rank is not None:
            ranked.setdefault(rank, []).append(tensor)
    best = [*ranked.get(0, []), *ranked.get(2, [])] or ranked.get(1) or ranked.get(3) or []
    firm = {tensor.key for tensor in ranked.get(0, [])}
    # What follows a quantizer may only move its values: the first of these tensors is its own.
    shape = tuple(probe.tensor.shape[1:])
    best.sort(key=lambda tensor: (tensor.key not in firm, tensor.shape is None or tensor.shape[1:] != shape))
    unsure = best and best[0].key not in firm and best[0].scale is not None and len(best) > 1
    return Candidates(None if unsure or not best else best[0], best)


def _of_layer(
    probe: Probe,
    observer: Observer,
    scopes: Mapping[Any, Scopes],
    order: Mapping[str, int],
    folded: Mapping[str, str | None],
) -> Candidates:
    """Return the last tensor that a layer computes in each of its calls, then what else may be its output."""
    groups: dict[str, list[FileTensor]] = {}
    nameless = []
    by_key = {tensor.key: tensor for tensor in observer.tensors}
    entries = {tensor.key for tensor in observer.inputs.values()}

    def maker(tensor: FileTensor) -> tuple[str, str]:
        parts = [(scope, folded.get(layer) or layer) for scope, layer in scopes[tensor.key]]
        # Operations that are fused into one have all their names: the tensor is what the last of them makes.
        return max(parts, key=lambda part: order.get(part[1], -1))

    def given(tensor: FileTensor) -> bool:
        """Return whether it is what the layer gets, in the shape that the layer wants."""
        origin = tensor
        while origin.same_as in by_key:
            origin = by_key[origin.same_as]
        if origin is tensor or probe.moved:
            return False
        return origin.key in entries or maker(origin)[1] not in ("", probe.names[0])

    for tensor in observer.tensors:
        if not tensor.real_numbers or not fits(probe, tensor):
            continue
        scope, layer = maker(tensor)
        if layer == probe.names[0]:
            if not given(tensor):
                groups.setdefault(scope, []).append(tensor)
        elif not layer and tensor.shape is not None:
            nameless.append(tensor)
    last = [tensors[-1] for tensors in groups.values()]
    others = [tensor for tensors in groups.values() for tensor in tensors[:-1]]
    return Candidates(last[0] if last else None, [*last, *others, *nameless])
