"""From a quantized model to both files: the numbers of the zoo, every recipe, integer inputs, and what is refused."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
import onnx
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import in_turn
from tests.quantization.zoo import ZOO, build, data_of, outputs_of
from tests.quantization.zoo import quantized as of_the_zoo
from tfcompress.export.artifact import Artifact
from tfcompress.export.tflite.flatbuffer import File, operators
from tfcompress.export.tflite.weights.packed_integers import BITS, unpack

FORMATS = ("tflite", "onnx")
KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def small_cnn():
    """Return a network with each kind of kernel, and a normalization whose factors differ and are negative, too."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 3), name="x")
    norm = L.BatchNormalization()
    h = L.ReLU()(norm(L.Conv2D(6, 3, padding="same")(inputs)))
    h = L.Conv2D(4, 1)(L.DepthwiseConv2D(3, activation="relu")(h))
    model = keras.Model(inputs, L.Dense(3, name="y")(L.Flatten()(h)))
    generator = np.random.default_rng(1)
    norm.gamma.assign(generator.uniform(-1.5, 1.5, 6))
    norm.moving_mean.assign(generator.normal(0, 0.2, 6))
    norm.moving_variance.assign(generator.uniform(0.5, 2.0, 6))
    return model


@pytest.mark.parametrize(("name", "kind"), in_turn(ZOO, FORMATS))
def test_the_file_is_the_model(name, kind, tmp_path):
    quantized = of_the_zoo(name)
    artifact = tfc.export(quantized, tmp_path / f"m.{kind}", verify=data_of(quantized))
    assert artifact.parity.samples == 48
    for label, parity in artifact.parity.outputs.items():
        assert parity.scale > 0, label
        assert parity.mean_steps < 0.35, label
        assert parity.equal > 0.7, label
        assert parity.max_steps < 6, label


LARGEST = {
    "int8_per_tensor": 2 / 256,
    "int8_weights": 1e-5,
    "dynamic_int8": 0.02,
    "int16x8": 2e-4,
    "float16": 2e-3,
}


@pytest.mark.parametrize(("recipe", "kind"), in_turn(LARGEST, FORMATS))
def test_recipes(recipe, kind, tmp_path):
    quantized = of_the_zoo("residual", recipe)
    x = data_of(quantized)
    artifact = tfc.export(quantized, tmp_path / f"m.{kind}")
    assert np.abs(artifact.predict(x) - outputs_of(quantized, x)["output"]).max() <= LARGEST[recipe]


def test_pixels_are_rescaled_in_integers_without_a_loss(tmp_path):
    """Eight maps side by side in one model."""
    maps = [(c, *map) for c in (1, 3) for map in ((2 / 255, -1.0), (1 / 255, 0.0), (-3.0, 100.0), (1.0, -127.5))]
    ends = []
    for i, (channels, scale, offset) in enumerate(maps):
        inputs = keras.Input((8, 8, channels))
        ends.append((inputs, L.Conv2D(4, 1, padding="same")(L.Rescaling(scale, offset, name=f"map{i}")(inputs))))
    model = keras.Model(*map(list, zip(*ends, strict=True)))
    data = [np.arange(4 * 8 * 8 * c, dtype="float32").reshape(4, 8, 8, c) % 256 for c, *_ in maps]
    quantized = tfc.quantize(model, "int8", data)
    for kind in FORMATS:
        artifact = tfc.export(quantized, tmp_path / f"m.{kind}", inference_io="int8")
        rows = {row.layer: row for row in tfc.debug(quantized, artifact.path, data).tensors}
        for i, described in enumerate(maps):
            assert rows[f"map{i}"].max_steps < 1e-3, (kind, described)
    if kind == "tflite":
        names = [operator.name for operator in operators(artifact.path.read_bytes())]
        factors, terms = (sum(map[i] != nothing for map in maps) for i, nothing in ((1, 1), (2, 0)))
        assert Counter(names) == {"MUL": factors, "ADD": terms, "CONV_2D": len(maps)}


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (lambda: L.UpSampling2D(2, interpolation="bilinear"), 0.999),
        (lambda: L.Resizing(19, 13), 0.97),
        (lambda: L.AveragePooling2D(3, strides=2, padding="same"), 0.85),  # which rounds halves to even numbers
    ],
    ids=["bilinear", "resizing", "pooling"],
)
def test_means_lie_on_the_grid_of_what_they_are_means_of(make, least, tmp_path):
    inputs = keras.Input((12, 12, 3))
    x = make()(L.Conv2D(6, 3, padding="same", activation="relu")(inputs))
    model = keras.Model(inputs, L.Conv2D(4, 1)(x))
    x = np.random.default_rng(0).normal(size=(16, 12, 12, 3)).astype("float32")
    quantized = tfc.quantize(model, "int8", x)
    for kind in FORMATS:
        path = tfc.export(quantized, tmp_path / f"m.{kind}", verify=False).path
        report = tfc.verify(quantized, path, x)
        (output,) = report.outputs
        assert output.equal > least, kind
        assert output.max_steps < 3.5, kind
        before, means = tfc.debug(quantized, path, x).tensors[-3:-1]
        assert means.scale == before.scale, kind
        assert means.own_max_steps < 1.01, kind


