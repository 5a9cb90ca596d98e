"""Operations that a format lacks or gets wrong are written with others, and compute the same."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tfcompress.export import export
from tfcompress.export.tflite.flatbuffer import operators


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def names(artifact):
    return [op.name for op in operators(artifact.path.read_bytes())]


def upsampled(sizes, layer, behind=None):
    inputs = keras.Input(sizes)
    outputs = layer(L.Dense(3)(inputs))
    return keras.Model(inputs, outputs if behind is None else behind(outputs))


@pytest.mark.parametrize(
    ("sizes", "data", "layer"),
    [
        ((4, 5, 3), (2, 4, 5, 3), L.UpSampling2D((2, 3))),
        ((4, 5, 3), (2, 4, 5, 3), L.UpSampling2D((1, 3))),
        ((2, 2, 3), (2, 2, 2, 3), L.UpSampling2D((41, 47))),
        ((None, None, 3), (2, 4, 5, 3), L.UpSampling2D(2)),
        ((4, 3), (2, 4, 3), L.UpSampling1D(3)),
        ((None, 3), (2, 4, 3), L.UpSampling1D(3)),
        ((3, 4, 2, 3), (2, 3, 4, 2, 3), L.UpSampling3D((2, 3, 2))),
    ],
    ids=["both", "columns", "large", "free", "one dimension", "one free dimension", "three dimensions"],
)
def test_nearest_up_sampling_is_one_operator_that_microcontrollers_have(sizes, data, layer, tmp_path):
    model, x = upsampled(sizes, layer), floats(*data)
    artifact = export(model, tmp_path / "model.tflite", verify=x)
    assert "RESIZE_NEAREST_NEIGHBOR" in names(artifact)
    assert "TILE" not in names(artifact)
    np.testing.assert_allclose(artifact.predict(x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sizes", [(4, 4, 3), (None, None, 3)])
def test_nearest_up_sampling_in_integers(sizes, tmp_path):
    inputs = keras.Input(sizes)
    model = keras.Model(inputs, L.Conv2D(3, 3)(L.UpSampling2D(2)(L.Conv2D(3, 3, padding="same")(inputs))))
    quantized = tfc.quantize(model, "int8", data=floats(16, 4, 4, 3))
    found = operators(export(quantized, tmp_path / "model.tflite").path.read_bytes())
    resize = next(op for op in found if op.name == "RESIZE_NEAREST_NEIGHBOR")
    assert resize.inputs[0] == resize.outputs[0] == "INT8"
    assert "TILE" not in {op.name for op in found}


BEHIND = {
    "relu": ops.relu,
    "relu6": ops.relu6,
    "maximum": lambda x: ops.maximum(x, 0.0),
    "clip": lambda x: ops.clip(x, -1.0, 1.0),
}


@pytest.mark.parametrize("behind", BEHIND)
def test_an_activation_behind_a_product_of_computed_matrices_is_kept(behind, tmp_path):
    inputs, integers = keras.Input((4,)), np.arange(-10, 10).reshape(4, 5).astype("int8")
    products = [
        ops.matmul(inputs, ops.tanh(ops.transpose(inputs))),
        ops.matmul(inputs, ops.transpose(inputs)),
        ops.matmul(inputs, ops.cast(integers, "float32") * (1.0 + 0.0 * ops.max(inputs))),
    ]
    model, x = keras.Model(inputs, [BEHIND[behind](product) for product in products]), 2 * floats(3, 4)
    artifact = export(model, tmp_path / "model.tflite", batch_size=3, verify=x)
    for received, expected in zip(artifact.predict(x).values(), model(x), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("samples", [(5, 1), (5, 5), (1, 5), (1, 1)])
def test_a_sample_of_one_channel_is_no_bias(samples, tmp_path):
    inputs = keras.Input(samples)
    narrow = L.Conv1D(1, 1, name="narrow")(inputs)
    model = keras.Model(inputs, [inputs + narrow, L.Add()([narrow, inputs]), narrow + narrow])
    x = floats(4, *samples)
    artifact = export(model, tmp_path / "model.tflite", verify=x)
    for received, expected in zip(artifact.predict(x).values(), model(x), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_sums_by_letters_and_patches(suffix, tmp_path):
    import tensorflow as tf

    class Sums(L.Layer):
        def call(self, x):
            y = ops.tanh(x)
            heads = [ops.reshape(z, (-1, 6, 2, 2)) for z in (x, y)]
            equations = ("bNd,bMd->bNM", "aBc,aBd->adc", "bIj,bIj->bI", "bij,bij->b", "bij,bkj->bki")
            found = [ops.einsum(equation, x, y) for equation in equations]
            image = ops.reshape(x, (-1, 6, 4, 1))
            patches = tf.image.extract_patches(image, [1, 3, 2, 1], [1, 1, 2, 1], [1, 2, 1, 1], "SAME")
            return [*found, ops.einsum("BTNH,BFNH->BNFT", *heads), patches]

    inputs = keras.Input((6, 4))
    model, x = keras.Model(inputs, Sums()(inputs)), floats(2, 6, 4)
    artifact = export(model, tmp_path / f"model{suffix}", verify=x)
    for received, expected in zip(artifact.predict(x).values(), model(x), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)


DILATED = {
    (None, 4): [
        lambda: L.Conv1D(4, 11, dilation_rate=4, padding="same", name="line"),
        lambda: L.Conv1D(4, 4, dilation_rate=3, padding="same", activation="relu", name="even"),
        lambda: L.Conv1D(4, 3, dilation_rate=3, name="unpadded"),
        lambda: L.DepthwiseConv1D(3, dilation_rate=2, padding="same", name="in_depth"),
    ],
    (None, None, 4): [
        lambda: L.Conv2D(4, (2, 3), dilation_rate=(3, 1), padding="same", groups=2, name="image"),
        lambda: L.SeparableConv2D(5, 3, dilation_rate=2, padding="same", name="in_depth"),
    ],
    (None, 17, 4): [lambda: L.Conv2D(4, 3, dilation_rate=(1, 2), padding="same", name="columns")],
}
"""Layers that read the same input."""


@pytest.mark.parametrize("shape", DILATED, ids=["lines", "images", "columns"])
def test_dilated_convolutions_of_free_sizes_in_floats_and_integers(shape, tmp_path):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, [layer()(inputs) for layer in DILATED[shape]])
    x = floats(4, *(size or 17 for size in shape))
    quantized = tfc.quantize(model, "int8", data=x)
    for suffix in (".tflite", ".onnx"):
        plain = export(model, tmp_path / f"model{suffix}", verify=x)
        whole = export(quantized, tmp_path / f"int8{suffix}", verify=x)
        for given in (x, x[:, :13]):
            for artifact, keras_model in ((plain, model), (whole, quantized)):
                found, wanted = artifact.predict(given), keras_model(given)
                for place, name in enumerate(model.output_names):
                    got, want = (found, wanted) if len(model.outputs) == 1 else (found[name], wanted[place])
                    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5, err_msg=f"{name}{suffix}")
    kinds = [node.op_type for node in onnx.load(plain.path).graph.node]
    assert kinds.count("Conv") >= len(model.outputs) and not {"Shape", "Reshape", "Slice"} & set(kinds)


def test_a_dilated_convolution_of_free_volumes(tmp_path):
    inputs = keras.Input((None, 5, None, 2))
    model = keras.Model(inputs, L.Conv3D(3, (3, 2, 3), dilation_rate=2, padding="same")(inputs))
    x = floats(2, 7, 5, 6, 2)
    artifact = export(model, tmp_path / "model.onnx", verify=x)
    np.testing.assert_allclose(artifact.predict(x), model(x), rtol=1e-5, atol=1e-5)


class Axes(L.Layer):
    """Slices that add axes to a tensor of free sizes, as masks of attention get them."""

    def call(self, x):
        pieces = x[:, None, 1:, :, None], x[:, 1:, None, ..., None][..., 0], x[..., None, 2], x[:, -1, None]
        return [*pieces, x[:, None, :, None]]


class OneHead(L.Layer):
    """Attention of one head, whose transposes are reshapes, on sizes that are asked for."""

    def __init__(self):
        super().__init__()
        self.dense = L.Dense(4)

    def call(self, x):
        samples = ops.shape(x)[0]
        x = ops.reshape(x, (samples, -1, 4))
        heads = ops.transpose(ops.reshape(self.dense(x), (samples, -1, 1, 4)), (0, 2, 1, 3))
        return ops.matmul(heads, ops.transpose(heads, (0, 1, 3, 2)))


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
@pytest.mark.parametrize(("layer", "shape"), [(Axes, (None, None)), (OneHead, (6, 4)), (OneHead, (None, 4))])
def test_axes_are_added_and_sizes_taken_of_tensors_of_free_sizes(layer, shape, suffix, tmp_path):
    inputs = keras.Input(shape)
    model, x = keras.Model(inputs, layer()(inputs)), floats(3, 6, 4)
    received = export(model, tmp_path / f"model{suffix}", verify=x).predict(x)
    expected = model(x)
    for one, other in zip(
        received.values() if layer is Axes else [received], expected if layer is Axes else [expected], strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("sizes", [(7, 6, 5, 2), (None, 6, None, 2)])
def test_pooling_of_volumes(sizes, padding, tmp_path):
    inputs = keras.Input(sizes)
    model = keras.Model(inputs, L.MaxPooling3D((3, 2, 2), (2, 1, 2), padding)(inputs))
    x = floats(2, 7, 6, 5, 2)
    artifact = export(model, tmp_path / "model.tflite", batch_size=2, verify=x)
    np.testing.assert_allclose(artifact.predict(x), model(x), rtol=1e-5, atol=1e-5)
    if None not in sizes:
        outputs = L.MaxPooling3D(2)(L.Conv3D(3, 2, activation="relu")(inputs))
        quantized = tfc.quantize(keras.Model(inputs, L.Dense(2)(L.Flatten()(outputs))), "int8", x)
        whole = export(quantized, tmp_path / "whole.tflite", batch_size=2, verify=x)
        assert "MAX_POOL_2D" in names(whole)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_a_free_number_of_steps_is_computed_at_once(suffix, tmp_path):
    words = keras.Input((None, None, 3))
    steps = [
        L.TimeDistributed(L.Conv1D(4, 2)),
        L.TimeDistributed(L.GlobalMaxPooling1D()),
        L.TimeDistributed(L.Dense(2)),
    ]
    x = L.Masking()(steps[1](steps[0](words)))
    model = keras.Model(words, [steps[2](x), L.GRU(2)(x)])
    data = floats(2, 5, 4, 3)
    data[1, 3:] = 0.0
    artifact = export(model, tmp_path / f"model{suffix}", verify=data)
    for name, expected in zip(artifact.outputs, model(data), strict=True):
        np.testing.assert_allclose(artifact.predict(data)[name], expected, rtol=1e-5, atol=1e-6)
    assert not any("call" in vars(step) for step in steps)
