"""Quantize every model of keras.applications to int8, ship it as TFLite and ONNX: is all integer, and the same?

    python -m benchmarks.coverage [--models=MobileNetV2,VGG] [--size=96] [--again]

The models have no trained weights (nothing is downloaded), but statistics of batch normalization that fit their
inputs, and random scales, offsets and biases. Each is a process of its own, since some take gigabytes; each row
is written as it is found, and what has a good one is not run again. Their last softmax is left off, so that the steps
in which a file differs from Keras are those of the logits. Where KerasHub is installed, small ones of its backbones go
through prune, quantize and both exports, in integers and floats, beside them.
"""

from __future__ import annotations

import collections
import inspect
import json
import os
import pathlib
import sys
import tempfile
import time
from typing import Any

from absl import app, flags

from benchmarks import backbones
from benchmarks.harness import FOLDER, in_a_process, rows_of, save, show

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
NAME = "coverage"
CLASSES = 10
SAMPLES = 32
TFLITE_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D", "BATCH_MATMUL")
ONNX_FLOAT_KERNELS = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "ConvTranspose")
ONNX_INTEGER_KERNELS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulInteger", "ConvInteger")

FLAGS = flags.FLAGS
flags.DEFINE_list("models", [], "Builders to run, by a part of their name; all, if none is given.")
flags.DEFINE_integer("size", 96, "Pixels along an edge of the images.", lower_bound=32)
flags.DEFINE_bool("again", False, "Run also what has a good row already.")
flags.DEFINE_integer("timeout", 3000, "Seconds that a model may take.")
flags.DEFINE_string("one", None, "Run this one here and print its row (what the other processes do).")


def builders() -> list[str]:
    """Return the names of all builders of keras.applications, the small models first."""
    import keras

    names = [name for name, value in vars(keras.applications).items() if inspect.isfunction(value)]
    order = (
        "Mobile",
        "B0",
        "B1",
        "DenseNet121",
        "ResNet50",
        "V2B2",
        "Xception",
        "InceptionV3",
        "Tiny",
        "V2S",
        "B2",
        "B3",
    )
    late = ("VGG", "Large", "Base", "B6", "B7", "V2L", "V2M")
    place = {name: next((i for i, part in enumerate(order) if part in name), len(order)) for name in names}
    return sorted(
        names, key=lambda name: (any(part in name for part in late) and "Mobile" not in name, place[name], name)
    )


def images(count: int, size: int, seed: int) -> Any:
    """Return smooth seeded images in 0..255: noise of a few scales."""
    import numpy as np

    random = np.random.default_rng(seed)
    total = np.zeros((count, size, size, 3))
    for cells in (1, 2, 4, 8, 16, 32):
        coarse = random.normal(size=(count, cells, cells, 3))
        at = np.arange(size) * cells // size
        total += coarse[:, at][:, :, at] / np.sqrt(cells)
    total /= np.abs(total).max(axis=(1, 2, 3), keepdims=True)
    return (127.5 * (1 + total)).astype("float32")


def build(name: str, size: int) -> Any:
    """Return a model without its softmax, and with statistics that fit its inputs."""
    import keras

    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    model = make(input_shape=(size, size, 3), weights=None, classes=CLASSES, classifier_activation=None)
    condition(model, scaled(name, images(SAMPLES, size, 2)))
    return model


