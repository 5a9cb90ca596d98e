"""Weights with a scale for each block of inputs: what they are, which layers have them, and how they train."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.quantization.weights.blocks import blocks_of

pytestmark = pytest.mark.filterwarnings("ignore:LiteRT has no kernel")


def config(block=16, **weights):
    return tfc.QuantizeConfig(tfc.WeightSpec(**{"bits": 4, **weights}, granularity=block), activations=None)


def attention():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 32), name="x")
    x = L.MultiHeadAttention(4, 8, name="mha")(inputs, inputs)
    return keras.Model(inputs, L.Dense(6, name="dense")(x))


def test_each_block_of_a_matrix_has_its_own_scale():
    quantized = tfc.quantize(attention(), config())
    found = {layer.name: layer for layer in wrapped_layers(quantized)}
    shapes = {name: next(iter(layer.encoded().values())).scale.shape for name, layer in found.items()}
    assert shapes == {
        **dict.fromkeys(("mha_query", "mha_key", "mha_value"), (2, 4, 8)),
        "mha_attention_output": (2, 1, 32),  # a block is two heads of 8
        "dense": (2, 6),
    }
    for layer in found.values():
        (encoded,), (seen,) = layer.encoded().values(), layer.transformed().values()
        np.testing.assert_array_equal(encoded.decode(), np.asarray(seen))
    kernel = np.asarray(found["dense"].layer.kernel)
    limits = np.abs(kernel.reshape(2, 16, 6)).max(axis=1)
    np.testing.assert_allclose(next(iter(found["dense"].encoded().values())).scale, limits / 7, rtol=1e-6)
    assert "int4 in blocks of 16" in str(tfc.summary(quantized))


def test_more_scales_lose_less_and_searched_or_rounded_ones_less_than_that():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), L.Dense(32)])
    x = np.random.default_rng(0).standard_t(3, (256, 64)).astype("float32")

    def error(given, **how):
        return float(np.square(tfc.quantize(model, given, **how)(x) - model(x)).mean())

    blocks = error(config())
    assert error(config(range="mse")) < blocks < error("int4_weights")
    assert error(config(), data=x, rounding="gptq") < blocks


@pytest.mark.parametrize("range", ["minmax", "learned", pytest.param("mse", marks=pytest.mark.rare)])
def test_training_and_saving(range, tmp_path):
    keras.utils.set_random_seed(0)
    quantized = tfc.quantize(keras.Sequential([keras.Input((32,)), L.Dense(4)]), config(range=range))
    x = np.random.default_rng(0).normal(size=(128, 32)).astype("float32")
    quantized.compile(keras.optimizers.Adam(0.03), "mse")
    losses = quantized.fit(x, x[:, :4] - x[:, -4:], epochs=6, verbose=0).history["loss"]
    assert losses[-1] < 0.4 * losses[0]
    quantized.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x), quantized(x))


def test_blocks_fit_or_are_refused():
    dense = L.Dense(3)
    dense.build((None, 48))
    assert blocks_of(dense, 0, 16) == (16, 1) and blocks_of(dense, 0, 32) is None and blocks_of(dense, 0, None) is None
    inputs = keras.Input((6, 16))
    x = L.Dense(48, name="fits")(inputs)
    model = keras.Model(inputs, L.Dense(2, name="short")(L.Flatten()(L.Conv1D(2, 3, name="conv")(x))))
    with pytest.warns(
        UserWarning, match=r"each channel or table, and not for each block of 16 inputs, in 'conv' \(Conv1D\), 'sho"
    ):
        quantized = tfc.quantize(model, config())
    axes = {layer.name: next(iter(layer.encoded().values())).axis for layer in wrapped_layers(quantized)}
    assert axes == {"fits": (1,), "conv": (2,), "short": (1,)}  # one block of 16 is all inputs
    with pytest.raises(ValueError, match=r"blocks of 16 divide\. Received: 'conv' \(Conv1D\)\. Take granularity="):
        tfc.quantize(model, {"conv": config()})
    with pytest.raises(ValueError, match=r"blocks of 64 divide\. Received: 'fits' \(16 inputs\)"):
        tfc.quantize(model, config(64))


def test_layers_at_the_ends_and_clustered_ones_have_no_blocks_and_that_is_said():
    layers = [L.Dense(32, name="first"), L.Dense(32, name="middle"), L.Dense(3, name="last")]
    model = keras.Sequential([keras.Input((20,)), *layers])

    def axes(quantized):
        return [next(iter(layer.encoded().values())).axis for layer in wrapped_layers(quantized)]

    with pytest.warns(UserWarning, match=r"block of 16 inputs, in 'first' \(20 inputs\): blocks"):
        ends = tfc.quantize(model, dataclasses.replace(config(), first_and_last_bits=8))
    assert axes(ends) == [(1,), (0, 1), (0, 1)]
    with pytest.warns(UserWarning, match=r"'first' \(20 inputs\), 'middle' \(clustered\): blocks"):
        shared = tfc.quantize(tfc.cluster(model, 6, layers=["middle"]), config())
    assert axes(shared) == [(1,), (), (0, 1)]
    with pytest.warns(UserWarning, match=r"'middle' \(clustered\): blocks"):
        tables = tfc.quantize(tfc.cluster(model, 6, layers=["middle"], granularity="per_channel"), config())
    assert axes(tables) == [(1,), (1,), (0, 1)]


def test_blocks_that_tflite_has_no_kernel_for_are_said_at_once():
    model = keras.Sequential([keras.Input((64,)), L.Dense(2)])
    for given, said in ((config(16), "4 bits in blocks of 16"), (config(32, bits=8), "8 bits in blocks of 32")):
        with pytest.warns(UserWarning, match=f"LiteRT has no kernel for weights of {said}"):
            tfc.quantize(model, given)
