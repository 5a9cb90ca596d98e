"""What becomes of a layer: pruned, quantized to int8, shipped as TFLite and ONNX, beside the quantized Keras model."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from benchmarks.harness import rows_of
from tests.layer_cases import CASES, HEAD, STEM, Case

NAME = "support"
YES, FALLBACK, NOTHING = "yes", "float fallback", "-"
COLUMNS = ("pruning", "int8", "TFLite", "ONNX")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a layer.

    Attributes:
        row: {column: verdict}.
        problems: Files that differ from Keras by more than they may, in words.
    """

    row: dict[str, str]
    problems: tuple[str, ...]


def examine(name: str) -> Verdict:
    """Prune, quantize and export the model of a layer."""
    from tfcompress.quantization import quantize

    case = CASES[name]
    if isinstance(case, str):
        return Verdict({"layer": name, **dict.fromkeys(COLUMNS, NOTHING), "note": case}, ())
    row, problems = {"layer": name, **dict.fromkeys(COLUMNS, NOTHING), "note": ""}, []
    try:
        model = case.model()
    except Exception as error:
        return Verdict(
            {**row, **dict.fromkeys(COLUMNS, "refused"), "note": f"no functional model: {reason(error)}"}, ()
        )
    data = case.samples()
    row["pruning"] = pruning(model)
    notes = []
    try:
        quantized = quantize(model, "int8", data)
    except Exception as error:
        row["int8"], quantized = "refused", model
        notes.append(reason(error))
    else:
        fallbacks = floats_in_keras(model)
        row["int8"] = FALLBACK if fallbacks else YES
        notes += fallbacks
    expected = expected_outputs(quantized, case.samples(1))
    for column, suffix, floats_of in (("TFLite", ".tflite", floats_in_tflite), ("ONNX", ".onnx", floats_in_onnx)):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / f"model{suffix}"
            row[column], problem, note = shipped(case, quantized, expected, path, floats_of)
        problems += [f"{column}: {problem}"] if problem else []
        notes += [note] if note else []
    row["note"] = "; ".join(dict.fromkeys(notes))
    return Verdict(row, tuple(problems))


def examine_together(names: Sequence[str]) -> dict[str, list[str]]:
    """Prune layers, and quantize and export one model in which they stand side by side; each is to be all integer.

    Returns:
        {layer or file: what is wrong with it}.
    """
    from tfcompress.export import export
    from tfcompress.quantization import quantize
    from tfcompress.runtime.opening import open_runner

    cases = [CASES[name] for name in names]
    assert all(isinstance(case, Case) for case in cases)
    parts = [case.model(f"_of_{i}") for i, case in enumerate(cases)]
    model = keras.Model([x for part in parts for x in part.inputs], [y for part in parts for y in part.outputs])
    rows = committed()
    wrong: dict[str, list[str]] = {}
    for name, part in zip(names, parts, strict=True):
        if pruning(part) != rows[name]["pruning"]:
            wrong[name] = [f"pruning isn't {rows[name]['pruning']!r}"]
    owners = [(name, case) for name, case, part in zip(names, cases, parts, strict=True) for _ in part.outputs]
    quantized = quantize(model, "int8", [x for case in cases for x in case.samples()])
    new = [x for case in cases for x in case.samples(1)]
    expected = expected_outputs(quantized, new)
    wrong |= {"Keras": found} if (found := floats_in_keras(model)) else {}
    for suffix, floats_of in ((".tflite", floats_in_tflite), (".onnx", floats_in_onnx)):
        with tempfile.TemporaryDirectory() as folder:
            path = export(quantized, pathlib.Path(folder) / f"model{suffix}", verify=False).path
            values = list(open_runner(path).predict(new).values())
            floats = [name for name in dict.fromkeys(floats_of(path)) if name not in MOVES]
        wrong |= {suffix: floats} if floats else {}
        for (name, case), value, (reference, step) in zip(owners, values, expected, strict=True):
            if problem := difference(case, value, reference, step):
                wrong.setdefault(name, []).append(f"{suffix} {problem}")
    return wrong


def integer_throughout(row: dict[str, str]) -> bool:
    """Return whether nothing of a layer is float, or refused."""
    return all(row[column] in (YES, NOTHING) for column in ("int8", "TFLite", "ONNX"))


def pruning(model: keras.Model) -> str:
    """Return whether the layer is pruned; the dense layers around it aren't meant."""
    from tfcompress.core.transform import read
    from tfcompress.pruning import prune_once

    ours = {layer.name for layer in around(model)}
    if not any(layer.trainable_variables for layer in model.layers if layer.name not in ours):
        return NOTHING
    pruned = [layer for layer in prune_once(model, 0.5).layers if layer.name not in ours]
    zeros = [np.mean(read(weight) == 0) for layer in pruned for weight in layer.trainable_variables]
    return YES if any(0.3 < share < 0.7 for share in zeros) else NOTHING


def around(model: keras.Model) -> list[Any]:
    return [layer for layer in model.layers if layer.name.startswith((HEAD, f"{STEM}_"))]


