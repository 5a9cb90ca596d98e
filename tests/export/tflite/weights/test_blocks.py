"""Weights in blocks as LiteRT's dense kernel takes them."""

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.evaluation import tflite_constants
from tfcompress.evaluation.file_constants import count_tflite

pytestmark = pytest.mark.filterwarnings("ignore:LiteRT has no kernel")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    keras.utils.set_random_seed(0)
    layers = [L.Dense(64, activation="relu", name="first"), L.Dense(6, name="last"), L.BatchNormalization(name="norm")]
    model = keras.Sequential([keras.Input((64,), name="x"), *layers])
    model.layers[-1].moving_variance.assign(np.linspace(0.5, 2, 6))
    quantized = tfc.quantize(model, "int4_blockwise")
    return quantized, tfc.export(quantized, tmp_path_factory.mktemp("files") / "m.tflite")


def test_the_file_has_the_integers_and_nearly_the_scales(made):
    model, artifact = made
    first, last = tflite_constants.weights(artifact.path)
    encoded = [next(iter(model.get_layer(name).encoded().values())) for name in ("first", "last")]
    np.testing.assert_allclose(first.values, encoded[0].decode().T, rtol=2**-8)
    assert first.dtype == last.dtype == "int4" and last.values.shape == (6, 64)
    np.testing.assert_array_equal(np.abs(np.sign(last.values)), np.abs(np.sign(encoded[1].decode().T)))
    assert last.nbytes == 6 * 64 // 2 + 6 * 2 * 2  # scales of 16 bits
    assert last.grid.scales == 12
    assert count_tflite(artifact.path).parameters == 64 * 64 + 64 * 6


def test_the_artifact_says_that_the_input_is_rounded(made):
    _, artifact = made
    assert artifact.precision == "dynamic int4"
    assert {(one.layer, one.type) for one in artifact.operators.narrow} == {("last", "int4"), ("first", "int4")}
    assert any("rounds its input to 8 bits at run time" in one.why for one in artifact.operators.narrow)
    assert artifact.operators.integer == 2
    (parity,) = artifact.parity.outputs.values()
    assert 0 < parity.max_rel < 0.05 and parity.noise > 0


@pytest.mark.parametrize(("bits", "block"), [(8, 32), (4, 16)])
def test_what_there_is_no_kernel_for_is_refused_before_work(bits, block, tmp_path):
    config = tfc.QuantizeConfig(tfc.WeightSpec(bits=bits, granularity=block), activations=None)
    quantized = tfc.quantize(keras.Sequential([keras.Input((64,)), L.Dense(8, name="d")]), config)
    with pytest.raises(ValueError, match=rf"Received: {bits} bits in blocks of {block} in '.*', at layer 'd'"):
        tfc.export(quantized, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())
    assert tfc.export(quantized, tmp_path / "m.onnx").precision == f"int{bits} weights"


def test_scales_that_float16_does_not_hold_are_refused(tmp_path):
    model = keras.Sequential([keras.Input((64,)), L.Dense(4)])
    model.layers[0].kernel.assign(model.layers[0].kernel * 1e-9)
    with pytest.raises(ValueError, match="Expected weights whose scales float16 holds"):
        tfc.export(tfc.quantize(model, "int4_blockwise"), tmp_path / "m.tflite")


def test_blocks_stand_beside_integer_layers(tmp_path):
    keras.utils.set_random_seed(0)
    layers = [L.Dense(64, activation="relu", name="first"), L.Dense(64, name="middle"), L.Dense(6, name="last")]
    model = keras.Sequential([keras.Input((64,), name="x"), *layers])
    x = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
    quantized = tfc.quantize(model, {"middle": "int4_blockwise", ".*": "int8"}, x)
    artifact = tfc.export(quantized, tmp_path / "m.tflite", verify=x)
    assert artifact.operators.kinds["FULLY_CONNECTED"] == 3 and artifact.precision == "int8"
    assert [(one.layer, one.type) for one in artifact.operators.narrow] == [("middle", "int4")]
