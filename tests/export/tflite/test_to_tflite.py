"""TFLite files: builtin operators alone, and clear words where that can't be."""

import keras
import pytest
from keras import layers, ops

from tests.export import models
from tfcompress.export import export, open_runner


def operators(path):
    return [detail["op_name"] for detail in open_runner(path)._interpreter._get_ops_details()]


def mixed(make):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return make()
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("make", [models.cnn, models.attention], ids=lambda make: make.__name__)
def test_mixed_precision_needs_no_other_operators(make, tmp_path):
    plain = operators(export(make(), tmp_path / "plain.tflite", verify=False).path)
    keras.utils.clear_session()
    half = operators(export(mixed(make), tmp_path / "mixed.tflite", verify=False).path)
    assert half == plain
    assert "CAST" not in half
    assert not [name for name in half if "Flex" in name]


def test_batch_normalization_is_folded(tmp_path):
    path = export(models.randomise(models.cnn()), tmp_path / "model.tflite").path
    assert [name for name in operators(path) if name != "DELEGATE"] == [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "MEAN",
        "FULLY_CONNECTED",
        "SOFTMAX",
    ]


def test_exact_gelu_is_one_builtin(tmp_path):
    assert "GELU" in operators(export(models.exact_gelu(), tmp_path / "model.tflite").path)


def test_augmentation_is_gone(tmp_path):
    names = operators(export(models.augmented(), tmp_path / "model.tflite").path)
    assert set(names) <= {"CONV_2D", "RESHAPE", "FULLY_CONNECTED", "DELEGATE"}


@pytest.mark.parametrize(
    ("function", "name"),
    [(lambda x: ops.qr(x)[1], "FlexQr"), (ops.inv, "FlexMatrixInverse"), (ops.erfinv, "Erfinv")],
)
def test_other_operators_are_refused_by_name(function, name, tmp_path):
    model = keras.Sequential([keras.Input((3, 3)), layers.Lambda(function)])
    with pytest.raises(ValueError, match=rf"needs .*\b{name}\b.*move it out of the model"):
        export(model, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [models.lstm, models.gru], ids=lambda make: make.__name__)
def test_recurrent_layers_want_a_fixed_batch(make, tmp_path):
    with pytest.raises(ValueError, match=r"batch_size=None\. Export with batch_size=1"):
        export(make(), tmp_path / "model.tflite", batch_size=None)
    assert not list(tmp_path.iterdir())
