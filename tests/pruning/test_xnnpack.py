"""The layers whose zeros XNNPACK can skip, against tfmot's policy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfcompress as tfc

START = [("zeropad", 1), ("conv", 8, 3, dict(strides=2, name="stem")), ("bn",), ("relu",)]
END = [("gap",), ("flatten",), ("dense", 10)]
BLOCK = [("depthwise", 3, dict(padding="same")), ("bn",), ("conv", 16, 1, dict(name="point")), ("relu",)]

STACKS = {
    "mobilenet": [*START, *BLOCK, ("zeropad", 1), ("depthwise", 3, dict(strides=2)), ("conv", 8, 1, {}), *END],
    "five": [*START, ("zeropad", 2), ("depthwise", 5, dict(strides=2)), ("conv", 8, 1, {}), ("elu",), *END],
    "relu6": [*START, ("depthwise", 5, dict(padding="same")), ("relu6",), ("conv", 8, 1, {}), ("up", "bilinear"), *END],
    "padding same": [("conv", 8, 3, dict(strides=2, padding="same")), *BLOCK, *END],
    "padding of two": [("zeropad", 2), *START[1:], *BLOCK, *END],
    "stem of stride 1": [("zeropad", 1), ("conv", 8, 3, {}), *BLOCK, *END],
    "stem of five": [("zeropad", 1), ("conv", 8, 5, dict(strides=2)), *BLOCK, *END],
    "no pooling": [*START, *BLOCK, ("flatten",), ("dense", 10)],
    "conv 3x3": [*START, *BLOCK, ("conv", 8, 3, dict(padding="same")), *END],
    "stride of 1x1": [*START, *BLOCK, ("conv", 8, 1, dict(strides=2)), *END],
    "groups": [*START, *BLOCK, ("conv", 8, 1, dict(groups=2)), *END],
    "depthwise, no padding": [*START, ("depthwise", 3, {}), ("conv", 8, 1, {}), *END],
    "depthwise, same at stride 2": [
        *START, ("depthwise", 3, dict(strides=2, padding="same")), ("conv", 8, 1, {}), *END
    ],
    "depthwise, dilated": [*START, ("depthwise", 3, dict(padding="same", dilation_rate=2)), ("conv", 8, 1, {}), *END],
    "depthwise, multiplied": [
        *START, ("depthwise", 3, dict(padding="same", depth_multiplier=2)), ("conv", 8, 1, {}), *END
    ],
    "depthwise of seven": [*START, ("depthwise", 7, dict(padding="same")), ("conv", 8, 1, {}), *END],
    "tanh": [*START, *BLOCK, ("tanh",), *END],
    "max pooling": [*START, *BLOCK, ("max",), *END],
    "nearest": [*START, *BLOCK, ("up", "nearest"), *END],
}  # fmt: skip


TAKEN = ("mobilenet", "five", "relu6")


def build(stack, kit):
    """Make a stack with Keras 3 or with tf_keras."""
    L = kit.layers
    make = {
        "zeropad": L.ZeroPadding2D,
        "conv": lambda filters, size, options: L.Conv2D(filters, size, **options),
        "depthwise": lambda size, options: L.DepthwiseConv2D(size, **options),
        "bn": L.BatchNormalization,
        "relu": L.ReLU,
        "relu6": lambda: L.ReLU(6.0),
        "elu": L.ELU,
        "tanh": lambda: L.Activation("tanh"),
        "max": L.MaxPooling2D,
        "up": lambda how: L.UpSampling2D(interpolation=how),
        "gap": lambda: L.GlobalAveragePooling2D(keepdims=True),
        "flatten": L.Flatten,
        "dense": L.Dense,
    }
    x = inputs = L.Input((32, 32, 3))
    for kind, *arguments in stack:
        x = make[kind](*arguments)(x)
    return kit.Model(inputs, x)


@pytest.mark.parametrize("name", STACKS)
def test_takes_and_refuses_what_tfmot_does(tfmot, name):
    import tf_keras

    stack = STACKS[name]
    old = build(stack, tf_keras)
    policy = tfmot.sparsity.keras.PruneForLatencyOnXNNPack()
    try:
        policy.ensure_model_supports_pruning(old)
        expected = [i for i, layer in enumerate(old.layers) if policy.allow_pruning(layer)]
    except ValueError:
        expected = None
    assert (expected is not None) == (name in TAKEN)
    model = build(stack, keras)
    try:
        found = tfc.xnnpack_prunable(model)
    except ValueError as error:
        assert "Received: " in str(error)
        assert expected is None
    else:
        assert [i for i, layer in enumerate(model.layers) if layer.name in found] == expected


def residual(end=True):
    """Residual, squeeze and excite, two branches; nested; convolutions outside of the region."""
    L = keras.layers
    inputs = keras.Input((32, 32, 3), name="image")
    x = L.Activation("relu")(L.Conv2D(8, 3, strides=2, name="stem")(L.ZeroPadding2D(1)(inputs)))
    body = keras.Input(x.shape[1:])
    y = L.DepthwiseConv2D(3, padding="same", name="spread")(L.Conv2D(24, 1, activation="relu", name="expand")(body))
    squeezed = L.GlobalAveragePooling2D(keepdims=True, name="squeeze")(y)
    gate = L.Conv2D(24, 1, activation="sigmoid", name="gate")(
        L.Conv2D(4, 1, activation="relu", name="reduce")(squeezed)
    )
    y = L.Conv2D(8, 1, use_bias=False, name="project")(y * gate)
    block = keras.Model(body, L.BatchNormalization()(y) + body, name="block")
    x = L.GlobalAveragePooling2D(keepdims=True, name="end")(block(x))
    outputs = L.Dense(10, name="classes")(L.Flatten()(L.Conv2D(12, 1, name="head")(x)))
    return keras.Model(inputs, outputs)


def test_reasons_for_each_other_layer_with_a_kernel():
    found = tfc.xnnpack_prunable(residual())
    assert list(found) == ["expand", "reduce", "gate", "project"]
    assert set(found.excluded) == {"stem", "spread", "head", "classes"}
    assert "first convolution" in found.excluded["stem"]
    assert "depthwise" in found.excluded["spread"]
    assert found.excluded["head"] == found.excluded["classes"] == "behind the global average pooling"
    assert len(found.table().splitlines()) == 8
    assert str(found) == found.table()
    assert "expand" in found
    assert "stem" not in found


def test_prunes_these_layers_alone():
    model = residual()
    before = model.get_weights()
    found = tfc.xnnpack_prunable(model)
    pruned = tfc.prune_once(model, 0.75, layers=found)
    for layer in pruned.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D | keras.layers.Dense):
            zeros = float(np.mean(layer.kernel.numpy() == 0))
            assert zeros == (0.75 if layer.name in found else 0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # A pruned model is asked as a plain one.
    assert list(tfc.xnnpack_prunable(tfc.prune(model, 0.5, layers=found))) == list(found)


def test_like_names_are_not_mixed_up():
    """A name chosen must not take in the layer of the same name in a nested model."""
    L = keras.layers
    inner = keras.Sequential([keras.Input((1, 1, 8)), L.Conv2D(8, 1, name="point")], name="inner")
    inputs = keras.Input((32, 32, 3))
    x = L.Conv2D(8, 3, strides=2, name="stem")(L.ZeroPadding2D(1)(inputs))
    x = L.GlobalAveragePooling2D(keepdims=True)(L.Conv2D(8, 1, name="point")(x))
    model = keras.Model(inputs, L.Flatten()(inner(x)))
    found = tfc.xnnpack_prunable(model)
    assert list(found) == ["point"]
    assert list(found.excluded) == ["stem", "inner_point"]
    pruned = tfc.prune_once(model, 0.75, layers=found)
    assert np.all(pruned.get_layer("inner_point").kernel.numpy() != 0)
    assert np.mean(pruned.get_layer("point").kernel.numpy() == 0) == 0.75


def test_subclassed():
    L = keras.layers

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.pad, self.stem = L.ZeroPadding2D(1), L.Conv2D(8, 3, strides=2, name="stem")
            self.point, self.pool = L.Conv2D(8, 1, name="point"), L.GlobalAveragePooling2D()

        def call(self, x):
            return self.pool(keras.ops.relu(self.point(self.stem(self.pad(x)))))

    model = Net()
    model(np.zeros((1, 16, 16, 3), "float32"))
    assert list(tfc.xnnpack_prunable(model)) == ["point"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(activation="tanh"), "'point' has the activation 'tanh'"),
        (dict(kernel_size=2), "'point' is a convolution of 2x2 pixels, not 1x1"),
        (dict(strides=2), "'point' is a convolution with groups, strides or a dilation"),
    ],
)
def test_says_what_is_in_the_way(change, message):
    L = keras.layers
    point = L.Conv2D(**{"filters": 8, "kernel_size": 1, "name": "point", **change})
    stem = [L.ZeroPadding2D(1), L.Conv2D(8, 3, strides=2)]
    model = keras.Sequential([keras.Input((32, 32, 3)), *stem, point, L.GlobalAveragePooling2D()])
    with pytest.raises(ValueError, match="prune without `layers`") as error:
        tfc.xnnpack_prunable(model)
    assert message in str(error.value)


def test_nothing_to_prune():
    L = keras.layers
    stem = [L.ZeroPadding2D(1), L.Conv2D(8, 3, strides=2)]
    model = keras.Sequential([keras.Input((32, 32, 3)), *stem, L.ReLU(), L.GlobalAveragePooling2D()])
    with pytest.raises(ValueError, match="Expected a model with 1x1 convolutions"):
        tfc.xnnpack_prunable(model)
    with pytest.raises(TypeError, match=r"Expected .*keras\.Model"):
        tfc.xnnpack_prunable(keras.layers.Dense(1))
