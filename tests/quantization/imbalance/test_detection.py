"""Tensors whose channels differ too much for one scale: what is done to each, and where nothing is."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.check import in_turn, outputs_of
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers

RNG = np.random.default_rng(0)
SIZES = {"small": (0, 1), "age": (18, 80), "income": (5000, 150_000), "flag": (0, 1)}


def columns(samples=512):
    """Return columns of very different size, of which the smallest two decide."""
    x = np.stack([RNG.uniform(*ends, samples) for ends in SIZES.values()], 1)
    x[:, 3] = np.round(x[:, 3])
    return x.astype("float32")


def statistics(x):
    return {"mean": x.mean(0), "variance": x.var(0)}


def normalization(x):
    return L.Normalization(mean=x.mean(0), variance=x.var(0), name="norm")


def batch_norm(x):
    layer = L.BatchNormalization(name="norm", epsilon=1e-6)
    layer.build((None, x.shape[1]))
    layer.moving_mean.assign(x.mean(0))
    layer.moving_variance.assign(x.var(0))
    return layer


def operations(x):
    mean, deviation = x.mean(0), x.std(0)
    return lambda t: (t - mean) / deviation


def correlation(got, wanted):
    return min(np.corrcoef(a, b)[0, 1] for a, b in zip(got.T, wanted.T, strict=True))


def network(front, units=16):
    """Return a network in which each normalized column counts as much."""
    x = inputs = keras.Input((4,), name="table")
    x = L.Dense(units, activation="relu", name="hidden")(front(x))
    return keras.Model(inputs, L.Dense(2, name="out")(x))


def run_both(quantized, x, folder):
    """Return the steps by which each file differs from Keras."""
    steps = []
    for suffix in ("tflite", "onnx"):
        outputs = tfc.export(quantized, folder / f"m.{suffix}", verify=x).parity.outputs.values()
        steps += [each.max_steps if each.scale else each.max_abs * 1e4 for each in outputs]
    return max(steps)


@pytest.mark.parametrize(("front", "config"), in_turn([normalization, batch_norm, operations], ["int8", "int16x8"]))
def test_a_map_in_front_stays_float(front, config, tmp_path):
    x = columns()
    model = network(front(x))
    with pytest.warns(UserWarning, match="Channels of 'table' differ too much in size .* channels 0, 1, 3 of 4"):
        quantized = tfc.quantize(model, config, x)
    assert correlation(outputs_of(quantized, x), outputs_of(model, x)) > 0.995
    assert tfc.summary(quantized).fallbacks
    assert "float: channels of 'table' differ" in str(tfc.summary(quantized).rows[0].status)
    if config == "int8":
        assert run_both(quantized, x[:32], tmp_path) <= 1.01


def test_without_data_the_statistics_in_front_say_it():
    x = columns()
    with pytest.warns(UserWarning, match="'norm' stays float, and what it makes is quantized"):
        quantized = tfc.quantize(network(normalization(x)), "int8")
    assert {q.source for q in activation_quantizers(quantized)} == {"norm", "hidden_relu", "out"}


def test_a_kernel_in_front_stays_float_where_the_small_columns_count():
    x = columns()
    model = network(lambda t: t)
    kernel = model.get_layer("hidden").kernel
    kernel.assign(np.asarray(kernel) / x.std(0)[:, None])
    with pytest.warns(UserWarning, match="'hidden' with 'hidden_relu' stays float"):
        quantized = tfc.quantize(model, "int8", x)
    assert correlation(outputs_of(quantized, x), outputs_of(model, x)) > 0.99
    assert tfc.summary(quantized).fallbacks == ("hidden", "hidden_relu")


def test_an_iterator_is_gone_through_twice():
    x = columns()
    with pytest.warns(UserWarning, match="stays float"):
        quantized = tfc.quantize(network(normalization(x)), "int8", (x[i : i + 64] for i in range(0, 512, 64)))
    assert all(quantizer.calibrated for quantizer in activation_quantizers(quantized))


def boxes(join, size=600.0):
    inputs = keras.Input((8,), name="x")
    box = L.Rescaling(size, name="size")(L.Dense(4, "relu", name="box")(inputs))
    return keras.Model(inputs, join([box, L.Dense(3, "sigmoid", name="score")(inputs)]))


JOINS = {
    "layer": L.Concatenate(name="det"),
    "operation": lambda parts: ops.concatenate(parts, axis=-1),
    "moved": lambda parts: L.Reshape((7, 1), name="moved")(L.Concatenate(name="det")(parts)),
}


@pytest.mark.parametrize("name", JOINS)
def test_a_concatenation_that_is_an_output_stays_float(name, tmp_path):
    x = RNG.normal(size=(256, 8)).astype("float32")
    model = boxes(JOINS[name])
    with pytest.warns(UserWarning, match=r"channels 4, 5, 6 of 7 would hold .* stays float"):
        quantized = tfc.quantize(model, "int8", x)
    got, wanted = (outputs_of(m, x).reshape(-1, 7) for m in (quantized, model))
    assert correlation(got, wanted) > 0.99
    assert run_both(quantized, x[:32], tmp_path) <= 1.01


def test_a_concatenation_of_like_sizes_is_integer():
    x = RNG.normal(size=(256, 8)).astype("float32")
    quantized = tfc.quantize(boxes(L.Concatenate(name="det"), size=2.0), "int8", x)
    assert not tfc.summary(quantized).fallbacks


def wide_and_narrow(behind, x):
    """Return a maximum of branches of thousands beside an embedding of -6..6."""
    given, ids = keras.Input((16,), name="x"), keras.Input((1,), dtype="int32", name="ids")
    how = {"bias_initializer": keras.initializers.Constant(-1400.0)}
    branches = [
        L.Dense(8, kernel_initializer=keras.initializers.RandomNormal(0, 300, seed=i), **how)(given) for i in range(5)
    ]
    table = L.Embedding(20, 8, embeddings_initializer=keras.initializers.RandomUniform(-6, 6, seed=1))
    joined = L.Concatenate(name="joined")([L.Maximum(name="largest")(branches), L.Flatten()(table(ids))])
    values = outputs_of(keras.Model([given, ids], joined), x)
    y = behind(values)(joined)
    model = keras.Model([given, ids], L.Dense(1, name="out")(L.Dense(16, activation="relu", name="hidden")(y)))
    if behind is raw:  # what a trained kernel makes of it
        kernel = model.get_layer("hidden").kernel
        kernel.assign(np.asarray(kernel) / values.std(0)[:, None])
    return model


def raw(values):
    return L.Identity()


@pytest.mark.parametrize(
    ("behind", "done"),
    [
        (batch_norm, "'norm' goes onto its branches"),
        pytest.param(normalization, "'norm' goes onto its branches", marks=pytest.mark.rare),
        (operations, "goes onto its branches"),
        (raw, "'joined' with 'hidden' stays float"),
    ],
)
def test_a_concatenation_within_a_model(behind, done, tmp_path):
    x = [RNG.normal(size=(512, 16)).astype("float32"), RNG.integers(0, 20, (512, 1)).astype("int32")]
    model = wide_and_narrow(behind, x)
    with pytest.warns(UserWarning, match=done):
        quantized = tfc.quantize(model, "int8", x)
    assert correlation(outputs_of(quantized, x), outputs_of(model, x)) > 0.98
    assert run_both(quantized, [part[:32] for part in x], tmp_path) <= 1.01


def test_what_a_maximum_cuts_off_widens_no_range():
    inputs = keras.Input((16,), name="x")
    low = {"bias_initializer": keras.initializers.Constant(-3000.0)}
    parts = [L.Dense(4, kernel_initializer=keras.initializers.RandomNormal(0, 300, seed=i), **low) for i in range(3)]
    model = keras.Model(inputs, L.ReLU(name="relu")(L.Maximum(name="largest")([part(inputs) for part in parts])))
    x = RNG.normal(size=(1024, 16)).astype("float32")
    config = tfc.QuantizeConfig(activations=tfc.ActivationSpec(range="minmax"))
    quantized = tfc.quantize(model, config, x)
    assert {q.source for q in activation_quantizers(quantized)} == {"x", "relu"}
    got, wanted = outputs_of(quantized, x), outputs_of(model, x)
    assert np.abs(got - wanted).max() < 0.05 * wanted.max()


def ordinary():
    """Yield models and data in which 8 bits do well, by name."""
    images = RNG.integers(0, 256, (64, 8, 8, 3)).astype("float32")
    image = keras.Input((8, 8, 3), name="image")

    def convolution(x, name, size=1.0):
        spread = np.geomspace(1 / 30, 1.0, 8) * size  # channels that differ by a factor of 30
        x = L.Conv2D(8, 3, padding="same", name=name)(x)
        return L.ReLU()(L.Rescaling(spread.tolist(), (0.1 * spread).tolist())(x))

    x = L.Normalization(mean=[120.0, 115.0, 100.0], variance=[60.0**2, 58.0**2, 62.0**2])(image)
    a = convolution(x, "a")
    b = convolution(a, "b")
    dense = L.BatchNormalization()(L.Concatenate()([a, b]))
    yield "a dense block", keras.Model(image, L.Conv2D(4, 1)(dense)), images
    yield "joined output", keras.Model(image, L.Concatenate()([a, b])), images
    flat = L.Flatten()(image)
    pixels = np.where(RNG.random((64, 8, 8, 3)) < 0.9, images % 4, images).astype("float32")
    pixels[:, 0] = 0.0  # dead
    pixels[:, 1] = 7.0  # constant
    values = pixels.reshape(64, -1)
    norm = L.Normalization(mean=values.mean(0), variance=np.maximum(values.var(0), 1.0))
    yield "a normalization of each pixel", keras.Model(image, L.Dense(3)(norm(flat))), pixels
    yield "a dense layer on pixels", keras.Model(image, L.Dense(3)(flat)), pixels / 255


ORDINARY = ["a dense block", "joined output", "a normalization of each pixel", "a dense layer on pixels"]


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_channels_are_left_alone(name):
    model, x = next((model, x) for label, model, x in ordinary() if label == name)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert not tfc.summary(tfc.quantize(model, "int8", x)).fallbacks


def test_weights_that_fit_channels_of_different_size_are_not_rounded_away():
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (128, 8, 8, 4)).astype("float32")
    x[..., 3] = generator.integers(0, 2, (128, 8, 8))  # a mask beside colours: the grid of the input holds all of it
    inputs = keras.Input((8, 8, 4), name="image")
    made = L.GlobalAveragePooling2D()(L.Conv2D(8, 3, activation="relu", name="conv")(inputs))
    model = keras.Model(inputs, L.Dense(3)(made))
    assert not tfc.summary(tfc.quantize(model, "int8", x)).fallbacks  # weights of one size, and no warning of them
    conv = model.get_layer("conv")
    conv.kernel.assign(np.asarray(conv.kernel) / np.float32([255, 255, 255, 1])[:, None])
    with pytest.warns(UserWarning, match=r"'conv' reads them with: those of channels 0, 1, 2 of 4 .* stays float"):
        quantized = tfc.quantize(model, "int8", x)
    assert correlation(outputs_of(quantized, x), outputs_of(model, x)) > 0.99


def fitting(x):
    """Return a network whose weights fit the size of each column."""
    model = network(lambda t: t)
    kernel = model.get_layer("hidden").kernel
    kernel.assign(kernel / x.std(0)[:, None])
    return model


def test_data_that_comes_later_is_looked_at_too():
    x = columns()
    inputs = keras.Input((4,), name="table")
    parts = [L.Rescaling(600.0)(L.Dense(4, activation="relu")(inputs)), L.Dense(3, activation="sigmoid")(inputs)]
    joined = keras.Model(inputs, L.Concatenate(name="det")(parts))
    scaled = (x - x.mean(0)) / x.std(0)
    for model, data, name in [(fitting(x), x, "'table'"), (joined, scaled, "'det_linear'")]:
        quantized = tfc.quantize(model, "int8")
        nodes = [len(layer._inbound_nodes) + len(layer._outbound_nodes) for layer in quantized.operations]
        with pytest.warns(UserWarning, match=f"Channels of {name} differ .* quantize the float model with data"):
            tfc.calibrate(quantized, iter([data]))
        tfc.calibrate(quantized, data[::-1])  # the same sizes again: nothing new is to be said
        assert nodes == [len(layer._inbound_nodes) + len(layer._outbound_nodes) for layer in quantized.operations]
    with pytest.warns(UserWarning, match="stays float"):
        kept = tfc.quantize(fitting(x), "int8", data=x)
    tfc.calibrate(kept, x * np.float32([1, 9, 1, 1]))


@pytest.mark.parametrize(("recipe", "said"), [("dynamic_int8", "hold"), ("int8_weights", "weights"), ("float16", "")])
def test_recipes_without_ranges_say_it_where_there_is_data(recipe, said):
    x = columns()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        tfc.quantize(fitting(x), recipe, data=x)
        tfc.quantize(network(normalization(x)), recipe, data=x)
    told = [str(each.message) for each in caught if "Channels of 'table' differ" in str(each.message)]
    assert len(told) == bool(said) and all(said in each and "layers=" in each for each in told)


def test_for_a_target_of_integers_alone_nothing_stays_float_and_it_is_said_what_is_lost(tmp_path):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(1).normal(size=(256, 4)).astype("float32")
    parts = [L.Dense(8, activation="relu", name="hidden"), L.Dense(3, name="out")]
    model = keras.Sequential([keras.Input((4,)), *parts])
    model.layers[-1].kernel.assign(np.asarray(model.layers[-1].kernel) * [1, 1, 5000])
    with pytest.warns(UserWarning, match="'out' stays float"):
        usual = tfc.quantize(model, "int8", x)
    with pytest.warns(UserWarning, match="since the target takes integers alone: scale what goes in") as said:
        whole = tfc.quantize(model, "int8", x, target="microcontroller")
    assert not any("stays float" in str(one.message) for one in said)
    kinds = [{one.arithmetic for one in tfc.plan_export(each, "tflite").operators} for each in (usual, whole)]
    assert kinds == [{"integer", "float"}, {"integer"}]
    artifact = tfc.export(whole, tmp_path / "whole.tflite", inference_io="int8", require_integer=True)
    assert not artifact.operators.floats
    assert {quantizer.spec.arithmetic for quantizer in activation_quantizers(whole)} == {"reference"}
