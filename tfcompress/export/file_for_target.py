"""A written file for a target: in which runtime it runs there, and what it has that the target can't do."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfcompress.core.memory_limits import too_much, verdict
from tfcompress.export.artifact import Artifact
from tfcompress.export.file_arithmetic import read_arithmetic
from tfcompress.export.for_target import WORDS
from tfcompress.export.plan.export_plan import ExportPlan
from tfcompress.export.plan.file_check import floats_by_layer, layers_in
from tfcompress.export.plan.file_operators import FileArithmetic, Operators, StoredWeight
from tfcompress.export.tflite.flatbuffer import File
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.runtime.arena import Arena
from tfcompress.runtime.runner import format_of
from tfcompress.targets import Target
from tfcompress.targets import get as get_target


def runtime_for(
    path: str | os.PathLike[str], target: str | os.PathLike[str] | Target | None, runtime: str | None = None
) -> str | None:
    """Return the runtime that a file is to be run in; refuse a file with what its target can't do.

    Args:
        path: Of a `.tflite` or `.onnx` file, written by anyone, or an `Artifact`, which knows its layers.
        target: What it is for; `None`: not said.
        runtime: That was asked for; `None`: of a target the last that proves such files, else that of the artifact.

    Raises:
        ValueError: The target can't run the file, or is proved in another runtime; the message says what to do.
    """
    if target is None:
        return runtime or getattr(path, "runtime", None)  # an artifact knows its own
    machine = get_target(target)
    kind = format_of(path)
    if kind not in machine.formats:
        raise ValueError(
            f"Expected a .{machine.formats[0]} file for target {machine.name!r}. Received: {os.fspath(path)!r}. Export "
            "the model so, or name targets by file."
        )
    runtimes = machine.runtimes_of(kind)
    if runtime is not None and runtime not in runtimes:
        raise ValueError(
            f"Expected runtime={' or '.join(map(repr, runtimes))}, where files for target {machine.name!r} are proved. "
            f"Received: runtime={runtime!r} and target={machine.name!r}. Leave one of them out."
        )
    if pathlib.Path(path).is_file():  # else the runtime says so
        check_file(path, machine)
    return runtime or runtimes[-1]


def check_file(path: str | os.PathLike[str], target: Target) -> None:
    """Refuse a file with what a target can't do.

    Args:
        path: Of the file, or an `Artifact`.
        target: What it is for.

    Raises:
        ValueError: It has that; the message names the layer, as far as it is known, and what to do.
    """
    file = pathlib.Path(path)
    kind = format_of(file)
    try:
        arithmetic = read_arithmetic(file)
    except Exception:  # no model file: the runtime says so
        return
    artifact = path if isinstance(path, Artifact) else None
    plan = None if artifact is None else artifact.plan
    try:
        if target.fixed_sizes:
            _check_sizes(file, kind, target)
        if kind == "tflite":
            known = () if plan is None else (*plan.layers, *plan.sources)
            names = () if artifact is None else artifact.tensor_names
            check_operators(file, target, frozenset(known), {} if plan is None else plan.sources, names)
        found = artifact.operators if artifact is not None and artifact.operators else arithmetic.counted()
        check_widths(found.narrow or _narrow(arithmetic), target)
        _check_numbers(file, arithmetic.precision, target)
        if target.integers_only:
            _check_integers(file, found, target)
    except ValueError as error:
        raise ValueError(
            f"{error} tfc.export(..., target={target.name!r}) does what can be done, and names the layer."
        ) from None


def check_written(path: pathlib.Path, target: Target, plan: ExportPlan, layers: frozenset[str]) -> None:
    """Refuse a file that was just written for a target, by its operators (see `check_operators`)."""
    check_operators(path, target, layers | frozenset(plan.sources), plan.sources)


def check_operators(
    path: pathlib.Path,
    target: Target,
    layers: frozenset[str],
    sources: Mapping[str, str],
    tensor_names: Sequence[str] = (),
) -> None:
    """Refuse a `.tflite` file with operators that the target's runtime hasn't, or reads wrongly.

    Args:
        path: Of the file.
        target: What it is for.
        layers: The names of the model's layers.
        sources: {name of a layer of the exported graph: layer of the model}.
        tensor_names: Of the first graph, where the file itself doesn't have them.

    Raises:
        ValueError: There is one; the message names the layer and what to do.
    """
    known = target.known_operators
    if known is None:
        return
    file = File(path.read_bytes())
    for graph in file.graphs:
        names = [graph.tensor_name(place) for place in range(len(graph.tensors))]
        if graph is file.graphs[0] and len(tensor_names) == len(names):
            names = list(tensor_names)
        for op in graph.operators:
            name = graph.name(op)
            if known.missing([name]):
                way = known.ways.get(name, "Write that part with other layers.")
                raise ValueError(
                    f"Expected operators that {known.runtime} {known.version} has, for target {target.name!r}. "
                    f"Received: {name} of {_where(op, names, layers, sources)}. {way}"
                )
            scales = _scales(graph, int(op.inputs[0])) if name in known.one_scale else 1
            if scales > 1:
                raise ValueError(
                    f"Expected one scale for what {name} unpacks, of which {known.runtime} {known.version} reads no "
                    f"more. Received: {scales} at {_where(op, names, layers, sources)}. {known.ways[name]}"
                )


def check_widths(narrow: Iterable[StoredWeight], target: Target) -> None:
    """Refuse a written file with weights in types of fewer bits than the target reads.

    Raises:
        ValueError: There is one; the message names the layer.
    """
    for weight in narrow:
        found = re.fullmatch(r"u?int(\d+)", weight.type.lower())
        if found and int(found[1]) < 8 and int(found[1]) not in target.weight_bits:
            raise ValueError(
                f"Expected weights stored in {' or '.join(map(str, target.weight_bits))} bits, as target "
                f"{target.name!r} reads them. Received: {weight.type} at layer {weight.layer!r}. Quantize with these "
                "bits."
            )


def check_fits(path: pathlib.Path, nbytes: int, arena: Arena | None, ram: int | None, flash: int | None) -> None:
    """Refuse a file that needs more memory than there is, and say by how much; no limit: any.

    Raises:
        ValueError: It does.
    """
    needs = {"flash": (nbytes, flash), "RAM": (0 if arena is None else arena.total, ram)}
    if too_much(needs):
        said = ", ".join(f"{took:,} bytes of {name}" for name, (took, most) in needs.items() if most is not None)
        raise ValueError(
            f"Expected a file that fits into ram={ram} and flash={flash} bytes. Received: {path.name!r}, which needs "
            f"{said}: {verdict(needs)}. Remove channels (tfc.prune with granularity='channel', tfc.shrink), which "
            "saves both; weights of few values with weights='coded' save flash."
        )


def _narrow(arithmetic: FileArithmetic) -> list[StoredWeight]:
    """Return the weights of few bits of a file that nothing else is known of, by what their operators make."""
    return [StoredWeight(op.tensor, 0, op.weights) for op in arithmetic.operators if op.weights]


def _check_sizes(path: pathlib.Path, kind: str, target: Target) -> None:
    for name, shape in _shapes(path, kind):
        if -1 in shape:
            raise ValueError(
                f"Expected inputs of fixed sizes for target {target.name!r}. Received: {name!r} of shape "
                f"{tuple(None if size < 0 else size for size in shape)} in {str(path)!r}. Make the model with fixed "
                "sizes, and set_weights."
            )


def _shapes(path: pathlib.Path, kind: str) -> list[tuple[str, list[int]]]:
    """Return the name and the shape of each input of a file, with -1 for a free size."""
    if kind == "tflite":
        graph = File(path.read_bytes()).graphs[0]
        found = []
        for index in map(int, graph.graph.inputs):
            signature = graph.tensors[index].shapeSignature
            shape = graph.shape(index) if signature is None or not len(signature) else signature
            found.append((graph.tensor_name(index), [int(size) for size in shape]))
        return found
    import onnx

    inputs = onnx.load(path, load_external_data=False).graph.input
    shapes = [[one.dim_value or -1 for one in value.type.tensor_type.shape.dim] for value in inputs]
    return [(value.name, shape) for value, shape in zip(inputs, shapes, strict=True)]


def _check_numbers(path: pathlib.Path, precision: str, target: Target) -> None:
    found = numbers_in(precision)
    if found not in target.numbers:
        raise ValueError(
            f"Expected {', or '.join(WORDS[one] for one in target.numbers)}, in which target {target.name!r} computes. "
            f"Received: {str(path)!r} with {WORDS[found]}."
        )


def numbers_in(precision: str) -> str:
    """Return in what numbers a file computes, as `Target.numbers` names it.

    >>> [numbers_in(each) for each in ("float16", "int8x4", "int16x8", "int4 weights", "dynamic int8")]
    ['float16', 'int8', 'int16x8', 'int8_weights', 'dynamic_int8']
    """
    if precision.startswith("float"):
        return precision
    if precision.startswith("dynamic"):
        return "dynamic_int8"
    if precision.endswith("weights"):
        return "int8_weights"
    return "int16x8" if precision.startswith("int16") else "int8"


def _check_integers(path: pathlib.Path, found: Operators, target: Target) -> None:
    if found.floats:
        raise ValueError(
            f"Expected operators that compute in integers alone, for target {target.name!r}. Received: {str(path)!r}, "
            f"of which {len(found.floats)} of {len(found.floats) + found.integer} compute in float: "
            f"{floats_by_layer(found)}. Quantize the model with 'int8', or replace these layers."
        )


def _scales(graph: Graph, tensor: int) -> int:
    grid = graph.tensors[tensor].quantization
    return 0 if grid is None or grid.scale is None else len(grid.scale)


def _where(op: Any, names: Sequence[str], layers: frozenset[str], sources: Mapping[str, str]) -> str:
    those = [names[int(index)] for index in (*op.outputs, *op.inputs) if index >= 0]
    found = next(layers_in(those, layers), None)
    return f"layer {sources.get(found, found)!r}" if found is not None else repr(those[0])
