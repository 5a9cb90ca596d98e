"""In inference a quantized model gives the integers that a runtime gives: each of them."""

from __future__ import annotations

import dataclasses
import importlib.util
from unittest import mock

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.check import outputs_of
from tfcompress.quantization.arithmetic.choice import ARITHMETICS
from tfcompress.quantization.arithmetic.xnnpack import XnnPack
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.graph.chosen_arithmetic import arithmetic_of, simulated
from tfcompress.quantization.graph.integer_operator import IntegerOperator
from tfcompress.quantization.graph.quantized_layer import QuantizedLayer
from tfcompress.runtime.opening import open_runner

MICRO = importlib.util.find_spec("tflite_micro") is not None
WAYS = [
    ("xnnpack", ".tflite", "litert"),
    pytest.param("reference", ".tflite", "tflm", marks=pytest.mark.skipif(not MICRO, reason="no TFLite Micro")),
    ("onnxruntime", ".onnx", "onnxruntime"),
]


def network() -> keras.Model:
    """Return a small network with most kinds of operators; weights and statistics are random."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 3))
    x = L.ReLU()(L.BatchNormalization(name="norm")(L.Conv2D(8, 3, padding="same", use_bias=False)(inputs)))
    y = L.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    x = L.ReLU()(L.Add()([x, L.Conv2D(8, 1)(y)]))
    x = L.Concatenate()([L.Conv2D(4, 1, activation="relu")(x), x])
    x = L.GlobalAveragePooling2D()(x)
    x = L.Multiply()([L.Dense(12, name="one")(x), L.Dense(12, name="other")(x)])
    model = keras.Model(inputs, L.Dense(6, name="logits")(x))
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            signs = random.choice([-1, 1], weight.shape) if weight.name == "gamma" else 1
            weight.assign(random.uniform(0.5, 1.5, weight.shape) * signs)
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(random.normal(0, 0.3, weight.shape))
    return model


X = np.random.default_rng(1).normal(size=(48, 8, 8, 3)).astype("float32")


@pytest.fixture(scope="module")
def quantized() -> keras.Model:
    return tfc.quantize(network(), "int8", X)


def sequence_network() -> keras.Model:
    """Return a small network of what sequences go through."""
    keras.utils.set_random_seed(4)
    inputs = keras.Input((8, 6))
    x = L.ReLU()(inputs)
    x = L.Add()([L.MultiHeadAttention(2, 4)(x, inputs), L.AveragePooling1D(3, 1, padding="same")(x)])
    x = L.PReLU(shared_axes=[1], alpha_initializer=keras.initializers.RandomUniform(-0.1, 0.4, seed=1))(x)
    x = L.Concatenate()([L.AveragePooling1D(2)(x), L.MaxPooling1D(2)(x)])
    return keras.Model(inputs, L.Dense(5, activation="softmax")(L.Flatten()(x)))


@pytest.fixture(scope="module")
def sequential() -> keras.Model:
    x = np.random.default_rng(1).normal(size=(48, 8, 6)).astype("float32")
    return tfc.quantize(sequence_network(), "int8", x)


@pytest.mark.parametrize(("arithmetic", "suffix", "runtime"), WAYS)
def test_what_sequences_go_through_is_that_of_the_runtime(arithmetic, suffix, runtime, sequential, tmp_path):
    path = tfc.export(sequential, tmp_path / f"model{suffix}", verify=False).path
    new = np.random.default_rng(2).normal(size=(200, 8, 6)).astype("float32")
    with simulated(sequential, arithmetic):
        expected = outputs_of(sequential, new)
        traced = keras.Model(sequential.inputs, sequential.outputs).predict(new, batch_size=200, verbose=0)
    np.testing.assert_array_equal(traced, expected)
    received = open_runner(path, runtime=runtime).predict(new)
    assert np.abs(received - expected).max() < 1 / 512


@pytest.mark.parametrize(("arithmetic", "suffix", "runtime"), WAYS)
def test_all_outputs_equal_those_of_the_runtime(arithmetic, suffix, runtime, quantized, tmp_path):
    path = tfc.export(quantized, tmp_path / f"model{suffix}", verify=False).path
    new = np.random.default_rng(2).normal(size=(64, 8, 8, 3)).astype("float32")
    with simulated(quantized, arithmetic):
        expected = outputs_of(quantized, new)
        traced = ops.convert_to_numpy(keras.Model(quantized.inputs, quantized.outputs).predict(new, verbose=0))
    np.testing.assert_array_equal(traced.reshape(expected.shape), expected)
    step = activation_quantizers(quantized)[-1].grid.scale
    received = open_runner(path, runtime=runtime).predict(new)
    assert np.abs(received - expected).max() < step / 2
    assert arithmetic_of(quantized) == "xnnpack"


def beside_another_scale() -> keras.Model:
    """Return a network of means that are joined with values ten times as large, on whose grid they are read."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((8, 8, 3))

    def joined(join: L.Layer, means: L.Layer, before: L.Layer, beside: L.Layer, x: keras.KerasTensor = inputs):
        return join([means(before(x)), L.Rescaling(10.0)(beside(x))])

    ends = {
        "same": joined(L.Concatenate(), L.AveragePooling2D(3, 1, padding="same"), L.Conv2D(4, 1), L.Conv2D(4, 1)),
        "slid": joined(L.Maximum(), L.AveragePooling2D(2, (2, 1)), L.Conv2D(4, 1), L.Conv2D(4, 2, (2, 1))),
        "adaptive": joined(L.Concatenate(), L.AdaptiveAveragePooling2D(5), L.Conv2D(4, 1), L.Conv2D(4, 4)),
        "bilinear": joined(
            L.Concatenate(), L.UpSampling2D(2, interpolation="bilinear"), L.Conv2D(4, 2, 2), L.Conv2D(4, 1)
        ),
    }
    rows = L.Reshape((64, 3))(inputs)
    ends["row"] = joined(L.Minimum(), L.AveragePooling1D(3, 1, padding="same"), L.Dense(4), L.Dense(4), rows)
    made = {name: (L.Dense if name == "row" else lambda n, **k: L.Conv2D(n, 1, **k))(2, name=name) for name in ends}
    return keras.Model(inputs, {name: made[name](x) for name, x in ends.items()})


