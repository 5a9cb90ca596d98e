"""Cross-layer equalization: the same outputs from kernels whose channels have like ranges."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.quantization.graph.test_batch_norm_folding import draw, infer, norms_of
from tfcompress.core.transform import read
from tfcompress.layers.channel_axes import channels_of
from tfcompress.pruning.prune import update_masks
from tfcompress.quantization.graph.batch_norm_folding import fold_batch_norms
from tfcompress.quantization.ptq.equalization import channel_ranges, equalize


def unbalance(layer: L.Layer, spread: float = 3.0, seed: int = 0) -> None:
    """Scale the output channels of a layer by factors that lie `spread` powers of ten apart."""
    channels = channels_of(layer)
    generator = np.random.default_rng(seed)
    factor = 10 ** generator.uniform(-spread / 2, spread / 2, channels.output_count)
    kernel = getattr(layer, channels.outputs)
    kernel.assign(read(kernel) * factor[channels.output_index])
    if layer.bias is not None:
        layer.bias.assign(generator.normal(size=layer.bias.shape) * factor)


def ratio(layer: L.Layer) -> float:
    """Return the largest range of a layer's channels by the smallest."""
    ranges = channel_ranges(layer)
    return float(ranges.max() / ranges.min())


def assert_same(old: keras.Model, new: keras.Model) -> None:
    x = draw(old)
    want = infer(old, x)
    np.testing.assert_allclose(infer(new, x), want, rtol=0, atol=1e-4 * np.abs(want).max())


def per_tensor(model: keras.Model) -> keras.Model:
    """Return a copy with each kernel rounded to 8 bits, one scale for all of it."""
    copy = keras.models.clone_model(model)
    for old, new in zip(model.weights, copy.weights, strict=True):
        value = read(old)
        if value.ndim > 1:
            scale = np.abs(value).max() / 127
            value = np.round(value / scale) * scale
        new.assign(value)
    return copy


def error(model: keras.Model, reference: keras.Model) -> float:
    x = draw(reference, 16)
    want = infer(reference, x)
    return float(np.square(infer(model, x) - want).mean() / np.square(want).mean())


PAIRS = {
    "conv": [L.Conv2D(8, 3, activation="relu"), L.MaxPooling2D(), L.Conv2D(4, 3)],
    "conv1d": [L.Reshape((12, 36)), L.Conv1D(8, 3), L.LeakyReLU(), L.ZeroPadding1D(), L.Conv1D(4, 3)],
    "conv3d": [L.Reshape((12, 6, 3, 2)), L.Conv3D(8, 2), L.AveragePooling3D((2, 1, 1)), L.Conv3D(4, 2)],
    "groups": [L.Conv2D(8, 3), L.ReLU(), L.Conv2D(4, 3, groups=2)],
    "depthwise": [L.Conv2D(8, 1), L.PReLU(shared_axes=[1, 2]), L.DepthwiseConv2D(3, depth_multiplier=2)],
    "after depthwise": [L.DepthwiseConv2D(3, depth_multiplier=2), L.Activation("relu"), L.Conv2D(4, 1)],
    "transpose": [L.Conv2DTranspose(8, 3), L.UpSampling2D(), L.Conv2DTranspose(4, 3)],
    "separable": [L.SeparableConv2D(8, 3), L.ReLU(), L.Cropping2D(), L.SeparableConv2D(4, 3)],
    "head": [L.Conv2D(8, 3), L.ReLU(), L.GlobalAveragePooling2D(), L.Dropout(0.5), L.Dense(4)],
    "dense": [L.Flatten(), L.Dense(8, activation="leaky_relu"), L.Dense(4)],
    "einsum": [
        L.Reshape((12, 36)),
        L.EinsumDense("abc,cde->abde", (None, 2, 8), bias_axes="de"),
        L.EinsumDense("abde,defg->abfg", (None, 2, 4), bias_axes="fg"),
    ],
}


