"""python -m benchmarks.coverage [--part=layers|applications|backbones] [--only=LSTM,GRU]

Does it take my model? Writes benchmarks/results/support.json, coverage.json and backbones.json.

    layers        every layer of Keras in a small model: pruned, quantized to int8, exported to both formats, run there
                  and compared with the quantized Keras model. "yes": pruned; computed in integers. "float fallback":
                  computed in float between integers, with the same numbers. "-": it has no kernel, or does nothing in
                  inference. "refused": with the reason. The layers are those of `tests/layer_cases.py`;
                  `tests/test_support_matrix.py` finds the same table again. For each runtime: by how many steps of its
                  grid the int8 file differs at most from Keras, which simulates it; benchmarks/steps_off.json says why
    applications  every model of keras.applications in int8, as TFLite and ONNX: is all integer, and the same?
    backbones     small ones of KerasHub's (benchmarks/backbones.json) through prune, quantize and both exports, in
                  integers and floats

No model has trained weights: nothing is downloaded. Those of keras.applications get statistics of batch normalization
that fit their inputs, and random scales, offsets and biases; their last softmax is left off, so that the steps in which
a file differs from Keras are those of the logits. Each model is a process of its own, since some take gigabytes; each
row is written as it is found, and a model with a good one is run again only if --only names it.
"""

from __future__ import annotations

import collections
import importlib.util
import inspect
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks.harness import FOLDER, ROOT, Setting, clocks, in_a_process, rows_of, run_parts, save, show

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

TIMEOUT = 3000
"""Seconds that a model may take."""
FORMATS = {"TFLite": ".tflite", "ONNX": ".onnx"}

SIZE = 96
"""Pixels along an edge of the images for keras.applications."""
CLASSES = 10
SAMPLES = 32
TFLITE_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D", "BATCH_MATMUL")
ONNX_FLOAT_KERNELS = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "ConvTranspose")
ONNX_INTEGER_KERNELS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulInteger", "ConvInteger")

BACKBONES = json.loads((ROOT / "benchmarks" / "backbones.json").read_text())
"""What each is built with, by its name."""
HUB_SAMPLES, LENGTH, WORDS = 8, 8, 50


def layers(setting: Setting) -> None:
    """Examine all layers, or those that are named; print and save."""
    from tests.layer_cases import CASES, known
    from tests.layer_steps import steps_off, without_reason
    from tests.layer_support import NAME, committed, examine

    rows = committed() if setting.only else {}
    for name in setting.chosen(known()):
        verdict = examine(name)
        rows[name] = {**verdict.row, **steps_off(verdict.row)}
        unexplained = [f"{column}: to be explained" for column in without_reason(rows[name])]
        print(*rows[name].values(), *verdict.problems, *unexplained, sep=" | ", flush=True)
    ordered = [rows[name] for name in CASES if name in rows]
    save(NAME, ordered, setting.command)
    show("Layers", ordered)


def applications(setting: Setting) -> None:
    """Run the models of keras.applications that have no good row yet, or are named."""
    measured("coverage", "application", builders(), setting)


def backbones(setting: Setting) -> None:
    """Run likewise those of KerasHub."""
    if importlib.util.find_spec("keras_hub") is None:
        sys.exit("Expected keras-hub, for benchmarks.coverage --part=backbones. Do: pip install -e '.[bench]'.")
    measured("backbones", "backbone", list(BACKBONES), setting)


def measured(name: str, function: str, models: Sequence[str], setting: Setting) -> None:
    """Run models, each in a process of its own; print and save each row.

    Args:
        name: Of the file of results.
        function: That returns a model's row.
        models: That there are.
        setting: Which of them.
    """
    found = rows_of(name) if (FOLDER / f"{name}.json").exists() else []
    rows = {row["model"]: row for row in found}
    good = {model for model, row in rows.items() if not any(str(value).startswith("no: ") for value in row.values())}
    for model in setting.chosen(models):
        if model in good and not setting.only:
            continue
        try:
            rows[model] = in_a_process("coverage", f"--here={function}", model, timeout=TIMEOUT)
        except SystemExit as error:
            first, *others = str(error).strip().splitlines()
            reason = " ".join([first, *others[-1:]])[:300]
            rows[model] = {"model": model, "parameters": "", "quantized": f"no: {reason}"}
        print(json.dumps(rows[model]), flush=True)
        save(name, [rows[known] for known in sorted(rows)], setting.command)
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    show(f"{name} in int8", [{column: rows[known].get(column, "") for column in columns} for known in sorted(rows)])


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