@pytest.fixture(scope="module")
def joined() -> keras.Model:
    return tfc.quantize(beside_another_scale(), "int8", X)


@pytest.mark.parametrize(("arithmetic", "suffix", "runtime"), WAYS)
def test_means_are_those_of_the_runtime_also_where_they_are_read_on_another_grid(
    arithmetic, suffix, runtime, joined, tmp_path
):
    path = tfc.export(joined, tmp_path / f"model{suffix}", verify=False).path
    first = activation_quantizers(joined)[0].grid.scale
    on_the_grid = np.round(X / first) * np.float32(first)  # the file may round what is halfway otherwise
    with simulated(joined, arithmetic):
        traced = keras.Model(joined.inputs, joined.output)  # a predict of its own, which is traced with it
        expected = traced.predict(on_the_grid, batch_size=48, verbose=0)
    received = open_runner(path, runtime=runtime).predict(on_the_grid)
    assert set(received) == set(expected) == {"same", "slid", "adaptive", "bilinear", "row"}
    grids = {quantizer.source: quantizer.grid for quantizer in activation_quantizers(joined)}
    for name, values in expected.items():
        steps = np.abs(received[name] - values).max() / grids[name].scale
        # XNNPACK resizes on the first grid, and Keras in real numbers.
        assert steps < (2.01 if (arithmetic, name) == ("xnnpack", "bilinear") else 0.01), (name, steps)


def test_the_arithmetic_is_saved_with_the_model(tmp_path):
    model = tfc.quantize(network(), "int8", X, arithmetic="reference")
    tfc.save(model, tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert arithmetic_of(loaded) == "reference"
    np.testing.assert_array_equal(outputs_of(loaded, X), outputs_of(model, X))
    assert {type(layer) for layer in loaded.layers} >= {IntegerOperator, QuantizedLayer}


def test_layers_that_simulate_different_runtimes_do_so_after_another_was_simulated():
    inputs = keras.Input((4,))
    model = tfc.quantize(keras.Model(inputs, L.Dense(2, name="dense")(inputs)), "int8", np.eye(4, dtype="float32"))
    first, last = activation_quantizers(model)
    last.spec = dataclasses.replace(last.spec, arithmetic="reference")
    for name in ("xnnpack", "reference", "onnxruntime"):
        with simulated(model, name):
            assert {first.spec.arithmetic, last.spec.arithmetic} == {name}
        assert (first.spec.arithmetic, last.spec.arithmetic) == ("xnnpack", "reference")
    assert model.get_layer("dense").transforms[0][1].activations.arithmetic == "xnnpack"


def test_an_unknown_arithmetic_is_refused_before_any_work():
    with pytest.raises(ValueError, match="arithmetic.*Did you mean 'xnnpack'"):
        tfc.quantize(network(), "int8", X, arithmetic="xnnpak")
    with pytest.raises(ValueError, match="arithmetic"):
        tfc.ActivationSpec(arithmetic="tflite")


WIDE = {
    "dense": ((2048,), lambda: L.Dense(64)),
    "transposed": ((1, 1, 2048), lambda: L.Conv2DTranspose(64, 1)),
    "einsum": ((1, 2048), lambda: L.EinsumDense("abc,dc->abd", (None, 64), bias_axes="d")),
}


@pytest.mark.parametrize("kind", WIDE)
def test_sums_beyond_float32_are_those_of_the_file(kind, tmp_path):
    shape, layer = WIDE[kind]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer()(inputs))
    random = np.random.default_rng(0)
    kernel, bias = model.layers[-1].weights
    kernel.assign(random.choice([0.5, 1.0], kernel.shape))
    x = random.uniform(0.5, 1, (256, *shape)).astype("float32")
    bias.assign(-outputs_of(model, x).reshape(-1, bias.shape[0]).mean(0))
    made = tfc.quantize(model, "int8", x)
    path = tfc.export(made, tmp_path / "model.tflite", verify=False).path
    step = activation_quantizers(made)[-1].grid.scale
    assert np.abs(open_runner(path).predict(x) - outputs_of(made, x)).max() < step / 2