def floats_in_keras(model: keras.Model) -> list[str]:
    """Return what quantization leaves in float, in words."""
    from tfcompress.graph import rebuild
    from tfcompress.graph.index import index_of
    from tfcompress.quantization.graph.decompose import lower
    from tfcompress.quantization.graph.op_policies import FLOAT
    from tfcompress.quantization.graph.placement import place
    from tfcompress.quantization.quantize_config import QuantizeConfig

    graph = index_of(lower(rebuild(model, check=False), static=True))
    placement = place(graph, dict.fromkeys(graph, QuantizeConfig.get("int8")))
    found = [
        rule.note.removeprefix("float fallback: ") or "no integer kernel"
        for call, rule in placement.rules.items()
        if rule.kind == FLOAT
    ]
    return list(dict.fromkeys(found))


def expected_outputs(model: keras.Model, data: list[np.ndarray]) -> list[tuple[np.ndarray, float | None]]:
    """Return each output of the Keras model on data, and the step of the grid on which it lies."""
    from tfcompress.export.plan.deployment import deploy
    from tfcompress.quantization.quantize import is_quantized

    outputs = [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(model(data, training=False))]
    scales = deploy(model, "tflite").scales.values() if is_quantized(model) else [None] * len(outputs)
    return list(zip(outputs, scales, strict=True))


def shipped(
    case: Case,
    model: keras.Model,
    expected: list[tuple[np.ndarray, float | None]],
    path: pathlib.Path,
    floats_of: Callable[[pathlib.Path], list[str]],
) -> tuple[str, str, str]:
    """Return (verdict, how it differs from Keras by too much, what to note)."""
    from tfcompress.export import export
    from tfcompress.runtime.opening import open_runner

    kind = path.suffix[1:]
    try:
        export(model, path, verify=False)
        received = open_runner(path).predict(case.samples(1))
    except Exception as error:
        return "refused", "", f"{kind}: {reason(error)}"
    values = list(received.values()) if isinstance(received, dict) else [received]
    pairs = zip(values, expected, strict=True)
    problem = ", ".join(filter(None, (difference(case, value, *reference) for value, reference in pairs)))
    floats = [name for name in dict.fromkeys(floats_of(path)) if name not in MOVES]
    note = f"{kind} in float: {', '.join(floats)}" if floats else ""
    return (FALLBACK if floats else YES), problem, note


def difference(case: Case, value: Any, reference: np.ndarray, step: float | None) -> str:
    """Return by how much more than it may an output differs, in words, or nothing."""
    off, largest = np.abs(np.asarray(value, "float64") - reference).max(), np.abs(reference).max()
    if off <= (case.steps * 1.01 * step if step else case.relative * largest):
        return ""
    return f"differs by {off / step:.1f} steps" if step else f"differs by {off:.3g} of {largest:.3g}"


MOVES = (
    *("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "GATHER", "SLICE", "STRIDED_SLICE"),
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Gather", "Slice", "Expand", "Cast"),
)
"""What computes nothing; at a model's end it may be done with floats."""


def floats_in_tflite(path: pathlib.Path) -> list[str]:
    """Return the operators of a file that give floats, but for what turns integers into floats."""
    from tfcompress.export.tflite.flatbuffer import operators

    return [op.name for op in operators(path.read_bytes()) if "FLOAT32" in op.outputs and op.name != "DEQUANTIZE"]


NOT_FLOAT = (
    *("QuantizeLinear", "Shape", "ArgMax", "ArgMin", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"),
    *("Not", "And", "Or"),
)
"""What never gives floats."""


def floats_in_onnx(path: pathlib.Path) -> list[str]:
    """Return likewise the operators that ONNX Runtime runs, after its own optimizations."""
    graph = optimized(path)
    floats = {x.name for x in graph.input if x.type.tensor_type.elem_type == 1}
    floats |= {x.name for x in graph.initializer if x.data_type == 1}
    found = []
    for node in graph.node:
        gives = any(x in floats for x in node.input)
        if node.op_type == "Resize":
            gives = node.input[0] in floats  # its factors are floats, too
        elif node.op_type in NOT_FLOAT or node.op_type.startswith("QLinear"):
            gives = False  # the scales that they take are floats
        elif node.op_type == "QGemm":
            gives = len(node.input) < 8 or not node.input[7]
        elif node.op_type == "Cast":
            gives = node.attribute[0].i == 1
        elif node.op_type == "DequantizeLinear":
            gives = True
        elif node.op_type == "Constant":
            gives = any(a.t.data_type == 1 for a in node.attribute)
        if gives:
            floats.update(node.output)
            if node.op_type not in ("DequantizeLinear", "Constant"):
                found.append(node.op_type)
    return found


def optimized(path: pathlib.Path) -> Any:
    """Return the graph that ONNX Runtime makes of a file's."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath).graph


def reason(error: Exception) -> str:
    """Return the beginning of a message, without what colours it in a terminal."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:200]


def committed() -> dict[str, dict[str, str]]:
    """Return the rows that are kept, by layer."""
    return {row["layer"]: row for row in rows_of(NAME)}
