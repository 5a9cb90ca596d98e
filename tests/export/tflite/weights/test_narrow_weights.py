"""Weights of 4 and 2 bits: in what files store them, for which kernels, what they compute and what they say of it."""

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.export.conversion import Conversion
from tfcompress.export.tflite.flatbuffer import File
from tfcompress.export.tflite.weights.storage import choose
from tfcompress.quantization.encoding import Affine

CONV, DEPTHWISE, DENSE = "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"


def config(bits, dynamic=False, granularity="per_channel"):
    return tfc.QuantizeConfig(tfc.WeightSpec(bits, granularity), tfc.ActivationSpec(dynamic=dynamic))


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(24, 6, 6, 3)).astype("float32")


@pytest.fixture(scope="module")
def network():
    """Each kind of kernel: odd and even numbers of inputs, one pixel and several, with a stride and without."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 3), name="image")
    h = L.Conv2D(8, 3, padding="same", activation="relu", name="spatial")(inputs)
    h = L.Conv2D(10, 1, activation="relu6", name="pixel")(h)
    h = L.DepthwiseConv2D(3, padding="same", name="depthwise")(h)
    h = L.Conv2D(5, 1, strides=2, name="strided")(h)
    h = L.Dense(6, activation="relu", name="odd")(L.Flatten()(h))
    h = L.Dense(12, activation="relu", name="even")(h)
    return keras.Model(inputs, L.Dense(3, name="logits")(h), name="network")


def stored(path):
    """Return [(operator, type of its weights)] in the order in which they run."""
    file = File(path.read_bytes())
    graph = file.graphs[0]
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    return [(graph.name(op), graph.type(int(op.inputs[1]))) for op in graph.operators if graph.name(op) in kinds]


@pytest.fixture(scope="module")
def files(network, x, tmp_path_factory):
    """Return {(bits, dynamic, prefer): artifact}, each proven on the data."""
    folder, made = tmp_path_factory.mktemp("narrow"), {}
    for bits, dynamic, *ways in ((4, False, "speed", "size"), (2, False, "size"), (2, True, "speed")):
        quantized = tfc.quantize(network, config(bits, dynamic), None if dynamic else x)
        for prefer in ways:
            path = folder / f"{bits}_{dynamic}_{prefer}.tflite"
            made[bits, dynamic, prefer] = tfc.export(quantized, path, prefer=prefer, verify=x)
    return made


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ((4, False, "speed"), (CONV, 8, DENSE, 4, DEPTHWISE, 8, CONV, 8, DENSE, 8, DENSE, 4, DENSE, 4)),
        ((4, False, "size"), (CONV, 4, DENSE, 4, DEPTHWISE, 4, CONV, 4, DENSE, 8, DENSE, 4, DENSE, 4)),
        ((2, False, "size"), (CONV, 4, DENSE, 2, DEPTHWISE, 4, CONV, 4, DENSE, 8, DENSE, 4, DENSE, 2)),
        ((2, True, "speed"), (CONV, 8, CONV, 8, CONV, 8, DENSE, 8, DENSE, 4, DENSE, 2)),
    ],
)
def test_each_weight_is_as_small_as_its_kernel_allows(files, key, expected):
    kinds = list(zip(expected[::2], (f"INT{bits}" for bits in expected[1::2]), strict=True))
    found = stored(files[key].path)
    if key[1]:  # the depthwise kernel is float, behind a DEQUANTIZE
        found = [one for one in found if one[0] != DEPTHWISE]
    assert found == kinds


def test_files_compute_what_keras_does(files):
    assert files[4, False, "size"].nbytes < files[4, False, "speed"].nbytes
    for (bits, dynamic, prefer), artifact in files.items():
        assert artifact.precision == (f"dynamic int{bits}" if dynamic else f"int8x{bits}")
        (parity,) = artifact.parity.outputs.values()
        if dynamic:
            assert parity.max_rel < 0.02
        else:  # kernels that XNNPACK doesn't have round otherwise
            assert parity.mean_steps < (0.35 if prefer == "speed" else 2)


@pytest.mark.parametrize(
    ("operator", "activations", "bits", "inputs", "several", "fast", "small"),
    [
        (DENSE, "INT8", 2, 8, False, "INT2", "INT2"),
        (DENSE, "INT8", 2, 8, True, "INT4", "INT2"),
        (DENSE, "INT8", 2, 6, False, "INT4", "INT4"),
        (DENSE, "INT8", 3, 8, False, "INT4", "INT4"),
        (DENSE, "INT8", 5, 8, False, "INT8", "INT8"),
        (DENSE, "FLOAT32", 4, 8, True, "INT4", "INT4"),
        (DENSE, "FLOAT32", 4, 7, False, "INT8", "INT8"),
        (DENSE, "INT16", 4, 8, False, "INT8", "INT4"),
        (DENSE, "DEQUANTIZE", 2, 8, False, "INT2", "INT2"),
        (DENSE, "DEQUANTIZE", 4, 8, True, "INT8", "INT4"),
        (CONV, "DEQUANTIZE", 2, 8, True, "INT8", "INT2"),
        (CONV, "FLOAT32", 2, 8, True, "INT8", "INT4"),
        ("TRANSPOSE_CONV", "INT8", 4, 8, True, "INT8", "INT8"),
    ],
)
def test_the_smallest_form_with_a_kernel(operator, activations, bits, inputs, several, fast, small):
    weights = Affine(np.ones((3, inputs), "int8"), np.ones((3, 1), "float32"), bits=bits)
    for prefer, expected in (("speed", fast), ("size", small)):
        storage = choose(operator, activations, weights, prefer, several=several)
        assert storage.type == expected and bool(storage.version) == (expected != "INT8")
        assert bool(storage.why) == (expected != ("INT4" if bits > 2 else "INT2") and bits <= 4)


def test_the_artifact_says_how_each_weight_is_stored_and_why(files):
    artifact = files[4, False, "speed"]
    found = {weight.layer: weight for weight in artifact.operators.narrow}
    packed = {"pixel", "even", "logits_linear"}
    assert {layer: weight.type for layer, weight in found.items()} == {
        layer: "int4" if layer in packed else "int8" for layer in (*packed, "spatial", "depthwise", "strided", "odd")
    }
    assert {weight.bits for weight in found.values()} == {4}
    assert found["odd"].why == "FULLY_CONNECTED in INT4 takes an even number of inputs, and there are 45"
    assert "prefer='size'" in found["spatial"].why and not found["pixel"].why
    assert {one.layer: one.stored for one in artifact.plan.operators if one.weights} == {
        layer: weight.type for layer, weight in found.items()
    }
    assert "int4 per channel in int8" in str(artifact.plan)
    assert "3 weights of 4 bits stored in int4: pixel, even, logits_linear" in str(artifact)


def test_integers_are_read_back_and_held_against_the_plan(network, x, tmp_path, monkeypatch):
    quantized = tfc.quantize(network, config(4), x)
    write = Conversion.convert

    def spoiled(self, traced, path):
        write(self, traced, path)
        file = File(path.read_bytes())
        place = next(i for i in range(len(file.graphs[0].tensors)) if file.graphs[0].type(i) == "INT4")
        buffer = file.model.buffers[file.graphs[0].tensors[place].buffer]
        buffer.data = np.asarray(buffer.data) ^ np.uint8(16)
        path.write_bytes(file.to_bytes())

    monkeypatch.setattr(Conversion, "convert", spoiled)
    with pytest.raises(ValueError, match="Expected the integers that the quantized model plans for layer 'pixel'"):
        tfc.export(quantized, tmp_path / "m.tflite")


@pytest.mark.parametrize(
    ("activations", "wide"),
    [(None, set()), (tfc.ActivationSpec(bits=16, symmetric=True), {"spatial", "pixel", "depthwise", "strided"})],
)
def test_other_activations_by_size(network, x, activations, wide, tmp_path):
    quantized = tfc.quantize(network, tfc.QuantizeConfig(tfc.WeightSpec(bits=4), activations), x if wide else None)
    artifact = tfc.export(quantized, tmp_path / "m.tflite", prefer="size", sparse=True, verify=x)
    (parity,) = artifact.parity.outputs.values()
    assert parity.max_rel < (1e-5 if activations is None else 2e-3)
    found = {weight.layer: weight.type for weight in artifact.operators.narrow}
    assert {layer for layer, kind in found.items() if kind == "int8"} == wide and len(found) == 7
    assert "stays dense: it is stored in INT4, which no sparse kernel reads" in "".join(artifact.notes)


def test_one_scale_for_a_kernel_has_no_2_bits(network, tmp_path):
    quantized = tfc.quantize(network, config(2, dynamic=True, granularity="per_tensor"), layers="logits")
    artifact = tfc.export(quantized, tmp_path / "m.tflite")
    (weight,) = artifact.operators.narrow
    assert (weight.type, weight.why) == ("int4", "FULLY_CONNECTED in INT2 takes a scale for each channel")


def test_what_is_refused_before_work(network, tmp_path):
    with pytest.raises(ValueError, match="Expected prefer to be one of"):
        tfc.export(network, tmp_path / "m.tflite", prefer="small")
    with pytest.raises(ValueError, match=r"Expected prefer='speed' for a \.onnx file"):
        tfc.export(network, tmp_path / "m.onnx", prefer="size")
    assert not list(tmp_path.iterdir())