def condition(model: Any, data: Any) -> None:
    """Give a model random scales, offsets and biases, and the statistics of its batch normalization on `data`."""
    import keras
    import numpy as np

    random = np.random.default_rng(1)
    for weight in model.trainable_variables:
        # Most units are active: random networks that cut off half of what they see are chaotic, and double every
        # rounding from layer to layer, as trained ones don't.
        if weight.name == "gamma":  # also ConvNeXt's LayerScale, which begins at 1e-6
            weight.assign(random.uniform(0.3, 0.7, weight.shape))
        elif weight.name == "beta":
            weight.assign(random.normal(0.7, 0.3, weight.shape))
        elif weight.name == "bias":
            weight.assign(random.normal(0.0, 0.1, weight.shape))
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(data, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def scaled(name: str, x: Any) -> Any:
    """Return images as a model wants them."""
    import keras

    # The module beside the builders holds the right preprocess_input; those that rescale by a layer return x itself.
    module = sys.modules[getattr(keras.applications, name).__module__]
    return module.preprocess_input(x.copy()) if hasattr(module, "preprocess_input") else x


def tflite_kernels(path: pathlib.Path) -> tuple[int, int, str]:
    """Return how many convolutions and products compute in integers and in float, and what else is float."""
    from tfcompress.export.tflite.flatbuffer import operators

    ops = operators(path.read_bytes())
    floats = [op.name for op in ops if "FLOAT32" in op.outputs and op.name != "DEQUANTIZE"]
    kernels = [op.name for op in ops if op.name in TFLITE_KERNELS]
    return len(kernels), sum(name in TFLITE_KERNELS for name in floats), listed(floats, TFLITE_KERNELS)


def onnx_kernels(path: pathlib.Path) -> tuple[int, int, str]:
    """Return the same of the graph that ONNX Runtime makes of a file."""
    from tests.layer_support import floats_in_onnx, optimized

    names = [node.op_type for node in optimized(path).node]
    floats = sum(name in ONNX_FLOAT_KERNELS for name in names)
    integer = sum(name in ONNX_INTEGER_KERNELS for name in names)
    return integer + floats, floats, listed(floats_in_onnx(path), ONNX_FLOAT_KERNELS)


def listed(names: list[str], without: tuple[str, ...] = ()) -> str:
    counts = collections.Counter(name for name in names if name not in without)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def measure(name: str, size: int) -> dict[str, Any]:
    """Return a model's row."""
    import numpy as np

    from tfcompress.export import export
    from tfcompress.export.plan.deployment import deploy
    from tfcompress.quantization.quantize import quantize
    from tfcompress.runtime.runner import open_runner

    start = time.perf_counter()
    model = build(name, size)
    row: dict[str, Any] = {"model": name, "parameters": f"{model.count_params():,}", "quantized": "yes"}
    data, test = scaled(name, images(SAMPLES, size, 2)), scaled(name, images(SAMPLES, size, 3))
    try:
        quantized = quantize(model, "int8", data)
        step = next(iter(deploy(quantized, "tflite").steps.values()))
    except Exception as error:
        return {**row, "quantized": f"no: {reason(error)}"}
    plain = model.predict(test, batch_size=8, verbose=0)
    expected = quantized.predict(test, batch_size=8, verbose=0)
    row["signal dB"] = f"{20 * np.log10(np.std(plain - plain.mean(0)) / np.std(plain - expected)):.1f}"
    del model
    for label, suffix, count in (("TFLite", ".tflite", tflite_kernels), ("ONNX", ".onnx", onnx_kernels)):
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = export(quantized, f"{folder}/model{suffix}", verify=False).path
                kernels, floats, others = count(path)
                received = np.asarray(open_runner(path, threads=2).predict(test)).reshape(expected.shape)
            except Exception as error:
                row[f"{label} MB"] = f"no: {reason(error)}"
                continue
            off = np.abs(received - expected) / (step or 1.0)
            row[f"{label} MB"] = f"{path.stat().st_size / 1e6:.2f}"
            row[f"{label} float kernels"] = f"{floats} of {kernels}"
            row[f"{label} other float"] = others
            row[f"{label} steps"] = f"{off.mean():.2f}, most {off.max():.0f}"
            row[f"{label} same class"] = f"{np.mean(received.argmax(-1) == expected.argmax(-1)):.0%}"
    row["seconds"] = round(time.perf_counter() - start)
    return row


def reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def run_one(name: str) -> dict[str, Any]:
    """Return the row of a model that is run in a process of its own."""
    try:
        row: dict[str, Any] = in_a_process(NAME, f"--one={name}", f"--size={FLAGS.size}", timeout=FLAGS.timeout)
    except SystemExit as error:
        first, *others = str(error).strip().splitlines()
        return {"model": name, "parameters": "", "quantized": f"no: {' '.join([first, *others[-1:]])[:300]}"}
    return row


def main(_: list[str]) -> None:
    """Run the models that have no row yet, and write each row."""
    if FLAGS.one:
        hub = FLAGS.one in backbones.CONFIGURATIONS
        print(json.dumps(backbones.measure(FLAGS.one, reason) if hub else measure(FLAGS.one, FLAGS.size)))
        return
    found = rows_of(NAME) if (FOLDER / f"{NAME}.json").exists() else []
    rows = {row["model"]: row for row in found}
    names = [*builders(), *backbones.available()]
    for name in names:
        chosen = not FLAGS.models or any(part in name for part in FLAGS.models)
        failed = any(str(value).startswith("no: ") for value in rows.get(name, {}).values())
        if not chosen or (name in rows and not failed and not FLAGS.again):
            continue
        rows[name] = run_one(name)
        print(json.dumps(rows[name]), flush=True)
        save(
            NAME, [rows[known] for known in sorted(rows)], command=f"python -m benchmarks.coverage --size={FLAGS.size}"
        )
    show("keras.applications and KerasHub in int8", columns([rows[known] for known in sorted(rows)]))


def columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows that all have the columns of all."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key, "") for key in keys} for row in rows]


if __name__ == "__main__":
    app.run(main)
