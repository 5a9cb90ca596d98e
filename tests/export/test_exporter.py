"""export(): every kind of model, in both formats, checked by the runtimes that run the files."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.check import in_turn
from tests.export import models
from tfcompress.export import Artifact, ParityError, export, exporter, open_runner
from tfcompress.export.onnx import to_onnx
from tfcompress.export.tflite import to_tflite
from tfcompress.runtime import runner as runtime

FILES = ["model.tflite", "model.onnx"]
both_formats = pytest.mark.parametrize("file", FILES)

NAMES = {
    models.cnn: (["image"], ["probabilities"]),
    models.two_in_two_out: (["zebra", "ant"], ["yak", "bee"]),
    models.dicts: (["extra", "tokens"], ["logits", "score"]),
    models.subclassed: (["inputs"], ["output"]),
    # An output that has the name of an input gets another: ONNX has one namespace.
    models.subclassed_dict: (["image", "words"], ["total", "words_1"]),
    models.nested: (["features"], ["head"]),
}


def small():
    return models.randomise(keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3, name="y")]))


@pytest.mark.parametrize(("make", "file"), in_turn(models.MODELS, FILES))
def test_every_model_is_its_file(make, file, tmp_path):
    model = models.randomise(make())
    before = [weight.numpy() for weight in model.weights]
    artifact = export(model, tmp_path / file)
    runner = open_runner(artifact.path)
    assert runner.input_specs == artifact.inputs
    assert (runner.output_specs, runner.output_names) == (artifact.outputs, tuple(artifact.outputs))
    assert (list(artifact.inputs), list(artifact.outputs)) == NAMES.get(
        make, (list(artifact.inputs), list(artifact.outputs))
    )
    # Keras records no dtype for a subclassed model, but token ids are integers.
    assert all(spec.dtype == "int32" for name, spec in artifact.inputs.items() if name in ("words", "ids"))
    # Other data than export() looked at, and a number of samples that is no multiple of a batch.
    inputs = models.inputs_for(artifact.inputs, words=5, samples=3)
    inputs = {name: np.concatenate([x[::-1], x[:2] * 2]) for name, x in inputs.items()}
    structured = inputs if make in (models.dicts, models.subclassed_dict) else list(inputs.values())
    expected = keras.tree.flatten(model.predict(structured if len(inputs) > 1 else structured[0], verbose=0))
    received = artifact.predict(inputs)
    received = list(received.values()) if isinstance(received, dict) else [received]
    for reference, value in zip(expected, received, strict=True):
        assert value.dtype == np.float32
        assert np.abs(reference).max() > 1e-3
        np.testing.assert_allclose(value, reference, rtol=0, atol=1e-5 * max(1, np.abs(reference).max()))
    assert all(result.max_rel < 1e-5 for result in artifact.parity.outputs.values())
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert artifact.nbytes == (tmp_path / file).stat().st_size
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    assert not model.losses


@both_formats
@pytest.mark.parametrize("batch_size", ["auto", None, 3])
def test_batch(batch_size, file, tmp_path):
    model = models.randomise(models.cnn())
    artifact = export(model, tmp_path / file, batch_size=batch_size)
    usual = 1 if file.endswith(".tflite") else None
    assert artifact.inputs["image"].shape[0] == (usual if batch_size == "auto" else batch_size)
    x = np.random.default_rng(1).normal(size=(7, 12, 12, 3)).astype("float32")
    np.testing.assert_allclose(artifact.predict(x), np.asarray(model(x)), atol=1e-5)


@both_formats
def test_batch_that_the_model_fixes(file, tmp_path):
    model = keras.Sequential([keras.Input(batch_shape=(2, 5, 3)), layers.BatchNormalization(), layers.LSTM(4)])
    model(np.ones((2, 5, 3), "float32"))
    state = [np.array(variable.numpy()) for variable in model.non_trainable_variables]
    artifact = export(model, tmp_path / file)
    assert next(iter(artifact.inputs.values())).shape == (2, 5, 3)
    for variable, value in zip(model.non_trainable_variables, state, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@both_formats
def test_free_sizes_beyond_the_batch(file, tmp_path):
    model = keras.Sequential(
        [keras.Input((None, None, 3), name="image"), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()]
    )
    artifact = export(models.randomise(model), tmp_path / file)
    assert artifact.inputs["image"].shape[1:] == (None, None, 3)
    for size in (9, 20):
        x = np.random.default_rng(size).normal(size=(2, size, size + 1, 3)).astype("float32")
        np.testing.assert_allclose(artifact.predict(x), np.asarray(model(x)), atol=1e-5)


@both_formats
def test_float16_is_half_the_file_and_nearly_the_model(file, tmp_path):
    model = models.randomise(
        keras.Sequential([keras.Input((64,)), layers.Dense(256, activation="relu"), layers.Dense(10)])
    )
    full = export(model, tmp_path / f"full{file}")
    half = export(model, tmp_path / file, precision="float16")
    assert 0.5 < half.nbytes / full.nbytes < 0.55
    assert all(spec.dtype == "float32" for spec in [*half.inputs.values(), *half.outputs.values()])
    (result,) = half.parity.outputs.values()
    assert 1e-5 < result.max_rel < 5e-3
    assert next(iter(full.parity.outputs.values())).max_rel < 1e-6


@both_formats
def test_float16_refuses_a_weight_that_it_cannot_hold(file, tmp_path):
    model = small()
    model.layers[0].kernel.assign(np.full((4, 3), 70000.0))
    with pytest.raises(ValueError, match=r"70000.0 in '.*kernel'.*precision='float32'"):
        export(model, tmp_path / file, precision="float16")
    assert not list(tmp_path.iterdir())
    export(model, tmp_path / file)


@pytest.mark.parametrize(("policy", "file"), in_turn(["mixed_float16", "bfloat16", "float64"], FILES))
def test_other_precisions_are_exported_in_float32(policy, file, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        model = models.randomise(models.attention())
    finally:
        keras.config.set_dtype_policy("float32")
    policies = [layer._dtype_policy for layer in model._flatten_layers()]
    artifact = export(model, tmp_path / file)
    assert {spec.dtype for spec in [*artifact.inputs.values(), *artifact.outputs.values()]} == {"float32"}
    assert artifact.parity.outputs["out"].max_rel < 1e-5
    restored = [layer._dtype_policy for layer in model._flatten_layers()]
    assert all(now is before for now, before in zip(restored, policies, strict=True))
    x = models.inputs_for(artifact.inputs)["sequence"]
    close = {"float64": 1e-5, "mixed_float16": 3e-2}.get(policy, 0.2)
    np.testing.assert_allclose(artifact.predict(x), np.array(model(x), "float32"), atol=close)


@both_formats
def test_wrong_file_is_refused_and_not_left(file, tmp_path, monkeypatch):
    real = runtime.Runner.predict
    monkeypatch.setattr(runtime.Runner, "predict", lambda self, x: real(self, x) * 1.01)
    with pytest.raises(ParityError, match=r"output 'y': expected .* received .* differs by"):
        export(small(), tmp_path / file)
    assert not list(tmp_path.iterdir())
    (tmp_path / file).write_bytes(b"an older one")
    with pytest.raises(ParityError):
        export(small(), tmp_path / file, overwrite=True)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"an older one"]
    assert export(small(), tmp_path / file, overwrite=True, verify=False).parity is None


@both_formats
def test_file_that_the_runtime_refuses_is_not_left(file, tmp_path, monkeypatch):
    for module in (to_onnx, to_tflite):
        monkeypatch.setattr(module, module.__name__.split(".")[-1], lambda *args, **how: b"no model at all")
    with pytest.raises(ValueError, match="its runtime can run. Received: model 'sequential'"):
        export(small(), tmp_path / file)
    assert not list(tmp_path.iterdir())


@both_formats
def test_verify_on_data_of_ones_own(file, tmp_path):
    artifact = export(small(), tmp_path / file, verify=np.ones((5, 4)))
    assert artifact.parity.samples == 5
    with pytest.raises(ValueError, match=r"'x' to have shape \('batch', 4\). Received: shape \(5, 3\)"):
        export(small(), tmp_path / f"b{file}", verify=np.ones((5, 3)))


@both_formats
def test_overwrite(file, tmp_path):
    path = tmp_path / file
    export(small(), path)
    path.write_bytes(b"x")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export(small(), path)
    assert path.read_bytes() == b"x"
    assert export(small(), path, overwrite=True).nbytes == path.stat().st_size > 1


def test_umask_rules_the_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    artifact = export(small(), tmp_path / "model.onnx")
    assert artifact.path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": object()}, TypeError, "keras.Model"),
        ({"path": "model.pb"}, ValueError, r"'.tflite' or '.onnx'. Received: 'model.pb'"),
        ({"path": "nowhere/model.onnx"}, FileNotFoundError, "'nowhere'"),
        ({"path": f"{__file__}/model.onnx"}, NotADirectoryError, "is a file"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"batch_size": True}, ValueError, "batch_size=True"),
        ({"batch_size": 2.0}, ValueError, r"batch_size=2\.0"),
        ({"precision": "int8"}, ValueError, "precision='int8'"),
        ({"inference_io": "int8"}, ValueError, "quantized model"),
        ({"verify": {"wrong": np.ones((1, 4))}}, ValueError, r"\['x'\]. Received: \['wrong'\]"),
        ({"verify": np.array(["a"])}, ValueError, "dtype <U1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused_before_any_work(arguments, error, message, monkeypatch):
    def work(*args):
        raise AssertionError("worked")

    monkeypatch.setattr(exporter, "trace", work)
    arguments = {"model": small(), "path": "model.onnx", **arguments}
    with pytest.raises(error, match=message):
        export(**arguments)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(IsADirectoryError):
        export(small(), tmp_path / "model.onnx", overwrite=True)


def test_unbuilt_models(tmp_path):
    for model in (keras.Sequential([layers.Dense(2)]), models.Subclassed()):
        with pytest.raises(ValueError, match=r"Call it once on a batch of data, or model.build"):
            export(model, tmp_path / "model.onnx")


def test_other_backends_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match=r"'jax'. Save .* KERAS_BACKEND=tensorflow"):
        export(small(), tmp_path / "model.onnx")


def test_too_large_for_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "LARGEST_FILE", 59)
    with pytest.raises(ValueError, match="split the model"):
        export(small(), tmp_path / "model.tflite")
    monkeypatch.setattr(exporter, "LARGEST_FILE", 60)
    export(small(), tmp_path / "model.tflite", verify=False)


@both_formats
def test_a_loaded_subclassed_model(file, tmp_path):
    model = models.randomise(models.subclassed())
    model.save(tmp_path / "m.keras")
    artifact = export(keras.models.load_model(tmp_path / "m.keras"), tmp_path / file)
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    np.testing.assert_allclose(artifact.predict(x), np.asarray(model(x)), atol=1e-5)


@both_formats
def test_open_an_older_file(file, tmp_path):
    model = small()
    export(model, tmp_path / file)
    artifact = Artifact.open(tmp_path / file)
    assert (artifact.format, artifact.precision, artifact.parity) == (file.split(".")[1], "float32", None)
    x = np.ones((3, 4), "float32")
    np.testing.assert_allclose(artifact.predict(x), np.asarray(model(x)), atol=1e-6)


@both_formats
def test_wrapped_models_are_exported_plain(file, tmp_path):
    import tfcompress as tfc

    model = tfc.prune(models.randomise(models.nested()), tfc.ConstantSparsity(0.5))
    artifact = export(model, tmp_path / file)
    assert (list(artifact.inputs), list(artifact.outputs)) == NAMES[models.nested]
    assert artifact.parity.outputs["head"].max_rel < 1e-5
    assert any(type(layer).__name__ == "CompressedLayer" for layer in model._flatten_layers())
    plain = export(tfc.strip(model), tmp_path / f"plain{file}")
    assert artifact.nbytes == pytest.approx(plain.nbytes, rel=0.05)
