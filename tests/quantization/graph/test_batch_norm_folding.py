"""Batch normalization folded into what is before it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.core.passthrough import FixedTraining
from tfcompress.core.transform import WeightTransform, read
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import with_transforms
from tfcompress.layers.channel_axes import channels_of
from tfcompress.pruning.prune import update_masks
from tfcompress.quantization.graph.batch_norm_folding import affine_of, fold_batch_norms, folded

KINDS = {
    "dense": (lambda **k: L.Dense(4, **k), (6,)),
    "dense_3d": (lambda **k: L.Dense(4, **k), (5, 6)),
    "conv1d": (lambda **k: L.Conv1D(4, 3, padding="causal", **k), (8, 3)),
    "conv2d": (lambda **k: L.Conv2D(4, 3, strides=2, padding="same", **k), (8, 8, 3)),
    "conv2d_groups": (lambda **k: L.Conv2D(6, 3, groups=2, **k), (8, 8, 4)),
    "conv3d": (lambda **k: L.Conv3D(2, 2, **k), (4, 4, 4, 2)),
    "conv1d_transpose": (lambda **k: L.Conv1DTranspose(4, 3, **k), (8, 3)),
    "conv2d_transpose": (lambda **k: L.Conv2DTranspose(4, 3, strides=2, **k), (6, 6, 3)),
    "conv3d_transpose": (lambda **k: L.Conv3DTranspose(2, 2, **k), (3, 3, 3, 2)),
    "depthwise_conv1d": (lambda **k: L.DepthwiseConv1D(3, **k), (8, 4)),
    "depthwise_conv2d": (lambda **k: L.DepthwiseConv2D(3, depth_multiplier=2, **k), (8, 8, 3)),
    "separable_conv1d": (lambda **k: L.SeparableConv1D(4, 3, **k), (8, 3)),
    "separable_conv2d": (lambda **k: L.SeparableConv2D(4, 3, depth_multiplier=2, **k), (8, 8, 3)),
}


def einsum(equation: str, output_shape: tuple, bias_axes: str | None = None):
    return lambda: L.EinsumDense(equation, output_shape, bias_axes=bias_axes, bias_initializer="normal", name="linear")


CASES = {
    **{
        f"{name}-{'bias' if bias else 'no_bias'}": (
            lambda make=make, bias=bias: make(use_bias=bias, bias_initializer="normal", name="linear"),
            shape,
        )
        for name, (make, shape) in KINDS.items()
        for bias in (True, False)
    },
    "einsum": (einsum("abc,cde->abde", (None, 2, 4)), (5, 6)),
    "einsum-bias": (einsum("abc,cde->abde", (None, 2, 4), "de"), (5, 6)),
    "einsum-other_bias": (einsum("abc,cde->abde", (None, 2, 4), "d"), (5, 6)),
    "einsum-ellipsis": (einsum("...x,xy->...y", (4,), "y"), (5, 6)),
}


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give every normalization statistics and factors, some negative; and every bias values."""
    generator = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            for weight in layer.weights:
                value = generator.normal(size=weight.shape)
                weight.assign(np.abs(value) + 0.1 if weight is layer.moving_variance else value)
    return model


def draw(model: keras.Model, samples: int = 4, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((samples, *model.inputs[0].shape[1:])).astype("float32")


def infer(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))


def assert_same(old: keras.Model, new: keras.Model) -> None:
    x = draw(old)
    want = infer(old, x)
    np.testing.assert_allclose(infer(new, x), want, rtol=0, atol=1e-5 * np.abs(want).max())


def norms_of(model: keras.Model) -> list[str]:
    return [layer.name for layer in model._flatten_layers() if isinstance(layer, L.BatchNormalization)]


