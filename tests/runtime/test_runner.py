"""Running files by name: batches, dtypes, files of others."""

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tfc
from tests.export import models
from tfcompress.export import export, open_runner

both_formats = pytest.mark.parametrize("file", ["model.tflite", "model.onnx"])


@pytest.fixture(params=["model.tflite", "model.onnx"])
def two(request, tmp_path):
    model = models.randomise(models.two_in_two_out())
    return model, export(model, tmp_path / request.param, batch_size=4, verify=False).path


@pytest.mark.parametrize("samples", [1, 4, 10])
def test_any_number_of_samples_through_a_fixed_batch(two, samples):
    model, path = two
    random = np.random.default_rng(0)
    x = [random.normal(size=(samples, 6)), random.normal(size=(samples, 4))]
    expected = model.predict(x, verbose=0)
    runner = open_runner(path)
    assert runner.batch_size == 4
    by_order = runner.predict(x)
    by_name = runner.predict({"ant": x[1], "zebra": x[0]})
    for name, reference in zip(["yak", "bee"], expected, strict=True):
        assert by_order[name].shape == reference.shape
        np.testing.assert_allclose(by_order[name], reference, atol=1e-5)
        np.testing.assert_array_equal(by_order[name], by_name[name])


@both_formats
def test_a_free_batch_is_run_in_pieces(file, tmp_path, monkeypatch):
    model = models.randomise(models.cnn())
    runner = open_runner(export(model, tmp_path / file, batch_size=None, verify=False).path)
    sizes = []
    real = runner.run
    monkeypatch.setattr(runner, "run", lambda inputs: sizes.append(len(inputs["image"])) or real(inputs))
    x = np.random.default_rng(0).normal(size=(10, 12, 12, 3))
    np.testing.assert_allclose(runner.predict(x, batch_size=4), model.predict(x, verbose=0), atol=1e-5)
    assert sizes == [4, 4, 2]
    runner.predict(x)
    assert sizes[3:] == [10]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((2, 6)), r"a list or a dict of 2 arrays, for the inputs \['zebra', 'ant'\]"),
        ([np.ones((2, 6))], "Received: 1"),
        ({"zebra": np.ones((2, 6)), "bee": np.ones((2, 4))}, r"Received: \['zebra', 'bee'\]"),
        ([np.ones((2, 6)), np.ones((3, 4))], r"{'zebra': 2, 'ant': 3}"),
        ([np.ones((2, 4)), np.ones((2, 6))], r"'zebra' to have shape \('batch', 6\)"),
        ([np.ones((0, 6)), np.ones((0, 4))], "at least one sample"),
        ([np.ones((2, 6), "complex64"), np.ones((2, 4))], "complex64"),
    ],
)
def test_data_that_does_not_fit(two, x, message):
    with pytest.raises(ValueError, match=message):
        open_runner(two[1]).predict(x)


@both_formats
def test_dtypes_are_converted_where_that_loses_nothing(file, tmp_path):
    path = export(models.randomise(models.embedding()), tmp_path / file, verify=False).path
    runner = open_runner(path)
    ids = np.array([[0, 1, 2, 8, 4, 5]])
    np.testing.assert_array_equal(runner.predict(ids), runner.predict(ids.astype("uint8")))
    with pytest.raises(ValueError, match=r"'ids' to be int32. Received: dtype float64"):
        runner.predict(ids * 1.0)


@both_formats
def test_threads_reach_the_runtime(file, tmp_path, monkeypatch):
    import ai_edge_litert.interpreter as litert

    path = export(models.cnn(), tmp_path / file, verify=False).path
    seen = []
    real = litert.Interpreter
    monkeypatch.setattr(litert, "Interpreter", lambda **given: seen.append(given["num_threads"]) or real(**given))
    runner = open_runner(path, threads=2)
    assert runner.threads == 2
    if file.endswith(".onnx"):
        options = runner.session.get_session_options()
        seen = [options.intra_op_num_threads]
        assert options.inter_op_num_threads == 1
    assert seen == [2]
    for threads in (0, True, "2"):
        with pytest.raises(ValueError, match="threads"):
            open_runner(path, threads=threads)


@both_formats
def test_files_that_are_none(file, tmp_path):
    with pytest.raises(FileNotFoundError, match=file):
        open_runner(tmp_path / file)
    (tmp_path / file).write_bytes(b"something else")
    with pytest.raises(ValueError, match="refused"):
        open_runner(tmp_path / file)


def test_a_suffix_that_says_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"model.h5"):
        open_runner(tmp_path / "model.h5")


@pytest.mark.parametrize("batch_size", [1, None])
def test_a_tflite_file_without_signature(batch_size, tmp_path):
    """As converters of old wrote them: addressed by tensor name."""
    import tensorflow as tf

    spec = tf.TensorSpec((batch_size, 3), tf.float32, name="x")
    double = tf.function(lambda x: x * 2.0 + 1.0, input_signature=[spec]).get_concrete_function()
    (tmp_path / "old.tflite").write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([double]).convert())
    runner = open_runner(tmp_path / "old.tflite")
    assert list(runner.input_specs) == ["x"]
    x = np.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(runner.predict(x), x * 2 + 1)


@both_formats
def test_outputs_that_have_no_rows_are_not_joined(file, tmp_path):
    inputs = keras.Input((3,), name="x")
    model = keras.Model(inputs, keras.ops.sum(layers.Dense(2)(inputs)))
    runner = open_runner(export(model, tmp_path / file, batch_size=2, verify=False).path)
    assert runner.predict(np.ones((2, 3))).shape == ()
    with pytest.raises(ValueError, match="one row per sample"):
        runner.predict(np.ones((3, 3)))


@pytest.mark.parametrize("name", ["m.tflite", "m.onnx"])
def test_inputs_that_a_file_cannot_be_run_on(name, tmp_path):
    inputs = keras.Input((3,), dtype="int32", name="ids")
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.Embedding(5, 4)(inputs)))
    model, ids = keras.Model(inputs, outputs), np.full((2, 3), 99, "int32")
    artifact = export(model, tmp_path / name)
    message = r"Expected inputs that .* can be run on. Received: .*\(\d, 3\).* runtime failed: .*(indices|index)"
    with pytest.raises(ValueError, match=message):
        artifact.predict(ids)
    with pytest.raises(ValueError, match=message):
        tfc.evaluate(artifact.path, ids, np.array([0, 1]))
    for verb in (lambda: tfc.evaluate(model, ids, np.array([0, 1])), lambda: tfc.verify(model, artifact.path, ids)):
        with pytest.raises(
            ValueError, match=r"the model 'functional.*\), of which it says: .*indices\[0,0\] = 99 is not"
        ):
            verb()