@pytest.mark.parametrize("name", PAIRS)
def test_ranges_of_both_layers_become_alike(name):
    layers = [type(layer).from_config(layer.get_config()) for layer in PAIRS[name]]
    model = keras.Sequential([keras.Input((12, 12, 3)), *layers])
    kernels = [layer for layer in layers if channels_of(layer) is not None]
    unbalance(kernels[0])
    before = [read(weight) for weight in model.weights]
    new = equalize(model)
    assert_same(model, new)
    assert [layer.name for layer in new.layers[1:]] == [layer.name for layer in model.layers]
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, read(weight))
    first = new.get_layer(kernels[0].name)
    assert ratio(first) < ratio(kernels[0]) / 5
    # Nobody's bias has grown beyond the largest, so some channels may have been held back.
    assert np.abs(read(first.bias)).max() <= np.abs(read(kernels[0].bias)).max() * (1 + 1e-6)


def test_ranges_are_equal_without_biases():
    first, second = L.Dense(8, use_bias=False, name="first"), L.Dense(4, name="second")
    model = keras.Sequential([keras.Input((6,)), first, L.ReLU(), second])
    unbalance(first)
    new = equalize(model, tolerance=0)
    outgoing = channel_ranges(new.get_layer("first"))
    incoming = np.abs(read(new.get_layer("second").kernel)).max(axis=1)
    np.testing.assert_allclose(outgoing, incoming, rtol=1e-5)


def mobile(activation: str = "relu") -> keras.Model:
    """Return convolution, depthwise convolution, convolution, with normalizations, badly scaled."""
    inputs = keras.Input((12, 12, 3), name="image")
    x = inputs
    for index, layer in enumerate([L.Conv2D(16, 3), L.DepthwiseConv2D(3), L.Conv2D(16, 1), L.Conv2D(8, 1)]):
        x = L.BatchNormalization(name=f"norm_{index}")(type(layer)(**_small(layer), name=f"conv_{index}")(x))
        x = L.Activation(activation, name=f"relu_{index}")(x)
    model = keras.Model(inputs, L.Dense(4, name="head")(L.GlobalAveragePooling2D()(x)))
    generator = np.random.default_rng(5)
    for weight in model.weights:
        fan_in = np.prod(weight.shape[:-1] if weight.shape[-1] > 1 else weight.shape[:2])
        low, high = {"beta": (0, 1), "moving_mean": (-0.2, 0.2)}.get(weight.name, (0.5, 1.5))
        draws = generator.uniform(low, high, weight.shape)
        weight.assign(generator.normal(size=weight.shape) * (2 / fan_in) ** 0.5 if weight.name == "kernel" else draws)
    # Each channel is made small or large and the next layer undoes it: the outputs are those of a well scaled net.
    for index in range(3):
        norm, following = model.get_layer(f"norm_{index}"), model.get_layer(f"conv_{index + 1}")
        factor = 10 ** generator.uniform(-1.5, 1.5, norm.gamma.shape)
        norm.gamma.assign(read(norm.gamma) * factor)
        norm.beta.assign(read(norm.beta) * factor)
        index_of = channels_of(following).input_index
        following.kernel.assign(read(following.kernel) / factor[index_of])
    return model


def _small(layer: L.Layer) -> dict:
    config = layer.get_config()
    return {key: config[key] for key in ("filters", "kernel_size") if key in config} | {"use_bias": False}


def test_triple_with_a_depthwise_convolution_survives_8_bits_per_tensor():
    model = mobile()
    folded = equalize(model, iterations=1, tolerance=1e9)
    new = equalize(model)
    assert not norms_of(new)
    assert_same(model, new)
    plain = fold_batch_norms(model)
    for index in range(3):
        name = f"conv_{index}"
        assert ratio(new.get_layer(name)) < ratio(plain.get_layer(name)) / 5, name
    assert error(per_tensor(new), model) < error(per_tensor(plain), model) / 20
    assert error(per_tensor(new), model) < error(per_tensor(folded), model)


def test_relu6_is_left_alone_unless_it_may_be_replaced():
    model = mobile("relu6")
    assert_same(model, equalize(model))
    folded, left = fold_batch_norms(model), equalize(model)
    np.testing.assert_array_equal(read(left.get_layer("conv_1").kernel), read(folded.get_layer("conv_1").kernel))
    new = equalize(model, replace_relu6=True)
    assert ratio(new.get_layer("conv_1")) < ratio(folded.get_layer("conv_1")) / 5
    assert [layer.name for layer in new.layers] == [layer.name for layer in folded.layers]
    with_relu = keras.models.clone_model(
        model, clone_function=lambda layer: type(layer).from_config({**layer.get_config(), **_with_relu(layer)})
    )
    with_relu.set_weights(model.get_weights())
    assert_same(with_relu, new)


