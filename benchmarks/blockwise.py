"""Dense layers with weights in blocks: bytes and time in ONNX Runtime and LiteRT, and what is left of the accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.harness import Setting, each_step, per_round, save, show
from tfcompress.export.onnx.weights.matmul_nbits import PackedMatrix
from tfcompress.quantization.encoding import Affine

SIZES = (
    *((64, 64), (128, 128), (256, 256), (256, 512), (512, 256), (64, 1024), (1024, 64), (128, 1024), (1024, 128)),
    *((256, 1024), (1024, 256), (512, 512), (1024, 1024), (768, 3072), (3072, 768), (2048, 2048)),
)
"""Inputs and outputs."""

ROWS = (1, 2, 4, 8, 16, 64)
WAYS = {"4 bits": (4, 32, 4), "4 bits, per channel": (4, 128, 4), "8 bits": (8, 32, 4), "2 bits": (2, 32, 4)}
"""{name: (bits, block, accuracy_level)}."""

TURN = 3
"""Milliseconds of a turn of one file."""


def kernels(setting: Setting) -> None:
    """Measure, print and save: what `tfcompress.export.onnx.weights.matmul_nbits` follows."""
    rows = []
    for inputs, outputs in SIZES:
        found: dict[str, dict[str, Any]] = {}
        for count in ROWS:
            x = np.random.default_rng(1).normal(size=(count, inputs)).astype(np.float32)
            steps = {way: run(inputs, outputs, how, x) for way, how in {"float": None, **WAYS}.items()}
            times = per_round(each_step(steps, setting.rounds, milliseconds=TURN))
            for way in WAYS:
                ratio = f"{np.median(times[way] / times['float']):.2f}"
                found.setdefault(way, {})["1 row" if count == 1 else f"{count} rows"] = ratio
        for way, ratios in found.items():
            rows.append({"inputs": inputs, "outputs": outputs, "weights": way, **ratios})
        show(f"MatMulNBits, time beside float, {inputs} x {outputs}", rows[-len(WAYS) :])
    save("blockwise_kernels", rows, f"{setting.command} --rounds={setting.rounds}")


def run(inputs: int, outputs: int, how: tuple[int, int, int] | None, x: np.ndarray) -> Any:
    """Return a function that multiplies by a random matrix, on one thread; `how`: as MatMulNBits."""
    import onnx
    import onnxruntime

    values = np.random.default_rng(0).normal(size=(inputs, outputs)).astype(np.float32)
    if how is None:
        constants = [onnx.numpy_helper.from_array(values, "w")]
        node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    else:
        bits, block, level = how[0], min(how[1], inputs), how[2]
        blocks = values.reshape(-1, block, outputs)
        limit = np.abs(blocks).max(axis=1)
        integers = Affine.symmetric(blocks, limit, bits, (0, 2))
        matrix = Affine(integers.integers.reshape(values.shape), integers.scale[:, 0], bits=bits)
        packed = PackedMatrix.of(matrix, bits)
        constants = [
            onnx.numpy_helper.from_array(part, name) for part, name in ((packed.data, "w"), (packed.scales, "s"))
        ]
        attributes = {**packed.node_attributes(), "accuracy_level": level}
        node = onnx.helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], **attributes)
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])
        for name, size in (("x", inputs), ("y", outputs))
    ]
    graph = onnx.helper.make_graph([node], "product", ends[:1], ends[1:], constants)
    domains = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})