def test_an_average_pooling_that_is_called_on_several_sizes(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 3), name="x")
    pool, shared = L.AveragePooling1D(2, name="pool"), L.AdaptiveAveragePooling1D(2, name="shared")
    narrow, wide = (pool(L.Dense(units)(inputs)) for units in (4, 6))
    ends = [shared(narrow), shared(inputs), shared(wide)]
    model = keras.Model(inputs, [L.Dense(2, name=f"y{place}")(x) for place, x in enumerate(ends)])
    x = np.random.default_rng(0).normal(size=(32, 8, 3)).astype("float32")
    quantized = tfc.quantize(model, "int8", x)
    for kind in FORMATS:
        found = tfc.export(quantized, tmp_path / f"m.{kind}", verify=x).parity.outputs
        assert len(found) == 3 and all(one.max_steps < 1.01 for one in found.values()), kind


def test_a_bidirectional_that_is_called_with_and_without_a_mask_stays_whole(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 3), name="x")
    both = L.Bidirectional(L.LSTM(2), name="both")
    model = keras.Model(inputs, L.Dense(2, name="y")(L.Add()([both(inputs), both(L.Masking()(inputs))])))
    x = np.random.default_rng(0).normal(size=(16, 5, 3)).astype("float32")
    quantized = tfc.quantize(model, "int8", x)
    found = tfc.export(quantized, tmp_path / "m.tflite", verify=x)
    assert found.parity.outputs["y"].max_steps < 2.01
    assert {one.layer for one in found.operators.floats} >= {"both"}


def test_weights_take_a_quarter(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,))
    model = keras.Model(inputs, L.Dense(10)(L.Dense(400, activation="relu")(inputs)))
    x = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
    full = {kind: tfc.export(model, tmp_path / f"float.{kind}").nbytes for kind in FORMATS}
    for recipe in ("int8", "int8_weights", "dynamic_int8", "int16x8"):
        quantized = tfc.quantize(model, recipe, x)
        for kind in FORMATS:
            nbytes = tfc.export(quantized, tmp_path / f"{recipe}.{kind}").nbytes
            assert nbytes < 0.36 * full[kind], (recipe, kind)


def kernels(path):
    """Return the integers of each kernel that a file stores."""
    if path.suffix == ".tflite":
        file = File(path.read_bytes())
        graph = file.graphs[0]
        places = [int(op.inputs[1]) for op in graph.operators if graph.name(op) in KERNELS]
        buffers = [file.model.buffers[graph.tensors[place].buffer].data for place in places]
        sizes = [int(np.prod(graph.shape(place))) for place in places]
        return [unpack(*of) for of in zip(buffers, (BITS[graph.type(place)] for place in places), sizes, strict=True)]
    constants = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    return [value for value in constants if value.dtype == np.int8 and value.ndim > 1]