def build(name: str) -> Any:
    """Return a model without its softmax, and with statistics that fit its inputs."""
    import keras

    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    model = make(input_shape=(SIZE, SIZE, 3), weights=None, classes=CLASSES, classifier_activation=None)
    condition(model, scaled(name, images(SAMPLES, SIZE, 2)))
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


def application(name: str) -> dict[str, Any]:
    """Return a model's row."""
    import numpy as np

    from tfcompress.export import export
    from tfcompress.export.plan.deployment import deploy
    from tfcompress.quantization.quantize import quantize
    from tfcompress.runtime.opening import open_runner

    start, _ = clocks()
    model = build(name)
    row: dict[str, Any] = {"model": name, "parameters": f"{model.count_params():,}", "quantized": "yes"}
    data, test = scaled(name, images(SAMPLES, SIZE, 2)), scaled(name, images(SAMPLES, SIZE, 3))
    try:
        quantized = quantize(model, "int8", data)
        step = next(iter(deploy(quantized, "tflite").scales.values()))
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
    row["seconds"] = round(clocks()[0] - start)
    return row


def reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def backbone_model(name: str) -> Any:
    """Return a backbone with random weights."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    return getattr(keras_hub.models, name)(**BACKBONES[name])


def backbone_inputs(model: Any, seed: int) -> Any:
    """Return seeded arrays in the structure of a backbone's inputs: words, padding that leaves all in, or images."""
    import keras
    import numpy as np

    random = np.random.default_rng(seed)

    def draw(x: Any) -> Any:
        shape = (HUB_SAMPLES, *(size or LENGTH for size in x.shape[1:]))
        if "padding" in x.name:
            return np.ones(shape, "int32")
        if "segment" in x.name:
            return np.zeros(shape, "int32")
        if "int" in keras.backend.standardize_dtype(x.dtype):
            return random.integers(1, WORDS, shape).astype("int32")
        return random.normal(size=shape).astype("float32")

    return keras.tree.map_structure(draw, model._inputs_struct)


def backbone(name: str) -> dict[str, Any]:
    """Return a backbone's row: through prune, quantize and both exports, each file compared with Keras."""
    import keras
    import numpy as np

    import tfcompress as tfc

    start, _ = clocks()
    model = backbone_model(name)
    data = backbone_inputs(model, 2)
    row: dict[str, Any] = {"model": name, "parameters": f"{model.count_params():,}"}
    plain = keras.tree.flatten(model.predict(data, verbose=0))[0]
    try:
        pruned = tfc.strip(tfc.prune(model, 0.0))
        same = np.allclose(keras.tree.flatten(pruned.predict(data, verbose=0))[0], plain, atol=1e-4)
        row["pruned"] = "yes" if same else "no: other outputs"
    except Exception as error:
        row["pruned"] = f"no: {reason(error)}"
    try:
        quantized = tfc.quantize(model, "int8", data=data)
        row["quantized"] = "yes"
        noise = plain - keras.tree.flatten(quantized.predict(data, verbose=0))[0]
        row["signal dB"] = f"{20 * np.log10(np.std(plain) / np.std(noise)):.1f}"
    except Exception as error:
        quantized = None
        row["quantized"] = f"no: {reason(error)}"
    for made, what in ((model, "float MB"), (quantized, "MB")):
        for label, suffix in FORMATS.items():
            if made is None:
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    path = pathlib.Path(tfc.export(made, f"{folder}/model{suffix}", verify=data).path)
                    row[f"{label} {what}"] = f"{path.stat().st_size / 1e6:.2f}"
                except Exception as error:
                    row[f"{label} {what}"] = f"no: {reason(error)}"
    row["seconds"] = round(clocks()[0] - start)
    return row


if __name__ == "__main__":
    run_parts(
        "coverage",
        __doc__,
        {"layers": layers, "applications": applications, "backbones": backbones},
        apart={"application": application, "backbone": backbone},
        selective=("layers", "applications", "backbones"),
    )
