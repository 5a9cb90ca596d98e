"""What peers' own debugging of accuracy ends with: what it finds worst stays float, one operator after the other."""

from __future__ import annotations

import logging
import os
import pathlib
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.peers import by_input, recipe_of

Judge = Callable[[pathlib.Path], float]
"""How much worse a file is than the float model, in points of the metric."""


def left_float(
    made: Callable[[Sequence[str]], bytes], worst: Sequence[str], path: pathlib.Path, judge: Judge, most: float
) -> tuple[int, float]:
    """Write the file in which the fewest of the worst operators are float, such that it is hardly worse than all float.

    Args:
        made: Takes operators, returns a file in which they are float.
        worst: Operators, the worst first.
        path: Where the file goes.
        judge: Of a file.
        most: By how much it may be worse.

    Returns:
        How many operators are float, and how much worse the file is: with all float, if none is good enough.
    """
    for count in range(len(worst) + 1):
        path.write_bytes(made(worst[:count]))
        drop = judge(path)
        if drop <= most:
            break
    return count, drop


def onnx_runtime(
    floats: pathlib.Path, calibration: np.ndarray | Sequence[np.ndarray], path: pathlib.Path, judge: Judge, most: float
) -> tuple[int, float]:
    """Quantize with ONNX Runtime, and leave float what its `qdq_loss_debug` finds to differ most from float.

    Args:
        floats: The float file.
        calibration: Samples, an array for each input if there are several.
        path: Where the file goes.
        judge: Of a file.
        most: By how much it may be worse.

    Returns:
        As `left_float`.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization import qdq_loss_debug
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            names = [given.name for given in onnx.load(ready).graph.input]
            arrays = zip(*by_input(calibration), strict=True)
            self.samples = ({name: x[None] for name, x in zip(names, sample, strict=True)} for sample in arrays)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.samples, None)

    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ready, file = (os.path.join(folder, name) for name in ("ready.onnx", "made.onnx"))
        quant_pre_process(str(floats), ready, skip_symbolic_shape=True)

        def made(excluded: Sequence[str]) -> bytes:
            quantization.quantize_static(
                ready,
                file,
                Reader(),
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=list(excluded),
            )
            return pathlib.Path(file).read_bytes()

        made(())
        activations = []
        for source in (ready, file):
            watched = os.path.join(folder, f"watched_{os.path.basename(source)}")
            qdq_loss_debug.modify_model_output_intermediate_tensors(source, watched)
            activations.append(qdq_loss_debug.collect_activations(watched, Reader()))
        pairs = qdq_loss_debug.create_activation_matching(activations[1], activations[0])
        found = qdq_loss_debug.compute_activation_error(pairs)
        ratio = {name: one.get("xmodel_err", one["qdq_err"]) for name, one in found.items()}  # decibels
        nodes = [node for node in onnx.load(ready).graph.node if any(x in ratio for x in node.output)]
        worst = sorted(nodes, key=lambda node: min(ratio[x] for x in node.output if x in ratio))
        return left_float(made, [node.name for node in worst], path, judge, most)


def ai_edge(
    content: bytes, calibration: np.ndarray, path: pathlib.Path, judge: Judge, most: float
) -> tuple[int, float]:
    """Quantize with ai-edge-quantizer, and leave float what its `validate` finds to differ most from float.

    Args:
        content: The float file.
        calibration: Samples of the one input.
        path: Where the file goes.
        judge: Of a file.
        most: By how much it may be worse.

    Returns:
        As `left_float`.
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer.utils.validation_utils import ValidationErrorMetric

    (key, signature), *_ = Interpreter(model_content=content).get_signature_list().items()
    data = {key: [{signature["inputs"][0]: x[None]} for x in calibration]}

    def quantized(excluded: Sequence[str]) -> Any:
        made = quantizer.Quantizer(bytearray(content), recipe_of("static_wi8_ai8"))
        for name in excluded:
            made.update_quantization_recipe(re.escape(name), "*", algorithm_key="no_quantize")
        made.quantize(made.calibrate(data, num_threads=1), enable_progress_report=False)
        return made

    def file(excluded: Sequence[str]) -> bytes:
        if len(excluded) == len(worst):
            return content  # it refuses to leave all as it is
        return bytes(quantized(excluded)._result.quantized_model)

    first = quantized(())
    metric = ValidationErrorMetric.SNR
    compared = first.validate(data, [metric], num_threads=1).get_signature_comparison_result(key)
    ratio = {**compared.input_tensors, **compared.intermediate_tensors, **compared.output_tensors}
    names = [name for name in _outputs(content) if name in ratio]
    worst = sorted(names, key=lambda name: next(iter(ratio[name].values())))
    return left_float(file, worst, path, judge, most)


def _outputs(content: bytes) -> Iterator[str]:
    """Yield the names of the inputs of a TFLite file, which are quantized by themselves, and of what operators make."""
    from ai_edge_litert.interpreter import Interpreter

    opened = Interpreter(model_content=content)
    names = {tensor["index"]: tensor["name"] for tensor in opened.get_tensor_details()}
    yield from (given["name"] for given in opened.get_input_details())
    for operator in opened._get_ops_details():
        yield from (names[int(place)] for place in operator["outputs"])