@pytest.mark.parametrize("bits", [2, 4, 7, *(pytest.param(bits, marks=pytest.mark.rare) for bits in (3, 5, 6))])
def test_narrow_weights_stay_narrow(bits, tmp_path):
    model = small_cnn()
    x = np.random.default_rng(0).normal(size=(48, 8, 8, 3)).astype("float32")
    quantized = tfc.quantize(model, tfc.QuantizeConfig(weights=tfc.WeightSpec(bits=bits)), x)
    for kind in FORMATS:
        artifact = tfc.export(quantized, tmp_path / f"m.{kind}", verify=False)
        found = tfc.verify(quantized, artifact.path, x)["y"]
        assert found.max_steps < 1.01, kind
        assert found.equal > 0.99, kind
        stored = kernels(artifact.path)
        assert [value.size for value in stored] == [162, 54, 24, 432], kind
        limit = 2 ** (bits - 1) - 1
        assert {(int(value.min()), int(value.max())) for value in stored} == {(-limit, limit)}, kind


@pytest.mark.parametrize("kind", FORMATS)
def test_integer_inputs_and_outputs(kind, tmp_path):
    quantized = of_the_zoo("residual")
    x = data_of(quantized)
    plain = tfc.export(quantized, tmp_path / f"f.{kind}").predict(x)
    for dtype in ("int8", "uint8"):
        artifact = tfc.export(quantized, tmp_path / f"{dtype}.{kind}", inference_io=dtype)
        assert {info.dtype for info in (*artifact.inputs.values(), *artifact.outputs.values())} == {dtype}
        np.testing.assert_allclose(artifact.predict(x), plain, atol=1e-6, err_msg=dtype)


@pytest.mark.parametrize(
    ("model", "end"),
    [
        (lambda x: L.Dense(3, name="out")(L.GRU(4)(x)), "input 'x'"),
        (lambda x: L.LayerNormalization(name="out")(L.Dense(3)(x)), "output 'out'"),
    ],
    ids=["input", "output"],
)
def test_ends_that_are_float_are_not_called_integers(model, end, tmp_path):
    x = np.random.default_rng(0).normal(size=(32, 5, 4)).astype("float32")
    inputs = keras.Input((5, 4), name="x")
    quantized = tfc.quantize(keras.Model(inputs, model(inputs)), "int8", x)
    for kind in FORMATS:
        for dtype in ("int8", "uint8"):
            with pytest.raises(ValueError, match=f"Expected inference_io='float32'.*inference_io='{dtype}', {end}"):
                tfc.export(quantized, tmp_path / f"m.{kind}", inference_io=dtype)
    assert not list(tmp_path.iterdir())