def test_a_bias_beyond_float32_is_added_as_an_integer():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, L.Dense(1, name="dense")(inputs))
    model.layers[-1].set_weights([np.float32([[1e-3], [1e-3]]), np.float32([300.0])])
    made = tfc.quantize(model, "int8", np.float32([[0.0, 0.0], [1.0, 1.0]]))
    seen = []

    class Spy(XnnPack):
        def requantized(self, sums, first, second, output):
            seen.append((keras.backend.standardize_dtype(sums.dtype), float(ops.max(sums))))
            return super().requantized(sums, first, second, output)

    with mock.patch.dict(ARITHMETICS, xnnpack=Spy()):
        at_one = made(np.float32([[1 / 255, 0.0]]), training=False)
    assert seen[-1][0] == "float64" and seen[-1][1] > 2**24 and seen[-1][1] % 2 == 1
    assert abs(float(at_one[0, 0]) - 300) < 2


@pytest.mark.parametrize("merge", [L.Add(), L.Multiply(), ops.subtract, ops.add], ids=["Add", "Multiply", "-", "+"])
def test_tensors_of_other_ranks_and_batches_are_merged_as_without_quantization(merge, tmp_path):
    inputs = keras.Input((4, 4, 3), batch_size=4)
    x, y = L.Dense(4)(inputs), L.Dense(4)(inputs)
    y = L.GlobalAveragePooling2D()(y) if isinstance(merge, L.Layer) else ops.mean(y, axis=0, keepdims=True)
    merged = merge([x, y]) if isinstance(merge, L.Layer) else merge(x, y)
    model = keras.Model(inputs, L.Dense(2, name="last")(merged))
    x = np.random.default_rng(0).normal(size=(4, 4, 4, 3)).astype("float32")
    made = tfc.quantize(model, "int8", x)
    step = activation_quantizers(made)[-1].grid.scale
    received = outputs_of(made, x)
    assert np.abs(received - outputs_of(model, x)).max() < 8 * step
    path = tfc.export(made, tmp_path / "model.tflite", verify=False).path
    assert np.abs(open_runner(path).predict(x) - received).max() < step / 2


def test_a_constant_among_several_summands_stays_one():
    inputs = keras.Input((1, 3))
    constant = ops.convert_to_tensor(np.float32([[[1, 2, 3, 4]]]))
    model = keras.Model(inputs, L.Add()([L.Dense(4)(inputs), L.Dense(4)(inputs), constant]))
    x = np.random.default_rng(0).normal(size=(32, 1, 3)).astype("float32")
    made = tfc.quantize(model, "int8", x)
    step = activation_quantizers(made)[-1].grid.scale
    assert np.abs(outputs_of(made, x) - outputs_of(model, x)).max() < 4 * step


def test_inference_has_gradients_to_inputs_and_kernels(quantized):
    import tensorflow as tf

    kernels = [w for w in quantized.trainable_variables if w.name == "kernel"]
    with tf.GradientTape() as tape:
        x = tf.convert_to_tensor(X[:4])
        tape.watch(x)
        loss = tf.reduce_sum(quantized(x, training=False) ** 2)
    gradients = tape.gradient(loss, [x, *(w.value for w in kernels)])
    assert all(gradient is not None and np.abs(gradient).max() > 0 for gradient in gradients)


def test_without_ranges_nothing_is_rounded():
    model = tfc.quantize(network(), "int8")
    plain = network()
    difference = np.abs(outputs_of(model, X) - outputs_of(plain, X)).max()
    assert difference < 0.1 * np.abs(outputs_of(plain, X)).max()