@pytest.mark.parametrize("name", CASES)
def test_folds_into_every_kind_of_layer(name):
    make, shape = CASES[name]
    inputs = keras.Input(shape, name="features")
    hidden = make()(inputs)
    hidden = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(hidden))
    model = randomize(keras.Model(inputs, hidden))
    before = [read(weight) for weight in model.weights]
    new = fold_batch_norms(model)
    assert [layer.name for layer in new.layers] == ["features", "linear", "relu"]
    assert type(new.get_layer("linear")) is type(model.get_layer("linear"))
    assert [x.name for x in new.inputs] == ["features"]
    assert_same(model, new)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, read(weight))


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}, {"epsilon": 0.5}, {"axis": 3}])
def test_folds_every_kind_of_normalization(options):
    model = keras.Sequential([keras.Input((6, 6, 3)), L.Conv2D(4, 3), L.BatchNormalization(**options), L.ReLU()])
    randomize(model)
    new = fold_batch_norms(model)
    assert not norms_of(new)
    assert_same(model, new)


def test_output_keeps_its_name_and_the_model_saves(tmp_path):
    inputs = keras.Input((6, 6, 3), name="image")
    outputs = L.BatchNormalization(name="logits")(L.Conv2D(4, 3, use_bias=False, name="conv")(inputs))
    model = randomize(keras.Model(inputs, outputs))
    new = fold_batch_norms(model)
    assert new.output_names == ["logits"]
    assert not norms_of(new)
    new.save(tmp_path / "folded.keras")
    assert_same(model, keras.models.load_model(tmp_path / "folded.keras"))


def test_nested_and_pinned():
    block = keras.Sequential([L.Conv2D(4, 3, name="conv"), L.BatchNormalization(name="norm")], name="block")
    model = randomize(keras.Sequential([keras.Input((6, 6, 3)), block, L.ReLU()]))
    new = fold_batch_norms(model)
    assert not norms_of(new)
    assert_same(model, new)

    class Frozen(keras.Model):
        def __init__(self, pinned):
            super().__init__()
            self.dense, self.norm, self.pinned = L.Dense(3), L.BatchNormalization(), pinned

        def call(self, inputs):
            return self.norm(self.dense(inputs), training=self.pinned)

    for pinned, left in ((False, 0), (True, 1)):
        frozen = Frozen(pinned)
        frozen(np.ones((1, 5), "float32"))
        new = fold_batch_norms(randomize(frozen))
        assert sum(isinstance(layer, FixedTraining) for layer in new.layers) == left, pinned


def test_shared_layers():
    shared, norm = L.Dense(3, name="dense"), L.BatchNormalization(name="norm")
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    outputs = L.Add()([norm(shared(left)), norm(shared(right))])
    model = randomize(keras.Model([left, right], outputs))
    new = fold_batch_norms(model)
    assert not norms_of(new)
    data = [np.random.default_rng(seed).standard_normal((3, 4)).astype("float32") for seed in (0, 1)]
    np.testing.assert_allclose(infer(new, data), infer(model, data), rtol=0, atol=1e-5)


def outputs_of_the_unfoldable(case: str, x: object) -> object:
    norm = L.BatchNormalization(name="norm")
    if case == "activation":
        return norm(L.Dense(4, activation="relu")(x))
    if case == "two consumers":
        hidden = L.Dense(4)(x)
        return L.Add()([hidden, norm(hidden)])
    if case == "other axis":
        return L.BatchNormalization(axis=1, name="norm")(L.Reshape((2, 2))(L.Dense(4)(x)))
    if case == "alone":
        return norm(x)
    if case == "two norms":
        shared = L.Dense(6)
        return norm(shared(L.BatchNormalization(name="other")(shared(x))))
    if case == "before an output":
        hidden = L.Dense(4)(x)
        return [hidden, norm(hidden)]
    hidden = L.Dense(4, dtype="bfloat16")(x)
    return norm(hidden)