def _with_relu(layer: L.Layer) -> dict:
    return {"activation": "relu"} if isinstance(layer, L.Activation) else {}


def fused_relu6() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), L.Dense(8, activation="relu6", name="first"), L.Dense(4)])


def relu6_operation() -> keras.Model:
    inputs = keras.Input((6,))
    return keras.Model(inputs, L.Dense(4)(keras.ops.relu6(L.Dense(8, name="first")(inputs))))


@pytest.mark.parametrize("make", [fused_relu6, relu6_operation])
def test_relu6_in_other_forms(make):
    model = make()
    unbalance(model.get_layer("first"), 1.0)
    left, new = equalize(model), equalize(model, replace_relu6=True)
    assert ratio(left.get_layer("first")) == ratio(model.get_layer("first"))
    assert ratio(new.get_layer("first")) < ratio(model.get_layer("first"))
    x = draw(model) / 100  # nowhere near 6
    np.testing.assert_allclose(infer(new, x), infer(model, x), rtol=0, atol=1e-4 * np.abs(infer(model, x)).max())


def outputs_of_the_unequal(case: str, x: object) -> object:
    first, second = L.Dense(8, name="first"), L.Dense(8, name="second")
    hidden = first(x)
    if case == "sigmoid":
        return second(keras.ops.sigmoid(hidden))
    if case == "two consumers":
        return L.Concatenate()([second(hidden), L.Dense(8)(hidden)])
    if case == "residual":
        return L.Add()([second(hidden), hidden])
    if case == "output":
        return [hidden, second(hidden)]
    if case == "shared":
        return second(second(hidden))
    if case == "threshold":
        return second(L.ReLU(threshold=1.0)(hidden))
    return second(L.Permute((2, 1))(L.Reshape((8, 8))(L.UpSampling1D(8)(L.Reshape((1, 8))(hidden)))))


@pytest.mark.parametrize(
    "case", ["sigmoid", "two consumers", "residual", "output", "shared", "threshold", "other channels"]
)
def test_leaves_what_does_not_scale(case):
    x = keras.Input((6,))
    model = keras.Model(x, outputs_of_the_unequal(case, x))
    unbalance(model.get_layer("first"))
    new = equalize(model)
    np.testing.assert_array_equal(read(new.get_layer("first").kernel), read(model.get_layer("first").kernel))


def test_pruned_layers_keep_their_masks():
    layers = [L.Dense(16, activation="relu", name="first"), L.Dense(8, name="second")]
    model = keras.Sequential([keras.Input((12,)), *layers])
    unbalance(layers[0])
    pruned = tfc.prune(model, tfc.ConstantSparsity(0.5, frequency=1))
    update_masks(pruned)
    new = equalize(pruned)
    assert_same(pruned, new)
    for name in ("first", "second"):
        old, wrapper = pruned.get_layer(name), new.get_layer(name)
        np.testing.assert_array_equal(read(wrapper.transforms[0][1].mask), read(old.transforms[0][1].mask))
    stripped = tfc.strip(pruned).get_layer("first")
    moved = np.abs(read(stripped.kernel)).max(axis=0) != channel_ranges(new.get_layer("first"))
    assert moved.any()
    assert abs(tfc.sparsity(tfc.strip(new)) - 0.5) < 1e-9


def test_dead_channels_stay():
    first = L.Dense(4, bias_initializer="ones", name="first")
    model = keras.Sequential([keras.Input((6,)), first, L.ReLU(), L.Dense(3)])
    kernel = read(first.kernel)
    kernel[:, 0] = 0
    kernel[:, 1] = 1e-30
    first.kernel.assign(kernel)
    new = equalize(model)
    assert_same(model, new)
    assert np.abs(read(new.get_layer("first").bias)).max() <= 1


def test_refuses():
    model = keras.Sequential([keras.Input((6,)), L.Dense(4)])
    with pytest.raises(ValueError, match="at least 1. Received: 0"):
        equalize(model, iterations=0)
    with pytest.raises(ValueError, match="tolerance=-1"):
        equalize(model, tolerance=-1)
    with pytest.raises(TypeError, match="Expected .*keras.Model"):
        equalize("model")
    with pytest.raises(ValueError, match="convolution or dense layer.*'relu'"):
        channel_ranges(L.ReLU(name="relu"))
