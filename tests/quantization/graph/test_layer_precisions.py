"""A config for each layer in quantization: which layers get which, what is quantized again, what is refused."""

import re

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers

FOUR = tfc.QuantizeConfig(weights=tfc.WeightSpec(bits=4, granularity="per_tensor"))


def _cnn():
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.Rescaling(0.5, name="scale")(inputs)
    x = L.Conv2D(8, 3, activation="relu", name="conv_1")(x)
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="conv_2")(x)
    x = L.BatchNormalization(name="norm")(x)
    x = L.ReLU(name="relu")(x)
    x = L.Conv2D(8, 3, padding="same", activation="relu", name="conv_3")(x)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, L.Dense(4, name="logits")(x), name="cnn")


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return _cnn()


def _weights(model):
    return {layer.name: layer.transforms[-1][1] for layer in wrapped_layers(model)}


def _bits(model):
    """Return the bits of each quantizer, by what its tensor is made by, in order."""
    found = {}
    for quantizer in activation_quantizers(model):
        found.setdefault(quantizer.source, []).append(quantizer.spec.bits)
    return found


def test_each_layer_is_quantized_as_its_config_says(model, data, tmp_path):
    configs = {"conv_1": "int8", "conv_2": "int16x8", "conv_3": "int8_weights", "logits": FOUR}
    quantized = tfc.quantize(model, configs, data)
    weights = _weights(quantized)
    assert {name: (t.spec.bits, t.axis) for name, t in weights.items()} == {
        "conv_1": (8, (3,)),
        "conv_2": (8, (3,)),
        "conv_3": (8, (3,)),
        "logits_linear": (4, None),
    }
    # What has no config, as `scale` and `pool`, follows; 8 bits are quantized again in 16 before conv_2.
    assert _bits(quantized) == {
        "image": [8],
        "scale": [8],
        "conv_1_relu": [8, 16],
        "relu": [16],
        "pool": [8],
        "logits": [8],
    }
    rows = {row.layer: row.status for row in tfc.summary(quantized).rows}
    assert rows["conv_2"] == "int8 per channel"
    assert rows["norm"] == "folded"
    assert rows["relu"] == "int16"
    assert rows["conv_3"] == "int8 per channel, float: its config quantizes weights alone"
    assert rows["conv_3_relu"] == "float: its config quantizes weights alone"
    quantized.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert {name: t.get_config() for name, t in _weights(again).items()} == {
        name: t.get_config() for name, t in weights.items()
    }
    assert {row.layer: row.status for row in tfc.summary(again).rows} == rows
    np.testing.assert_array_equal(again(data), quantized(data))
    again.compile("adam", "mse")
    again.fit(data, np.zeros((16, 4), "float32"), verbose=0)
    assert _bits(again) == _bits(quantized)


def test_one_config_for_all_by_any_key_is_that_config(model, data):
    one = tfc.quantize(model, "int8", data, layers="conv.*")
    for configs in ({"conv.*": "int8"}, {"logits": None, L.Conv2D: "int8"}):
        other = tfc.quantize(model, configs, data)
        assert [layer.name for layer in other.layers] == [layer.name for layer in one.layers]
        np.testing.assert_array_equal(other(data), one(data))
    both = tfc.quantize(model, {".*": "int8"}, data, layers="conv.*")
    np.testing.assert_array_equal(both(data), one(data))


def test_none_leaves_layers_without_a_kernel_alone_too(model, data):
    quantized = tfc.quantize(model, {"pool": None, ".*": "int8"}, data)
    rows = {row.layer: row.status for row in tfc.summary(quantized).rows}
    assert rows["pool"] == "float: left alone by its config"


def test_what_several_read_has_the_most_bits_and_what_joins_them_too(data):
    inputs = keras.Input((8, 8, 3), name="image")
    one = L.Conv2D(4, 3, name="one")(inputs)
    two = L.Conv2D(4, 3, name="two")(inputs)
    total = L.Add(name="add")([one, two])
    both = L.Concatenate(name="both")([total, two])
    model = keras.Model(inputs, L.Conv2D(2, 1, name="last")(both))
    quantized = tfc.quantize(model, {"one": "int8", "two": "int16x8", "last": "int8"}, data)
    assert _bits(quantized) == {
        "image": [16, 8],
        "one": [8, 16],
        "two": [16],
        "both": [16, 8],
        "last": [8],
    }


@pytest.mark.parametrize("kind", ["dynamic_int8", "float16"])
def test_refused_together(model, kind):
    with pytest.raises(ValueError, match=re.escape("for 'conv_1'; ")) as caught:
        tfc.quantize(model, {"conv_1": "int8", "conv_2": kind})
    assert "Expected configs that one file can hold" in str(caught.value)
    alone = tfc.quantize(model, {"conv_1": None, "conv_2": kind})
    assert {layer.name for layer in wrapped_layers(alone)} == {"conv_2"}


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ({"relu": "int8"}, "Expected a config for some layer with a kernel. Received: one for 'relu'"),
        ({"conv_1": "int9"}, "For 'conv_1' in `config`: Expected a QuantizeConfig"),
        ({"conv_4": "int8"}, "Did you mean 'conv_"),
        ({".*": None}, "Received: one for none"),
    ],
)
def test_refused(model, configs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tfc.quantize(model, configs)
