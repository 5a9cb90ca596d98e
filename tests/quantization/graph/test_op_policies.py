"""What the table says of layers that only move values, or that do nothing in inference, is what the files do."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.layer_cases import AUGMENTATION, AUGMENTATION_BY_FACTOR
from tests.layer_support import floats_in_onnx, floats_in_tflite
from tfcompress.graph import rebuild
from tfcompress.graph.rewrite import calls
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.graph.op_policies import FLOAT, INTEGER, TABLE, TRANSPARENT, rule_of

SIZE = (12, 12, 3)
IDLE = {
    **{name: getattr(L, name) for name in AUGMENTATION},
    **{name: (lambda name=name: getattr(L, name)(0.2)) for name in AUGMENTATION_BY_FACTOR},
    "RandomPosterization": lambda: L.RandomPosterization(4),
    "RandomTranslation": lambda: L.RandomTranslation(0.1, 0.1),
    "RandomCrop": lambda: L.RandomCrop(12, 12),
    "Solarization": lambda: L.Solarization(0.1, 0.2),
    "MaxNumBoundingBoxes": lambda: L.MaxNumBoundingBoxes(3),
}
MOVING = {
    "AugMix": L.AugMix,
    "RandomColorJitter": L.RandomColorJitter,
    "Pipeline": lambda: L.Pipeline([L.RandomFlip(), L.RandomZoom(0.1)]),
    "CenterCrop": lambda: L.CenterCrop(8, 7),
    "Resizing nearest": lambda: L.Resizing(20, 7, interpolation="nearest"),
}


def images(samples=16):
    return np.random.default_rng(0).uniform(0, 255, (samples, *SIZE)).astype("float32")


def between_convolutions(layer, size=SIZE, dtype="float32"):
    inputs = keras.Input(size, name="x", dtype=dtype)
    x = layer(L.Conv2D(3, 3, padding="same", name="before")(inputs))
    return keras.Model(inputs, L.Conv2D(4, 1, name="behind")(x))


def rules(model):
    return {call.operation.name: rule_of(call) for call in calls(rebuild(model, check=False))}


@pytest.mark.parametrize("name", IDLE)
def test_augmentation_does_nothing_in_inference(name):
    layer = IDLE[name]()
    x = images(4)
    assert np.array_equal(layer(x, training=False), x)
    assert rules(between_convolutions(layer))[layer.name].kind == TRANSPARENT


@pytest.mark.parametrize("name", MOVING)
def test_what_moves_values_is_integers_in_the_files(name, tmp_path):
    quantized = tfc.quantize(between_convolutions(MOVING[name]()), data=images())
    assert {q.source for q in activation_quantizers(quantized)} == {"x", "before", "behind"}
    assert tfc.summary(quantized).fallbacks == ()
    for suffix, floats_in in ((".tflite", floats_in_tflite), (".onnx", floats_in_onnx)):
        path = tfc.export(quantized, tmp_path / f"model{suffix}", verify=False).path
        assert floats_in(path) == []
        assert tfc.verify(quantized, path, images())["behind"].max_steps < 1.01


def test_whole_numbers_that_are_moved_and_made_real_are_quantized(tmp_path):
    inputs = keras.Input(SIZE, name="x", dtype="uint8")
    model = keras.Model(inputs, L.Conv2D(4, 3, name="conv")(L.RandomFlip(name="flip")(inputs)))
    quantized = tfc.quantize(model, data=images().astype("uint8"))
    assert {q.source for q in activation_quantizers(quantized)} == {"flip", "conv"}
    for suffix, floats_in in ((".tflite", floats_in_tflite), (".onnx", floats_in_onnx)):
        path = tfc.export(quantized, tmp_path / f"model{suffix}", verify=False).path
        assert [name.upper() for name in floats_in(path)] == ["CAST"]


@pytest.mark.parametrize(
    ("layer", "kind", "note"),
    [
        (L.CenterCrop(12, 13), FLOAT, "smaller than the crop"),
        (L.CenterCrop(12, 12), TRANSPARENT, ""),
        (L.Resizing(6, 6), INTEGER, "float in ONNX"),
        (L.Resizing(6, 6, antialias=True), FLOAT, "antialiased"),
        (L.Resizing(6, 6, interpolation="bicubic"), FLOAT, "bicubic interpolation"),
        (L.Resizing(6, 9, "nearest", pad_to_aspect_ratio=True, fill_value=7.0), FLOAT, "another value than 0"),
        (L.AutoContrast(), FLOAT, "no integer kernel"),
    ],
    ids=lambda x: x if isinstance(x, str) else getattr(x, "name", ""),
)
def test_what_does_something_in_inference(layer, kind, note):
    rule = rules(between_convolutions(layer))[layer.name]
    assert (rule.kind, note in rule.note) == (kind, True)


def test_noise_that_a_model_wants_in_inference_too_is_a_float_fallback():
    class Noisy(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.noise = L.Dense(4), L.GaussianNoise(0.1, name="noise")

        def call(self, x):
            return self.noise(self.dense(x), training=True)

    model = Noisy()
    model(np.ones((2, 3), "float32"))
    assert rules(model)["noise"].note == "float fallback: called with training=True"


def test_a_subclass_with_a_transformation_of_its_own_is_unknown():
    class Halved(L.RandomFlip):
        def transform_images(self, images, transformation, training=True):
            return images / 2

    assert (name_of(L.RandomFlip()), name_of(Halved())) == ("randomflip", "")


def test_an_embedding_is_a_table_one_way_and_a_float_fallback_the_other():
    inputs = keras.Input((5,), dtype="int32")
    embedding = L.ReversibleEmbedding(9, 4, name="words")
    model = keras.Model(inputs, embedding(L.Dense(4)(embedding(inputs)), reverse=True))
    kinds = [rule_of(call).kind for call in calls(model) if call.operation is embedding]
    assert kinds == [TABLE, FLOAT]
    assert tfc.summary(tfc.quantize(model)).fallbacks == ("words",)


class Standardized(L.Conv2D):
    """Computes with another kernel than its own, as weight standardization does."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel - keras.ops.mean(kernel, axis=(0, 1, 2), keepdims=True))


class Padded(L.Conv2D):
    """Is built and saved otherwise, and computes the same."""

    def build(self, input_shape):
        super().build(input_shape)

    def get_config(self):
        return {**super().get_config(), "padding": "valid"}


def test_a_subclass_that_replaces_what_its_call_calls_is_another_layer(tmp_path):
    assert (name_of(Standardized(2, 3)), name_of(Padded(2, 3))) == ("", "conv2d")
    inputs = keras.Input(SIZE)
    model = keras.Model(inputs, L.Conv2D(2, 1)(Standardized(4, 3, activation="relu", name="own")(inputs)))
    x = np.random.default_rng(0).normal(size=(4, *SIZE)).astype("float32")
    with pytest.warns(UserWarning, match="Layer 'own' stays float: its `call` computes with the kernel first"):
        quantized = tfc.quantize(model, "int8", x)
    for suffix in (".tflite", ".onnx"):
        tfc.export(quantized, tmp_path / f"model{suffix}")
