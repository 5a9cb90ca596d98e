"""`tfc.verify`: a file against its model, output by output."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.evaluation.quantized import make, quantized
from tfcompress.evaluation.verify import verify
from tfcompress.export import export

FILES = ["model.tflite", "model.onnx"]


@pytest.mark.parametrize("file", FILES)
def test_float_file_agrees_to_rounding(file, tmp_path):
    model, x = make()
    artifact = export(model, tmp_path / file)
    found = verify(model, artifact.path, x)
    assert [output.name for output in found.outputs] == ["logits", "side"]
    assert found.samples == len(x)
    output = found["logits"]
    assert output.scale is None and output.max_steps is None
    assert output.max_rel < 1e-5
    assert output.argmax_agreement == 1
    assert output.sqnr is None or output.sqnr > 100


@pytest.mark.parametrize("file", FILES)
def test_quantized_file_agrees_to_a_step(file, tmp_path):
    model, x = quantized()
    artifact = export(model, tmp_path / file)
    found = verify(model, artifact.path, x)
    for output in found.outputs:
        assert output.scale is not None
        assert output.max_steps < 3
        assert output.equal > 0.8
        assert output.max_abs == pytest.approx(output.max_steps * output.scale)
        assert output.mean_steps <= output.max_steps
    float_model, _ = make()
    assert verify(float_model, artifact.path, x)["logits"].sqnr < 45 < (found["logits"].sqnr or 99)


def test_batches_stream_and_add_up(tmp_path):
    model, x = quantized()
    path = export(model, tmp_path / "model.onnx").path
    whole = verify(model, path, x)
    pieces = ((x[start : start + 7], np.zeros(7)) for start in range(0, len(x), 7))  # targets are left out
    assert verify(model, path, pieces).to_dict() == whole.to_dict()
    assert verify(model, path, {"image": x}, batch_size=5).to_dict() == whole.to_dict()
    assert verify(model, path, lambda: iter([x])).samples == len(x)


def test_integer_files_are_compared_in_real_numbers(tmp_path):
    model, x = quantized()
    real = verify(model, export(model, tmp_path / "real.tflite").path, x)
    whole = verify(model, export(model, tmp_path / "whole.tflite", inference_io="int8").path, x)
    assert whole["logits"].max_steps == pytest.approx(real["logits"].max_steps, abs=1e-3)


def test_another_model_shows(tmp_path):
    model, x = make()
    path = export(model, tmp_path / "model.onnx").path
    other = keras.models.clone_model(model)
    found = verify(other, path, x)["logits"]
    assert found.sqnr < 10
    assert found.equal < 0.1


def test_table_and_dict(tmp_path):
    model, x = quantized()
    found = verify(model, export(model, tmp_path / "model.onnx").path, x)
    text = str(found)
    assert "logits" in text and "side" in text and f"{len(x)} samples" in text
    assert max(map(len, text.splitlines())) <= 100
    document = found.to_dict()
    assert document["format"] == "onnx"
    assert document["outputs"][0]["max_steps"] == found.outputs[0].max_steps
    with pytest.raises(KeyError, match="'logits', 'side'"):
        found["nothing"]


def test_bad_arguments(tmp_path):
    model, x = make()
    path = export(model, tmp_path / "model.onnx").path
    with pytest.raises(TypeError, match="keras.Model"):
        verify("model", path, x)
    with pytest.raises(FileNotFoundError, match="missing"):
        verify(model, tmp_path / "missing.onnx", x)
    with pytest.raises(ValueError, match="Received: None"):
        verify(model, path, None)
    with pytest.raises(ValueError, match="at least one batch"):
        verify(model, path, [])
    with pytest.raises(ValueError, match="at least one sample"):
        verify(model, path, x[:0])
    with pytest.raises(ValueError, match="shape"):
        verify(model, path, x[:, :4])
    with pytest.raises(ValueError, match="batch_size"):
        verify(model, path, x, batch_size=0)
    with pytest.raises(ValueError, match="data of type int"):
        verify(model, path, 3)
    narrow = keras.Sequential([keras.Input((3,), name="image"), layers.Dense(2)])
    with pytest.raises(ValueError, match="input 'image' has the model's shape"):
        verify(narrow, path, np.zeros((2, 3)))
    one, two = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    with pytest.raises(ValueError, match=r"inputs of the model, \['a', 'b'\]"):
        verify(keras.Model([one, two], layers.Add()([one, two])), path, [x, x])
    image = keras.Input((8, 8, 3), name="image")
    with pytest.raises(ValueError, match="outputs of the model"):
        verify(keras.Model(image, layers.Flatten()(image)), path, x)
