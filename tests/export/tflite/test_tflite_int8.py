"""Static 8 bits: which operators come out integer, and that they compute what the model does."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.export.tiny import bake, constants, convert, interpreter, kernels, quantized, run, steps
from tfcompress.export import export
from tfcompress.export.tflite.flatbuffer import operators
from tfcompress.quantization.numerics.constant_range import FixedQuantizer
from tfcompress.quantization.quantize import quantize

IMAGE = (8, 8, 4)


def images(count=1, n=24, shape=IMAGE):
    random = np.random.default_rng(7)
    return [random.normal(size=(n, *shape)).astype("float32") for _ in range(count)]


def between(function):
    """A function between a quantizer for each input and one behind."""
    return lambda q, *xs: q(function(*[q(x) for x in xs]))


ONE = {
    "CONV_2D": lambda: layers.Conv2D(5, 3, activation="relu"),
    "DEPTHWISE_CONV_2D": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
    "TRANSPOSE_CONV": lambda: layers.Conv2DTranspose(5, 3, strides=2, padding="same"),
    "FULLY_CONNECTED": lambda: keras.Sequential([layers.Flatten(), layers.Dense(5)]),
    "CONV_2D dilated": lambda: layers.Conv2D(5, 3, dilation_rate=2),
    "CONV_2D grouped": lambda: layers.Conv2D(6, 3, groups=2),
    "CONV_2D padded": lambda: keras.Sequential([layers.ZeroPadding2D(), layers.Conv2D(5, 3, strides=2)]),
    "MEAN": layers.GlobalAveragePooling2D,
    "MEAN of rows": lambda: lambda x: ops.mean(x, axis=1),
    "SUM": lambda: lambda x: ops.sum(x, axis=-1),
    "LEAKY_RELU": lambda: ops.leaky_relu,
    "HARD_SWISH": lambda: ops.hard_silu,
    "GELU": lambda: lambda x: ops.gelu(x, approximate=False),
    "ELU": lambda: ops.elu,
    "EXP": lambda: ops.exp,
    "RELU": lambda: ops.relu,
    "RELU6": lambda: ops.relu6,
    "ABS": lambda: ops.abs,
    "PRELU": lambda: layers.PReLU(shared_axes=[1, 2]),
    "MUL negative": lambda: ops.negative,
    "MUL square": lambda: ops.square,
    "MUL scalar": lambda: lambda x: x * 0.3,
    "ADD scalar": lambda: lambda x: x + 1.5,
    "ADD hard_sigmoid": lambda: ops.hard_sigmoid,
    "PAD": layers.ZeroPadding2D,
    "MIRROR_PAD": lambda: lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect"),
}
TWO = {
    "ADD": ops.add,
    "SUB": ops.subtract,
    "MUL": ops.multiply,
    "MAXIMUM": ops.maximum,
    "MINIMUM": ops.minimum,
    "CONCATENATION": lambda x, y: ops.concatenate([x, y], -1),
    "PACK": lambda x, y: ops.stack([x, y], 1),
    "BATCH_MATMUL": lambda x, y: ops.matmul(x, ops.swapaxes(y, -1, -2)),
    "ADD averaged": lambda x, y: layers.Average()([x, y]),
}


def check(model, content, samples, name):
    found = kernels(content)
    assert found[name.split()[0]] == "INT8"
    # What only moves values may stand before the first quantizer: the converter puts it there.
    assert {kind for op, kind in found.items() if op not in ("RESHAPE", "TRANSPOSE")} == {"INT8"}
    off = steps(model, content, samples)
    assert off.max() < 1.01
    assert (off < 0.01).mean() >= 0.95


@pytest.mark.parametrize("name", ONE)
def test_one_input(name):
    samples, layer = images(), ONE[name]()
    model = quantized(between(layer), samples)
    check(model, convert(model), samples, name)


@pytest.mark.parametrize("name", TWO)
def test_two_inputs(name):
    samples = images(2)
    samples[1] *= 0.8
    model = quantized(between(TWO[name]), samples)
    check(model, convert(model), samples, name)


@pytest.mark.parametrize(
    ("function", "name", "fixed"),
    [
        (ops.softmax, "SOFTMAX", (0, 255 / 256)),
        (ops.sigmoid, "LOGISTIC", (0, 255 / 256)),
        (ops.tanh, "TANH", (-1, 127 / 128)),
    ],
)
def test_fixed_outputs(function, name, fixed):
    samples = images()
    model = quantized(lambda q, x: q(function(q(x)), *fixed), samples)
    content = convert(model)
    check(model, content, samples, name)
    assert [op.name for op in operators(content)] == ["QUANTIZE", name, "DEQUANTIZE"]
    other = quantized(between(function), samples)
    assert [op.name for op in operators(convert(other))] == ["QUANTIZE", name, "QUANTIZE", "DEQUANTIZE"]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (layers.MaxPooling2D(), ["MAX_POOL_2D"]),
        (layers.Flatten(), ["RESHAPE"]),
        (layers.UpSampling2D(), ["RESHAPE", "TILE", "RESHAPE", "TILE", "RESHAPE"]),
        (lambda x: ops.transpose(x, (0, 2, 1, 3)), ["TRANSPOSE"]),
        (lambda x: x[:, 1:5], ["STRIDED_SLICE"]),
        (lambda x: ops.take(x, [1, 3], axis=1), ["GATHER"]),
        (lambda x: ops.max(x, axis=-1), ["REDUCE_MAX"]),
        (lambda x: ops.tile(x, (1, 2, 1, 1)), ["TILE"]),
        (lambda x: ops.flip(x, axis=1), ["REVERSE_V2"]),
    ],
)
def test_what_only_moves_values_carries_the_range(function, names):
    """Behind it, as behind the quantizer before it, the numbers are the same."""
    samples = images()
    model = quantized(lambda q, x: q(ops.abs(function(q(x)))), samples)
    content = convert(model)
    assert steps(model, content, samples).max() < 0.01
    found = [op.name for op in operators(content) if op.outputs[0] == "INT8"]
    assert found == ["QUANTIZE", *names, "ABS"]


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (layers.AveragePooling2D(2), "AVERAGE_POOL_2D"),
        (layers.UpSampling2D(interpolation="bilinear"), "RESIZE_BILINEAR"),
    ],
)
def test_averages_stay_on_their_inputs_grid(layer, name):
    samples = images()
    low, high = float(samples[0].min()), float(samples[0].max())
    inputs = keras.Input(IMAGE)
    model = keras.Model([inputs], FixedQuantizer(low, high)(layer(FixedQuantizer(low, high)(inputs))))
    content = convert(model)
    assert [op.name for op in operators(content)] == ["QUANTIZE", name, "DEQUANTIZE"]
    off = steps(model, content, samples)
    assert off.max() < 1.01
    assert (off < 0.01).mean() >= 0.75  # halves of a step round otherwise


def test_a_quantizer_behind_what_moves_values_quantizes_what_is_before_it():
    samples, conv = images(), layers.Conv2D(6, 3)
    model = quantized(lambda q, x: q(ops.relu(layers.Flatten()(layers.MaxPooling2D()(conv(q(x)))))), samples)
    content = convert(model)
    check(model, content, samples, "CONV_2D")


def test_concatenation_without_quantizers_before_it_needs_none():
    samples, one, other = images(), layers.Conv2D(3, 3), layers.Conv2D(4, 3)

    def make(q, x):
        x = q(x)
        return q(ops.concatenate([one(x), other(x)], -1))

    model = quantized(make, samples)
    content = convert(model)
    assert [op.name for op in operators(content)] == ["QUANTIZE", "CONV_2D", "CONV_2D", "CONCATENATION", "DEQUANTIZE"]
    check(model, content, samples, "CONCATENATION")


def test_scales_that_are_almost_one_are_joined(tmp_path):
    """The kernel of a concatenation fails unless all scales are equal to the last digit."""
    inputs = [keras.Input((2,), name=name) for name in ("a", "b")]
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate(name="joint")(inputs)))
    x = {name: np.random.default_rng(0).uniform(0, 1, (8, 2)).astype("float32") for name in ("a", "b")}
    made = quantize(model, "int8", x)
    for name, low in (("a_quantizer", 0.0), ("b_quantizer", 0.0), ("joint_quantizer", -9e-7)):
        made.get_layer(name).set_range(low, 1.0)
    scales = {float(made.get_layer(name).scale) for name in ("a_quantizer", "joint_quantizer")}
    assert len(scales) == 2
    assert export(made, tmp_path / "m.tflite", verify=x).parity.outputs


def test_layer_normalization_is_a_float_fallback_whose_mean_is_not_rounded():
    samples, norm, dense = images(shape=(16,)), layers.LayerNormalization(), layers.Dense(8)
    model = quantized(lambda q, x: q(dense(q(norm(q(x))))), samples)
    content = convert(model)
    found = kernels(content)
    assert found["MEAN"] == "FLOAT32"
    assert found["FULLY_CONNECTED"] == "INT8"
    off = steps(model, content, samples)
    assert off.max() < 1.01
    assert (off < 0.01).mean() >= 0.95


def network(q, x, parts):
    first, deep, point, dense = parts
    x = q(ops.relu6(first(q(x))))
    y = q(point(q(ops.relu(deep(x)))))
    x = q(ops.add(x, y))
    return q(dense(q(layers.GlobalAveragePooling2D()(x))))


def parts():
    return (
        layers.Conv2D(8, 3, strides=2),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.Conv2D(8, 1),
        layers.Dense(10),
    )


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_are_the_planned_integers(per_channel):
    samples, made = images(), parts()
    model = quantized(lambda q, x: network(q, x, made), samples, per_channel=per_channel)
    content = convert(model, per_channel=per_channel)
    assert set(kernels(content).values()) == {"INT8"}
    off = steps(model, content, samples)
    assert off.max() < 1.01
    assert (off < 0.01).mean() >= 0.9

    found = constants(content)
    assert len(found) == 4
    for layer, (integers, quantization) in zip(made, found, strict=True):
        kernel = layer.kernel.numpy()
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        stored = integers if depthwise else np.moveaxis(integers, 0, -1)
        stored = stored.reshape(kernel.shape)
        scale = quantization.scale.reshape(-1, 1) if depthwise else quantization.scale
        assert len(quantization.scale) == (kernel.shape[2 if depthwise else -1] if per_channel else 1)
        np.testing.assert_allclose(stored * scale, kernel, rtol=1e-6, atol=1e-7)
        assert np.abs(integers).max() == 127
    assert all(integers.dtype == np.int32 for integers, _ in constants(content, "INT32"))


def test_a_layer_that_is_used_twice_is_stored_once():
    samples, conv = images(shape=(8, 8, 4)), layers.Conv2D(4, 3, padding="same")
    model = quantized(lambda q, x: q(conv(q(conv(q(x))))), samples)
    assert len(constants(convert(model))) == 1


def test_a_channel_without_weights_keeps_its_bias():
    samples, conv = images(), layers.Conv2D(2, 3)
    conv.build((None, *IMAGE))
    bake(conv)
    kernel = conv.kernel.numpy()
    kernel[..., 1] = 0
    conv.kernel.assign(kernel)
    conv.bias.assign([0.1, 0.777])
    model = quantized(lambda q, x: q(conv(q(x))), samples, bake_layers=False)
    assert steps(model, convert(model), samples).max() < 1.01


def test_a_bias_beyond_its_32_bits_costs_weights_not_itself():
    samples, conv = images(), layers.Conv2D(2, 1)
    conv.build((None, *IMAGE))
    bake(conv)
    conv.kernel.assign(conv.kernel.numpy() * np.float32(1e-12))
    conv.bias.assign([100.0, -3.0])
    model = quantized(lambda q, x: q(conv(q(x))), samples, bake_layers=False)
    assert steps(model, convert(model), samples).max() < 1.01


def test_kernels_off_the_grid_stay_float():
    samples, conv, dense = images(), layers.Conv2D(5, 3), layers.Dense(4)
    model = quantized(lambda q, x: q(dense(layers.Flatten()(q(conv(q(x)))))), samples, bake_layers=False)
    bake(dense)
    found = kernels(convert(model))
    assert found["CONV_2D"] == "FLOAT32"
    assert found["FULLY_CONNECTED"] == "INT8"


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integer_inputs_and_outputs(dtype):
    samples, made = images(), parts()
    model = quantized(lambda q, x: network(q, x, made), samples)
    content, floating = convert(model, inference_io=dtype), convert(model)
    made = interpreter(content)
    (given,), (taken,) = made.get_input_details(), made.get_output_details()
    assert (given["dtype"], taken["dtype"]) == (np.dtype(dtype), np.dtype(dtype))
    if dtype == "int8":
        assert {op.name for op in operators(content)}.isdisjoint({"QUANTIZE", "DEQUANTIZE"})
    scale, zero_point = given["quantization"]
    limits = np.iinfo(dtype)
    integers = np.clip(np.round(samples[0] / scale + zero_point), limits.min, limits.max).astype(dtype)
    scale, zero_point = taken["quantization"]
    got = (run(content, [integers]).astype("float32") - zero_point) * scale
    np.testing.assert_allclose(got, run(floating, samples), atol=scale * 1.01)
    assert made.get_signature_list()["serving_default"]["inputs"] == ["x0"]
    assert made.get_signature_runner("serving_default").get_input_details()["x0"]["dtype"] == np.dtype(dtype)


def test_integer_inputs_want_a_quantizer():
    inputs = keras.Input(IMAGE, name="x")
    model = keras.Model(inputs, FixedQuantizer(-1, 1)(ops.sin(inputs)))
    with pytest.raises(ValueError, match="Expected inference_io='float32'.*'int8', input"):
        convert(model, inference_io="int8")


def test_any_number_of_samples():
    samples, made = images(), parts()
    model = quantized(lambda q, x: network(q, x, made), samples)
    content = convert(model, batch=None)
    assert {"CONV_2D", "FULLY_CONNECTED"} <= set(kernels(content))
    made = interpreter(content)
    made.resize_tensor_input(made.get_input_details()[0]["index"], samples[0].shape)
    made.allocate_tensors()
    made.set_tensor(made.get_input_details()[0]["index"], samples[0])
    made.invoke()
    got = made.get_tensor(made.get_output_details()[0]["index"])
    np.testing.assert_allclose(got, run(convert(model), samples), atol=1e-6)


def test_an_embedding_is_stored_as_integers():
    samples = [np.random.default_rng(0).integers(0, 20, (24, 6)).astype("int32")]
    table, dense = layers.Embedding(20, 4), layers.Dense(3)
    model = quantized(lambda q, x: q(dense(layers.Flatten()(q(table(x))))), samples)
    content = convert(model)
    assert kernels(content)["GATHER"] == "INT8"
    assert steps(model, content, samples).max() < 1.01


@pytest.mark.parametrize("layer", [layers.LSTM, layers.GRU])
@pytest.mark.parametrize("unroll", [False, True])
def test_recurrent_layers_are_float_fallbacks(layer, unroll):
    samples = images(shape=(5, 4), n=8)
    recurrent, first, dense = layer(6, unroll=unroll), layers.Conv1D(4, 2, padding="same"), layers.Dense(3)
    model = quantized(lambda q, x: q(dense(q(recurrent(q(first(q(x))))))), samples)
    content = convert(model)
    assert [op.outputs[0] for op in operators(content) if op.name == "CONV_2D"] == ["INT8"]
    main = [op for op in operators(content) if not op.subgraph]
    assert (main[-2].name, main[-2].outputs[0]) == ("FULLY_CONNECTED", "INT8")
    off = steps(model, content, samples)
    assert off.max() < 1.01
    assert (off < 0.01).mean() >= 0.9
