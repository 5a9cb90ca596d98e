"""Biases and statistics put right after quantization."""

from __future__ import annotations

import contextlib
import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.quantization.graph.test_batch_norm_folding import infer, randomize
from tfcompress.core.transform import WeightTransform, read
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import with_transforms
from tfcompress.graph import rebuild
from tfcompress.graph.rewrite import walk
from tfcompress.layers.channel_axes import channels_of
from tfcompress.quantization.ptq import layerwise
from tfcompress.quantization.ptq.batch_norm_reestimation import reestimate_batch_norm
from tfcompress.quantization.ptq.bias_correction import correct_bias


@keras.saving.register_keras_serializable(package="tests")
class Coarse(WeightTransform):
    """Three bits, one scale for the whole weight."""

    def apply(self, value):
        scale = keras.ops.max(keras.ops.abs(value)) / 3
        return keras.ops.round(value / scale) * scale


def convolutions(fused: bool = True, use_bias: bool = True, norm: bool = False) -> keras.Model:
    """Return three convolutions with ReLUs between them."""
    inputs = x = keras.Input((10, 10, 3), name="image")
    for index in range(3):
        last = index == 2
        activation = "relu" if fused and not last else None
        x = L.Conv2D(8, 3, use_bias=use_bias, activation=activation, name=f"conv_{index}")(x)
        if norm:
            x = L.BatchNormalization(name=f"norm_{index}", center=index != 1)(x)
        if not fused and not last:
            x = L.ReLU(name=f"relu_{index}")(x)
    return keras.Model(inputs, x, name="convolutions")


def coarse(model: keras.Model) -> keras.Model:
    """Return a copy with wrapped, coarsely quantized kernels, its fused activations split off."""
    wrapped: dict[int, L.Layer] = {}

    def visit(call, arguments, keywords):
        layer = call.operation
        if channels_of(layer) is None:
            return layer(*arguments, **keywords)
        activation, layer.activation = layer.activation, keras.activations.linear
        if id(layer) not in wrapped:
            wrapped[id(layer)] = with_transforms(layer, [(0, Coarse())])
        outputs = wrapped[id(layer)](*arguments, **keywords)
        return outputs if activation is keras.activations.linear else L.Activation(activation)(outputs)

    return walk(rebuild(model), visit)


def images(samples: int = 64, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (samples, 10, 10, 3)).astype("float32")


def shift(model: keras.Model, reference: keras.Model, x: np.ndarray) -> float:
    """Return how far the mean of each output channel is off, on average."""
    difference = infer(model, x) - infer(reference, x)
    return float(np.abs(difference.mean(axis=tuple(range(difference.ndim - 1)))).mean())


def state(model: keras.Model) -> list[np.ndarray]:
    return [read(variable) for variable in model.variables]


