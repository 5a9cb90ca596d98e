"""Dense layers with weights in blocks: bytes and time in ONNX Runtime and LiteRT, and what is left of the accuracy."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import peers
from benchmarks.data import mnist
from benchmarks.files import NOTHING, Folder, accuracy, outputs, runner
from benchmarks.harness import Setting, each_step, milliseconds, per_round, save, show
from benchmarks.inference import invocation
from benchmarks.networks import trained_perceptron
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

SEARCHED = tfc.QuantizeConfig(tfc.WeightSpec(bits=4, granularity=32, range="mse"), activations=None)
RECIPES = {
    **{name: name for name in ("int4_weights", "int4_blockwise", "dynamic_int4")},
    "int4_blockwise, range='mse'": SEARCHED,
}


def files(setting: Setting) -> None:
    """Measure, print and save."""
    folder = Folder(setting.cache / "blockwise")
    model, test, labels = perceptron(setting.data, folder.path / "perceptron.keras")
    rows = []
    for suffix in (".onnx", ".tflite"):
        made = list(written(folder, model, suffix))
        steps = {way: invocation(path) if suffix == ".tflite" else runner(path, test) for way, path in made}
        times = per_round(each_step(steps, setting.rounds, milliseconds=TURN))
        scores = {way: outputs(path, test) for way, path in made}
        for way, path in made:
            error = np.mean(np.square(scores[way] - scores["float32"]))
            row = {"format": {".onnx": "ONNX", ".tflite": "TFLite"}[suffix], "file": way, "bytes": path.stat().st_size}
            row |= {**milliseconds(times[way]), "time": f"{np.median(times[way] / times['float32']):.2f}"}
            row["SQNR dB"] = f"{10 * np.log10(scores['float32'].var() / error):.1f}" if error else NOTHING
            rows.append({**row, "accuracy %": f"{accuracy(scores[way], labels):.2f}"})
    show("Weights of 4 bits, 1024-1024-1024-10, one inference, one thread", rows)
    save("blockwise", rows, f"{setting.command} --rounds={setting.rounds}")


def perceptron(data: pathlib.Path, kept: pathlib.Path) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """Return a perceptron for MNIST whose images have a border, so that they are 32 x 32, and test data.

    Args:
        data: The folder with data sets.
        kept: The file for the trained model.
    """
    (x, labels), (test, wanted) = mnist(data)
    x, test = (np.pad(part[..., 0], ((0, 0), (2, 2), (2, 2))).reshape(-1, 1024) for part in (x, test))
    return trained_perceptron((x.astype(np.float32), labels), kept), test.astype(np.float32), wanted


def written(folder: Folder, model: keras.Model, suffix: str) -> Iterator[tuple[str, pathlib.Path]]:
    """Yield the files of a format: ours, proven, and a peer's with blocks of 32."""

    def path(way: str, model: keras.Model, **how: Any) -> tuple[str, pathlib.Path]:
        return way, tfc.export(model, folder.name(way, suffix), overwrite=True, **how).path

    yield path("float32", model)
    for recipe, config in RECIPES.items():
        quantized = tfc.quantize(model, config)
        if suffix == ".tflite" or recipe == "dynamic_int4":
            yield path(recipe, quantized)
        else:
            for way in ("plain", "auto"):
                yield path(f"{recipe}, weights='{way}'", quantized, weights=way)
    if suffix == ".tflite":
        content = peers.ai_edge(peers.tensorflow_float(model), "dynamic_wi4b32_afp32")
        yield "ai-edge-quantizer", folder.peer("ai-edge-quantizer", suffix, content).path
    else:
        content = peers.onnx_runtime_matmul(folder.name("float32", suffix), 4, accuracy_level=4, block=32)
        yield "ONNX Runtime", folder.peer("ONNX Runtime", suffix, content).path


def kernels(setting: Setting) -> None:
    """Measure, print and save: what `tfcompress.export.onnx.weights.matmul_nbits` follows."""
    rows = []
    for inputs, units in SIZES:
        found: dict[str, dict[str, Any]] = {}
        for count in ROWS:
            x = np.random.default_rng(1).normal(size=(count, inputs)).astype(np.float32)
            steps = {way: run(inputs, units, how, x) for way, how in {"float": None, **WAYS}.items()}
            times = per_round(each_step(steps, setting.rounds, milliseconds=TURN))
            for way in WAYS:
                ratio = f"{np.median(times[way] / times['float']):.2f}"
                found.setdefault(way, {})["1 row" if count == 1 else f"{count} rows"] = ratio
        for way, ratios in found.items():
            rows.append({"inputs": inputs, "outputs": units, "weights": way, **ratios})
        show(f"MatMulNBits, time beside float, {inputs} x {units}", rows[-len(WAYS) :])
    save("blockwise_kernels", rows, f"{setting.command} --rounds={setting.rounds}")


def run(inputs: int, units: int, how: tuple[int, int, int] | None, x: np.ndarray) -> Any:
    """Return a function that multiplies by a random matrix, on one thread; `how`: as MatMulNBits."""
    import onnx
    import onnxruntime

    values = np.random.default_rng(0).normal(size=(inputs, units)).astype(np.float32)
    if how is None:
        constants = [onnx.numpy_helper.from_array(values, "w")]
        node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    else:
        bits, block, level = how[0], min(how[1], inputs), how[2]
        blocks = values.reshape(-1, block, units)
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
        for name, size in (("x", inputs), ("y", units))
    ]
    graph = onnx.helper.make_graph([node], "product", ends[:1], ends[1:], constants)
    domains = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})