def test_an_integer_input_that_is_returned(tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    inputs = keras.Input((8,), name="s")
    quantized = tfc.quantize(keras.Model(inputs, {"p": L.Dense(3, name="d")(inputs), "same": inputs}), "int8", x)
    for kind, dtype in (("tflite", "int8"), ("tflite", "uint8"), ("onnx", "int8"), ("onnx", "uint8")):
        artifact = tfc.export(quantized, tmp_path / f"{dtype}.{kind}", inference_io=dtype)
        there = Artifact.open(artifact.path)
        assert (artifact.inputs, artifact.outputs) == (there.inputs, there.outputs), (kind, dtype)
        low, high = (-128, 128) if dtype == "int8" else (0, 256)
        integers = np.random.default_rng(0).integers(low, high, (4, 8)).astype(dtype)
        np.testing.assert_array_equal(artifact.predict(integers)["same"], integers, err_msg=f"{kind} {dtype}")
        assert tfc.debug(quantized, artifact.path, x).first is None, (kind, dtype)


def test_pure_integers_for_a_microcontroller(tmp_path):
    quantized = of_the_zoo("residual")
    artifact = tfc.export(quantized, tmp_path / "m.tflite", inference_io="int8")
    types = {kind for op in operators(artifact.path.read_bytes()) for kind in (*op.inputs, *op.outputs) if kind}
    assert types <= {"INT8", "INT32"}


@pytest.mark.parametrize("opset", [18, 21])
def test_opsets(opset, tmp_path):
    quantized = of_the_zoo("residual")
    artifact = tfc.export(quantized, tmp_path / "m.onnx", opset=opset)
    versions = {entry.domain: entry.version for entry in onnx.load(artifact.path).opset_import}
    assert versions[""] == opset


AFFINE = {
    "rescaling": (lambda: L.Rescaling(1 / 127.5, offset=-1.0), "uint8"),
    "normalization": (lambda: L.Normalization(mean=100.0, variance=900.0), "int32"),
    "batch norm": (L.BatchNormalization, "uint8"),
    "quotient": (lambda: lambda x: x / 255.0, "uint8"),
    "product": (lambda: lambda x: x * 0.01, "int32"),
}


@pytest.mark.parametrize("recipe", ["int8", "int16x8"])
def test_whole_numbers_through_an_affine_map(recipe, tmp_path):
    """Five maps side by side in one model."""
    ends, data = [], []
    for i, (layer, dtype) in enumerate(AFFINE.values()):
        inputs = keras.Input((4, 4, 3), dtype=dtype, name=f"pixels{i}")
        ends.append((inputs, L.Dense(3, name=f"out{i}")(L.Flatten()(layer()(inputs)))))
        data.append(np.random.default_rng(i).integers(0, 256, (64, 4, 4, 3)).astype(dtype))
    quantized = tfc.quantize(keras.Model(*map(list, zip(*ends, strict=True))), recipe, data)
    for kind in FORMATS:
        artifact = tfc.export(quantized, tmp_path / f"m.{kind}", verify=data)
        for i, (name, (_, dtype)) in enumerate(AFFINE.items()):
            assert artifact.inputs[f"pixels{i}"].dtype == dtype, (name, kind)
            parity = artifact.parity.outputs[f"out{i}"]
            assert parity.max_steps < 1.01, (name, kind)
            assert parity.equal > (0.98 if recipe == "int8" else 0.5), (name, kind)


def test_a_mask_goes_through_quantizers_without_a_warning(tmp_path):
    ids = np.random.default_rng(0).integers(0, 9, (64, 5)).astype("int32")
    inputs = keras.Input((5,), dtype="int32", name="ids")
    x = L.GlobalAveragePooling1D()(L.Embedding(9, 6, mask_zero=True, name="words")(inputs))
    quantized = tfc.quantize(keras.Model(inputs, L.Dense(2, name="out")(x)), "int8", ids)
    for kind in FORMATS:
        assert tfc.export(quantized, tmp_path / f"m.{kind}", verify=ids).parity.outputs["out"].max_steps < 1.01, kind


@pytest.mark.filterwarnings("ignore:.*does not support masking")  # Keras, of the projections of grouped queries
@pytest.mark.parametrize(
    "attention", [lambda: L.MultiHeadAttention(2, 16), lambda: L.GroupQueryAttention(16, 4, 2)], ids=["all", "groups"]
)
def test_heads_of_an_attention_that_a_mask_keeps_whole_have_scales_of_their_own(attention, tmp_path):
    keras.utils.set_random_seed(0)
    ids = np.random.default_rng(0).integers(0, 50, (32, 6)).astype("int32")
    inputs = keras.Input((6,), dtype="int32", name="ids")
    x = L.Embedding(50, 32, mask_zero=True, name="words")(inputs)
    x = L.GlobalAveragePooling1D()(attention()(x, x))
    quantized = tfc.quantize(keras.Model(inputs, L.Dense(2, name="out")(x)), "int8", ids)
    for kind in FORMATS:
        artifact = tfc.export(quantized, tmp_path / f"m.{kind}", verify=ids)
        assert artifact.parity.outputs["out"].max_steps < 1.01
    heads = [array for array in onnx.load(artifact.path).graph.initializer if array.data_type == onnx.TensorProto.INT8]
    assert sum(np.prod(array.dims) == 1024 for array in heads) >= 2


def test_trained_quantized_models_ship_what_they_have_learned(tmp_path):
    keras.utils.set_random_seed(2)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(512, 8, 8, 1)).astype("float32")
    y = (x.mean((1, 2, 3)) > 0).astype("int32") + 2 * (x[:, :4].mean((1, 2, 3)) > 0)
    inputs = keras.Input((8, 8, 1))
    h = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, use_bias=False)(inputs)))
    model = keras.Model(inputs, L.Dense(4, name="logits")(L.Flatten()(h)))
    quantized = tfc.quantize(tfc.prune(model, 0.5), "int8")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    quantized.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    quantized.fit(x, y, epochs=12, verbose=0)
    logits = quantized.predict(x, verbose=0)
    assert np.mean(logits.argmax(-1) == y) > 0.85
    for kind in FORMATS:
        artifact = tfc.export(quantized, tmp_path / f"m.{kind}", verify=x)
        parity = artifact.parity.outputs["logits"]
        assert parity.max_steps <= 1.01
        assert parity.argmax_agreement >= 0.995
        assert parity.equal > 0.9


