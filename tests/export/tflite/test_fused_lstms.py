"""LSTMs as TFLite's fused operator, without a state that goes on from run to run."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.tracing.test_fused_lstms import all_ways
from tfcompress.export import open_runner
from tfcompress.export.tflite.flatbuffer import operators

LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"


@pytest.mark.parametrize(("batch", "precision"), [(1, "float32"), (2, "float32"), (2, "float16")])
def test_a_file_gives_the_same_in_every_run(batch, precision, tmp_path):
    model = all_ways()
    artifact = tfc.export(model, tmp_path / "m.tflite", batch_size=batch, precision=precision)
    found = [op for op in operators(artifact.path.read_bytes()) if op.subgraph == 0]
    assert [op.name for op in found].count(LSTM) == 5
    assert "WHILE" not in {op.name for op in found}
    assert artifact.precision == precision
    runner, random = open_runner(artifact.path), np.random.default_rng(0)
    samples = {name: random.normal(size=info.shape).astype("float32") for name, info in artifact.inputs.items()}
    first, again = runner.run(samples), runner.run(samples)
    tolerance = 1e-5 if precision == "float32" else 5e-3
    for name, wanted in zip(artifact.outputs, model(list(samples.values())), strict=True):
        assert np.array_equal(first[name], again[name])
        np.testing.assert_allclose(first[name], wanted, atol=tolerance)


def test_what_no_interpreter_has_is_refused_beside_it(tmp_path):
    model = keras.Sequential([keras.Input((3, 3)), L.LSTM(3, return_sequences=True), L.Lambda(lambda x: ops.qr(x)[1])])
    with pytest.raises(ValueError, match=r"needs .*\bFlexQr\b.*move it out of the model"):
        tfc.export(model, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("config", ["int8_weights", "dynamic_int8"])
def test_its_weights_are_integers_too(config, tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5, 16)), L.LSTM(24), L.Dense(3)])
    floats = tfc.export(model, tmp_path / "f.tflite")
    artifact = tfc.export(tfc.quantize(model, config), tmp_path / "m.tflite")
    assert artifact.operators.kinds[LSTM] == 1
    assert artifact.nbytes < 0.8 * floats.nbytes
    assert "int8" in artifact.precision