@pytest.mark.parametrize("batch_size", [64, 16, 5])
@pytest.mark.parametrize("fused", [True, False])
def test_bias_correction_removes_the_shift(fused, batch_size):
    model, x = convolutions(fused), images()
    quantized = coarse(model)
    before, kernels = shift(quantized, model, x), [read(w) for w in quantized.weights if "bias" not in w.name]
    reference_state = state(model)
    correct_bias(quantized, model, x, batch_size)
    assert shift(quantized, model, x) < before / 1000
    held_out = images(seed=4)
    assert shift(quantized, model, held_out) < shift(coarse(model), model, held_out) / 5
    for old, weight in zip(kernels, [w for w in quantized.weights if "bias" not in w.name], strict=True):
        np.testing.assert_array_equal(old, read(weight))
    for old, new in zip(reference_state, state(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.get_layer("conv_0").activation is (keras.activations.relu if fused else keras.activations.linear)


def test_each_layer_has_the_mean_of_the_float_one():
    model, x = convolutions(fused=False), images()
    quantized = coarse(model)
    correct_bias(quantized, model, x, batch_size=16)
    for index in range(3):
        name = f"conv_{index}"
        parts = [keras.Model(m.input, m.get_layer(name).output) for m in (quantized, model)]
        largest = np.abs(infer(parts[1], x).mean((0, 1, 2))).max()
        assert shift(*parts, x) < 1e-5 * largest, name


def cuts(x: np.ndarray) -> list[tuple[object, int]]:
    """Return the same samples in other batches and orders."""
    order = np.random.default_rng(0).permutation(len(x))
    return [(x, 1), (x[::-1], 16), (x[order], 16), (x, 61), ([x[:5], x[5:]], 16)]


@pytest.mark.parametrize("kept", [0, pytest.param(2**29, marks=pytest.mark.rare)])
def test_one_set_of_data_gives_one_correction_however_it_is_cut_and_ordered(kept, monkeypatch):
    monkeypatch.setattr(layerwise, "KEPT", kept)
    x = np.sort(images(), axis=0) ** 4  # in order the first samples are much smaller than the last
    for model in (convolutions(), randomize(convolutions(fused=False, use_bias=False, norm=True))):
        expected = coarse(model)
        correct_bias(expected, model, x, batch_size=64)
        for data, size in cuts(x):
            quantized = coarse(model)
            correct_bias(quantized, model, data, size)
            for want, got in zip(state(expected), state(quantized), strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_one_batch_is_exact_and_does_nothing_twice():
    model, x = convolutions(), images()
    quantized = coarse(model)
    correct_bias(quantized, model, x, batch_size=len(x))
    assert shift(quantized, model, x) < 1e-6
    once = state(quantized)
    correct_bias(quantized, model, x, batch_size=len(x))
    for old, new in zip(once, state(quantized), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-6)


def test_data_of_other_kinds():
    model, x = convolutions(), images()
    results = []
    for data in (x, [x[:32], x[32:]], lambda: ((part, np.zeros(32)) for part in (x[:32], x[32:])), {"image": x}):
        quantized = coarse(model)
        correct_bias(quantized, model, data, batch_size=32)
        results.append(state(quantized))
    for other in results[1:]:
        for want, got in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(got, want)


def test_without_biases_the_normalization_is_corrected():
    model, x = randomize(convolutions(fused=False, use_bias=False, norm=True)), images()
    quantized = coarse(model)
    before = state(quantized)
    correct_bias(quantized, model, x, batch_size=16)
    assert shift(quantized, model, x) < shift(coarse(model), model, x) / 20
    moved = {
        variable.path.split("/", 1)[-1]
        for old, variable in zip(before, quantized.variables, strict=True)
        if not np.array_equal(old, read(variable))
    }
    assert moved == {"beta", "moving_mean"}
    np.testing.assert_array_equal(
        read(quantized.get_layer("norm_0").moving_mean), read(model.get_layer("norm_0").moving_mean)
    )


def test_other_layers_and_shared_ones():
    inputs = keras.Input((6, 8))
    shared = L.Dense(8, activation="tanh", name="shared")
    x = shared(shared(inputs))
    x = L.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de", name="einsum")(x)
    x = L.DepthwiseConv2D((3, 1), name="depthwise")(x)
    model = keras.Model(inputs, L.Dense(3, use_bias=False, name="head")(x))
    data = np.random.default_rng(0).normal(1, 1, (64, 6, 8)).astype("float32")
    quantized = coarse(model)
    outer = keras.Model(quantized.input, quantized.get_layer("depthwise").output)
    reference = keras.Model(model.input, model.get_layer("depthwise").output)
    before = shift(outer, reference, data)
    correct_bias(quantized, model, data, batch_size=16)
    assert shift(outer, reference, data) < before / 20
    assert isinstance(quantized.get_layer("head"), CompressedLayer)


def test_masks_go_on():
    def make():
        inputs = keras.Input((5,), dtype="int32")
        hidden = L.Dense(4, name="dense")(L.Embedding(10, 4, mask_zero=True, name="embedding")(inputs))
        return keras.Model(inputs, L.Dense(2, name="head")(L.LSTM(3, name="lstm")(hidden)))

    model = make()
    quantized = coarse(model)
    ids = np.random.default_rng(0).integers(0, 4, (64, 5))
    correct_bias(quantized, model, ids, batch_size=64)
    assert shift(quantized, model, ids) < 1e-6


def test_other_state_stays():
    def make():
        inputs = keras.Input((4,))
        x = L.GaussianNoise(0.5, seed=1)(L.Dropout(0.5, seed=2)(L.Dense(4, name="dense")(inputs)))
        return keras.Model(inputs, L.BatchNormalization(name="norm")(x))

    model, x = make(), np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    quantized = coarse(model)
    before = {v.path: read(v) for v in quantized.variables}
    correct_bias(quantized, model, x)
    reestimate_batch_norm(quantized, x)
    moved = {v.path.rsplit("/", 1)[-1] for v in quantized.variables if not np.array_equal(before[v.path], read(v))}
    assert moved == {"bias", "moving_mean", "moving_variance"}


def test_failure_leaves_everything_as_it_was():
    model, x = convolutions(), images()
    quantized = coarse(model)
    before = state(quantized)
    broken = np.concatenate([x, np.full((16, 10, 10, 3), 3e38, "float32")])
    with pytest.raises(ValueError, match="Expected finite activations.*'conv_0'"):
        correct_bias(quantized, model, broken, batch_size=16)
    for old, new in zip(before, state(quantized), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.get_layer("conv_0").activation is keras.activations.relu


def test_refuses():
    model, x = convolutions(), images(4)
    with pytest.raises(ValueError, match="variables of its own. Received: both models have"):
        correct_bias(model, model, x)
    with pytest.raises(ValueError, match="layers of the same names"):
        correct_bias(coarse(model), keras.Sequential([keras.Input((10, 10, 3)), L.Conv2D(2, 3, name="other")]), x)


class Jitter(L.Layer):
    """Draws in inference, of a generator of its own or of everyone's."""

    def __init__(self, own, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(1) if own else None

    def call(self, x):
        return x + 3.0 * keras.random.normal(keras.ops.shape(x), seed=self.seeds)


def mean_of(model: keras.Model, name: str, data: np.ndarray) -> np.ndarray:
    """Return the mean output of a layer, in batches of 16."""
    found = []

    def visit(operation, call, args, kwargs):
        outputs = call(*args, **kwargs)
        if operation.name == name:
            found.append(np.asarray(outputs))
        return outputs

    for number in range(len(data) // 16):
        layerwise.run(model, [data[16 * number :][:16]], visit, number=number)
    return np.concatenate(found).mean(0)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("own", [True, False])
def test_noise_that_a_layer_draws_is_no_error_of_rounding(own):
    inputs = keras.Input((8,))
    jitter = Jitter(own, name="jitter")
    hidden = jitter(L.Dense(6, activation="relu", name="before")(inputs))
    model = keras.Model(inputs, [L.Dense(4, name="behind")(hidden), jitter(hidden)])
    randomize(model)
    quantized, seed = coarse(model), None if not own else read(model.get_layer("jitter").seeds.state)
    data = np.random.default_rng(0).normal(size=(48, 8)).astype("float32")
    old = {name: read(quantized.get_layer(name).bias) for name in ("before", "behind")}
    with pytest.warns(UserWarning, match="behind 'jitter' are not corrected") if not own else contextlib.nullcontext():
        correct_bias(quantized, model, data, batch_size=16)
    moved = {name: np.abs(read(quantized.get_layer(name).bias) - value).max() for name, value in old.items()}
    assert moved["before"] > 1e-3 and (moved["behind"] > 0) == own
    assert not own or read(model.get_layer("jitter").seeds.state).tolist() == seed.tolist()
    if own:  # for the same draws, the mean is that of the float model
        np.testing.assert_allclose(mean_of(quantized, "behind", data), mean_of(model, "behind", data), atol=1e-3)


def test_states_are_no_draws_and_begin_anew():
    x = np.random.default_rng(0).normal(size=(4, 3, 2)).astype("float32")
    layers = [keras.Input(batch_shape=(1, 3, 2)), keras.layers.GRU(3, stateful=True, name="memory")]
    model = keras.Sequential([*layers, keras.layers.Dense(2, activation="relu"), keras.layers.Dense(2, name="out")])
    quantized = tfc.quantize(model, "int8", data=x, correct_bias=True)
    assert np.any(quantized.get_layer("out_linear").layer.bias)
    assert not np.any(quantized.get_layer("memory").states[0])


def test_a_quantized_model_is_freed():
    quantized = tfc.quantize(convolutions(norm=True), "int8", np.ones((2, 10, 10, 3), "float32"))
    quantized(np.ones((1, 10, 10, 3), "float32"))
    layers = [weakref.ref(layer) for layer in quantized.layers if isinstance(layer, CompressedLayer)]
    del quantized
    gc.collect()
    assert len(layers) == 3
    assert not any(reference() for reference in layers)