@pytest.mark.parametrize(
    ("model", "how", "message"),
    [
        (lambda: tfc.quantize(build("residual")), {}, "Expected calibrated ranges"),
        (lambda: build("residual"), {"inference_io": "int8"}, "need a quantized model with activations of 8"),
        (
            lambda: of_the_zoo("transformer"),
            {"inference_io": "int8"},
            "since input 'tokens' holds whole numbers",
        ),
        (lambda: build("residual"), {"inference_io": "int4"}, "Expected inference_io to be one of"),
        (lambda: build("residual"), {"opset": 12}, "Expected opset to be one of"),
        (lambda: build("residual"), {"opset": 18.0}, r"Expected opset to be one of .* Received: opset=18\.0"),
    ],
)
def test_what_is_refused_leaves_no_file(model, how, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tfc.export(model(), tmp_path / "m.tflite", **how)
    assert not list(tmp_path.iterdir())


def test_calls_that_the_converter_merges_keep_their_own_grids(tmp_path):
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential([keras.Input((20,)), L.Dense(8, activation="relu"), L.Dense(4, activation="relu")])
    one, other = keras.Input((20,), name="one"), keras.Input((20,), name="other")
    # Each call has its own quantizer; the two on the same input are one operator for the converter.
    together = L.Concatenate()([encoder(one), encoder(other), L.Multiply()([encoder(one), encoder(other)])])
    model = keras.Model([one, other], L.Dense(3, name="y")(together))
    data = list(np.random.default_rng(0).normal(size=(2, 64, 20)).astype("float32"))
    data[0][:48] *= 3
    quantized = tfc.quantize(model, "int8", data=data)
    ranges = {layer.name: layer for layer in quantized.layers if "_relu" in layer.name and hasattr(layer, "set_range")}
    narrow = ranges[max(ranges)]  # that of a product's factor
    narrow.set_range(0.0, narrow.range[1] / 2)
    for kind in FORMATS:
        path = tmp_path / f"model.{kind}"
        tfc.export(quantized, path, verify=data)
        checked = tfc.verify(quantized, path, data)
        assert checked["y"].max_steps <= 1, kind
        assert checked["y"].equal > 0.95, kind