@pytest.mark.parametrize(
    "case", ["activation", "two consumers", "other axis", "alone", "two norms", "before an output", "other dtype"]
)
def test_leaves_what_it_can_not_fold(case):
    x = keras.Input((6,))
    model = randomize(keras.Model(x, outputs_of_the_unfoldable(case, x)))
    new = fold_batch_norms(model)
    assert "norm" in norms_of(new)
    data = draw(model)
    for want, got in zip(keras.tree.flatten(model(data)), keras.tree.flatten(new(data)), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_masked_normalization_stays():
    model = keras.Sequential([keras.Input((5,), dtype="int32"), L.Embedding(10, 4, mask_zero=True), L.Dense(3)])
    model.add(L.BatchNormalization(name="norm"))
    assert norms_of(fold_batch_norms(model)) == ["norm"]


def test_keep():
    model = keras.Sequential([keras.Input((4,))])
    for index in range(3):
        model.add(L.Dense(4, name=f"dense_{index}"))
        model.add(L.BatchNormalization(name=f"norm_{index}"))
    randomize(model)
    new = fold_batch_norms(model, keep=["norm_0", "dense_2"])
    assert norms_of(new) == ["norm_0", "norm_2"]
    assert_same(model, new)
    with pytest.raises(ValueError, match="'norm_9', which matches none"):
        fold_batch_norms(model, keep="norm_9")


def test_pruned_layers_keep_wrapper_mask_and_zeros():
    model = keras.Sequential(
        [keras.Input((6, 6, 3)), L.Conv2D(4, 3, use_bias=False, name="conv"), L.BatchNormalization()]
    )
    pruned = tfc.prune(randomize(model), tfc.ConstantSparsity(0.5, frequency=1))
    update_masks(pruned)
    new = fold_batch_norms(pruned)
    wrapper = new.get_layer("conv")
    assert isinstance(wrapper, CompressedLayer)
    assert not norms_of(new)
    assert_same(pruned, new)
    old = pruned.get_layer("conv")
    assert int(wrapper.step.value) == int(old.step.value) == 1
    np.testing.assert_array_equal(read(wrapper.transforms[0][1].mask), read(old.transforms[0][1].mask))
    assert abs(tfc.sparsity(tfc.strip(new)) - 0.5) < 1e-9


@keras.saving.register_keras_serializable(package="tests")
class Rounded(WeightTransform):
    """One grid for all channels, which a scaled kernel isn't on."""

    def apply(self, value):
        return keras.ops.round(value * 8) / 8


def test_transforms_that_do_not_scale_stay_in_front_of_their_norm():
    dense = L.Dense(4, name="dense")
    dense.build((None, 6))
    rounded = with_transforms(dense, [(0, Rounded())])
    wrapped = randomize(keras.Sequential([keras.Input((6,)), rounded, L.BatchNormalization(name="norm")]))
    new = fold_batch_norms(wrapped)
    assert norms_of(new) == ["norm"]
    assert_same(wrapped, new)
    with pytest.raises(ValueError, match="'dense', whose Rounded doesn't. Call tfcompress.strip"):
        folded(wrapped.get_layer("dense"), *affine_of(wrapped.get_layer("norm")))


def test_folded_refuses():
    with pytest.raises(ValueError, match="4 output channels.*Received: 'relu'"):
        folded(L.ReLU(name="relu"), np.ones(4), np.ones(4))
    layer = L.Dense(3, name="dense")
    layer.build((None, 2))
    with pytest.raises(ValueError, match="4 output channels.*Received: 'dense'"):
        folded(layer, np.ones(4), np.ones(4))


def test_custom_call_is_not_folded():
    @keras.saving.register_keras_serializable(package="tests")
    class Standardized(L.Dense):
        def call(self, inputs):
            return keras.ops.matmul(inputs, self.kernel / keras.ops.norm(self.kernel))

    layer = Standardized(3)
    layer.build((None, 2))
    assert channels_of(layer) is None


def test_a_normalization_that_pruning_looks_at_is_not_folded_away():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 3)), L.Conv2D(6, 3, name="conv"), L.BatchNormalization(name="norm"), L.ReLU()]
    model = keras.Sequential([*layers, L.GlobalAveragePooling2D(), L.Dense(2)])
    config = tfc.PruneConfig(0.5, criterion="bn_scale", granularity="channel")
    pruned = tfc.prune(model, config)
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    for quantize in (
        lambda m: tfc.quantize(m, "int8_per_tensor", x),
        lambda m: tfc.quantize(m, "int8", x, equalize=True),
    ):
        with pytest.raises(ValueError, match="'norm', whose gamma has ChannelMask.*tfcompress.shrink, then quantize"):
            quantize(pruned)
    small = tfc.shrink(tfc.prune_once(model, 0.5, criterion="bn_scale", granularity="channel"))
    assert tfc.quantize(small, "int8_per_tensor", x).output_shape == (None, 2)
