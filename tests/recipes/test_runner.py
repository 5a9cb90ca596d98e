"""Runs of recipes: what they make, that they can be repeated, and that they go on where they were killed."""

from __future__ import annotations

import contextlib
import json

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.pipeline.test_checkpoints import Killed, Stop
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.graph import rebuild
from tfcompress.pipeline import Data, checkpoints
from tfcompress.pipeline.checkpoints import PREFIX
from tfcompress.pipeline.losses import loss_for
from tfcompress.recipes import Recipe, run
from tfcompress.recipes.record import Record, digest_of_model


@pytest.fixture(scope="module")
def data():
    """Three classes that are easy to tell apart."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 96)
    x = (np.eye(3)[y].repeat(2, axis=1) + generator.normal(0, 0.3, (96, 6))).astype("float32")
    return Data("made", x[:64], y[:64], x[64:], y[64:])


@pytest.fixture
def model():
    return small()


def small():
    keras.utils.set_random_seed(3)
    layers = [
        keras.Input((6,), name="x"),
        L.Dense(16, "relu", name="hidden"),
        L.Dropout(0.2),
        L.Dense(3, name="logits"),
    ]
    made = keras.Sequential(layers, name="small")
    made.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


def recipe(*steps, **fields):
    return Recipe.from_dict({"steps": steps, **fields})


TRAINING = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}
FINETUNE = {"step": "finetune", **TRAINING}
WHOLE = recipe(
    {"step": "prune", "config": 0.5, "layers": "hidden"},
    {"step": "finetune", **TRAINING},
    {"step": "export", "files": ["pruned.keras", "pruned.onnx"]},
    {"step": "cluster", "by_layer": {"hidden": 5}},
    {"step": "quantize", "by_layer": {"logits": None, ".*": "int8"}},
    {"step": "distill", **TRAINING},
    {"step": "export", "files": ["int8.onnx"], "weights": "coded"},
    name="whole",
)


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """A run that nothing disturbs."""
    return run(WHOLE, small(), data, folder=tmp_path_factory.mktemp("run") / "a")


def weights(made):
    return [np.asarray(variable.value) for variable in made.model.weights]


def test_a_recipe_makes_its_files(undisturbed, model, data):
    first, folder = undisturbed, undisturbed.folder
    assert Recipe.read(folder / "recipe.yaml") == WHOLE
    hidden, logits = (tfc.load(folder / "pruned.keras").get_layer(name) for name in ("hidden", "logits"))
    assert (np.mean(hidden.kernel == 0), np.mean(logits.kernel == 0)) == (0.5, 0)
    known = json.loads((folder / "run.json").read_text())
    assert known["finished"] and known["versions"]["keras"] == keras.__version__
    assert list(first.metrics) == ["02_finetune", "05_quantize", "06_distill"]
    assert first.metrics["06_distill"]["accuracy"] > 0.8
    assert sorted(path.name for path in (folder / "steps").iterdir())[-1] == "06_distill.keras"
    # It is finished: what it made is there at once.
    stamp = (folder / "int8.onnx").stat().st_mtime_ns
    (folder / "run.json").write_text(json.dumps({**known, "finished": False}))  # killed when the last step was noted
    again = run(WHOLE, model, data, folder=folder)
    assert (folder / "int8.onnx").stat().st_mtime_ns == stamp
    assert json.loads((folder / "run.json").read_text()) == known
    assert again.metrics == first.metrics and set(again.artifacts) == {"pruned.onnx", "int8.onnx"}
    with pytest.raises(FileExistsError, match="of a run with another recipe. Pass overwrite=True"):
        run(WHOLE.replace(seed=1), model, data, folder=folder)
    with pytest.raises(FileExistsError, match="of a run with another model"):
        run(WHOLE, keras.models.clone_model(model), data, folder=folder)


@pytest.mark.parametrize(
    ("quantize", "export", "message"),
    [
        ({"config": "int8_weights"}, {"inference_io": "int8"}, "quantized model with activations of 8 bits"),
        ({"by_layer": {"hidden": "int16x8"}}, {"inference_io": "int8"}, "with 16 bits. Quantize those layers"),
        ({"config": {"weights": {"bits": 10}}}, {}, "Expected weights of at most 8 bits"),
        (None, {"weights": "coded"}, "whose weights are float. Quantize it first"),
    ],
)
def test_what_no_file_can_have_is_refused_before_a_training(quantize, export, message, model, data, tmp_path):
    def stage(text, count=0):
        raise AssertionError(text)

    made = [{"step": "quantize", **quantize}] if quantize else []
    steps = [{"step": "finetune", **TRAINING}, *made, {"step": "export", "files": ["a.onnx"], **export}]
    with pytest.raises(ValueError, match=rf"At steps\[{len(steps) - 1}\], 'export': .*{message}"):
        run(recipe(*steps), model, data, folder=tmp_path / "a", stage=stage)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.rare), 3])
def test_a_run_goes_on_where_it_was_killed(epoch, undisturbed, model, data, tmp_path, monkeypatch):
    """In the midst of an epoch: of the first training, and of the second. All else is done twice, and is the same."""
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    stop, texts, before = Stop(epoch), [], model.get_weights()

    def stage(text, count=0):
        texts.append(text)
        return contextlib.nullcontext([stop] if count and stop.left >= 0 else [])

    with pytest.raises(Killed):
        run(WHOLE, model, data, folder=tmp_path, stage=stage)
    (backup,) = tmp_path.glob(f"{PREFIX}*/{'02_finetune' if epoch == 1 else '06_distill'}.npz")
    with np.load(backup) as stored:
        assert (stored["epochs"], stored["batches"]) == (1, 1)
    texts.clear()
    stop.left = -1
    resumed = run(WHOLE, model, data, folder=tmp_path, stage=stage)
    assert ("prune to 50% and fine-tune" in texts) == (epoch == 1)
    assert "train quantized, distilled" in texts
    assert all(map(np.array_equal, weights(resumed), weights(undisturbed)))
    assert resumed.metrics == undisturbed.metrics
    assert all(map(np.array_equal, before, model.get_weights()))
    for name in ("pruned.onnx", "int8.onnx", "recipe.yaml"):
        assert (tmp_path / name).read_bytes() == (undisturbed.folder / name).read_bytes()
    assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_channels_are_taken_out_and_zeros_stay(model, data, tmp_path):
    made = run(
        recipe(
            {"step": "prune", "config": {"sparsity": 0.5, "granularity": "channel"}, "layers": ["hidden"]},
            {"step": "shrink"},
            {"step": "prune", "config": {"granularity": "2:4"}, "layers": "logits"},
            {"step": "quantize"},
            {"step": "finetune", **TRAINING},
        ),
        model,
        data,
        folder=tmp_path,
    )
    plain = tfc.strip(made.model)
    hidden, logits = (np.asarray(layer.kernel) for layer in plain.layers if hasattr(layer, "kernel"))
    assert hidden.shape == (6, 8)
    assert np.mean(logits == 0) == 0.5
    assert any(layer.transforms for layer in wrapped_layers(made.model))


def test_what_does_not_fit_is_refused_before_any_work(model, data, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match=r"At steps\[2\], 'quantize': .*conv"):
        run(
            recipe({"step": "prune", "config": 0.5}, {"step": "finetune"}, {"step": "quantize", "layers": "conv"}),
            model,
            data,
            folder=folder,
        )
    for steps, message in (
        ([{"step": "quantize"}], r"steps\[0\]: Expected data, which 'quantize' needs"),
        ([{"step": "prune", "config": 0.5}, {"step": "distill"}], r"steps\[1\]: Expected data"),
    ):
        with pytest.raises(ValueError, match=message):
            run(recipe(*steps), model, folder=folder)
    with pytest.raises(TypeError, match="Expected data to be a"):
        run("int8", model, np.zeros((3, 6)), folder=folder)
    with pytest.raises(ValueError, match="Expected a model, or data"):
        run(recipe({"step": "quantize", "config": "int8_weights"}), folder=folder)

    class Own(keras.Model):
        def train_step(self, data):
            raise NotImplementedError

    own = Own(model.inputs, model.outputs)
    with pytest.raises(ValueError, match="has a train_step of its own"):
        run(recipe({"step": "finetune"}), own, data, folder=folder)
    with pytest.raises(ValueError, match="by 'movement', which looks at gradients"):
        recipe({"step": "prune", "config": {"sparsity": 0.5, "criterion": "movement"}})
    assert not folder.exists()


def test_a_subclassed_model_is_trained_by_what_it_was_compiled_with(data, tmp_path):
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = L.Dense(3, name="first"), L.Dense(6, name="second")

        def call(self, x):
            return {"b": self.first(x), "a": self.second(x)}

    model = Two()
    model(data.x_train)
    losses = {"b": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "a": "mae"}
    model.compile("adam", losses, loss_weights={"b": 1.0, "a": 0.5})
    y = {"b": data.y_train, "a": data.x_train}
    both = Data("two", data.x_train, y, data.x_train, y)
    loss = loss_for(model, both, rebuild(model))
    assert (loss.each, loss.weights) == (("mae", losses["b"]), (0.5, 1.0))
    steps = {"step": "prune", "config": 0.5}, {"step": "export", "files": ["a.onnx"]}
    assert run(recipe(*steps), model, both, folder=tmp_path / "run", metrics=False).artifacts


def test_statistics_of_batch_normalization_after_a_training_are_those_of_its_weights(data, tmp_path):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((6,)), L.Dense(8, use_bias=False), L.BatchNormalization(name="norm"), L.ReLU(), L.Dense(3)]
    model = keras.Sequential(layers, name="normed")
    few = {"step": "quantize", "config": {"weights": {"bits": 2, "range": "learned"}}}
    off = {}
    for anew in (True, False):
        steps = few, {"step": "finetune", **TRAINING, "reestimate_batch_norm": anew}
        made = run(recipe(*steps, name="few"), model, data, folder=tmp_path / str(anew)).model
        variance = made.get_layer("norm").moving_variance
        before = keras.ops.convert_to_numpy(variance)
        # Kernels are rounded as they are folded: other statistics round a few otherwise.
        tfc.reestimate_batch_norm(made, data.train.drawn(64))
        off[anew] = np.abs(keras.ops.convert_to_numpy(variance) / before - 1).max()
    assert off[True] < 0.1 < off[False]


def test_a_model_is_told_by_its_configuration_and_loss_and_a_loaded_one_by_its_file(data, tmp_path):
    def made():
        keras.utils.clear_session()  # as in another process: names are the same
        return small()

    given, other, twice = made(), made(), made()
    other.name = "renamed"
    assert digest_of_model(given) == digest_of_model(other)
    other.layers[0].activation = keras.activations.tanh
    twice.compile("adam", "mse")
    assert len({digest_of_model(one) for one in (None, given, other, twice)}) == 4
    path = tmp_path / "given.keras"
    steps = ({"step": "load", "model": str(path)}, {"step": "export", "files": ["a.onnx"]})
    given.save(path)
    run(recipe(*steps), folder=tmp_path / "run")
    run(recipe(*steps), folder=tmp_path / "run")
    other.save(path)
    with pytest.raises(FileExistsError, match="of a run with another model"):
        run(recipe(*steps), folder=tmp_path / "run")


def killed_in_the_first_training(model, data, folder, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    with pytest.raises(Killed):
        run(SHORT, model, data, folder=folder, stage=lambda *_: contextlib.nullcontext([Stop(1)]))


SHORT = recipe(FINETUNE, {"step": "export", "files": ["a.onnx"]})


@pytest.mark.parametrize("resume", [True, False])
def test_trainings_begin_anew_where_nothing_is_to_be_resumed(resume, model, data, tmp_path, monkeypatch):
    killed_in_the_first_training(model, data, tmp_path, monkeypatch)
    epochs = []
    seen = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
    how = {"stage": lambda *_: contextlib.nullcontext([seen]), "resume": resume, "overwrite": True}
    run(SHORT, model, data, folder=tmp_path, **how)
    assert epochs[0] == (1 if resume else 0)


def test_distill_has_its_teacher_or_the_run_goes_on_in_front_of_it(model, data, tmp_path):
    folder = tmp_path / "run"
    steps = (
        FINETUNE,
        {"step": "prune", "config": 0.5},
        {"step": "distill", **TRAINING},
    )
    run(recipe(*steps), model, data, folder=folder)
    stored = json.loads((folder / "run.json").read_text())
    stored["steps"] = stored["steps"][:2]
    (folder / "run.json").write_text(json.dumps(stored))
    record = Record(folder, recipe(*steps), model, data)
    for spoilt, places in ((False, 2), (True, 0)):
        if spoilt:
            (folder / "steps" / "01_finetune.keras").write_bytes(b"")
        record.open(True, False)
        assert record.resumable()[0] == places


def test_zeros_that_were_there_or_are_left_by_shrink_stay(data, tmp_path):
    model = small()
    kernel = np.array(model.get_layer("hidden").kernel)
    kernel[::2] = 0
    model.get_layer("hidden").kernel.assign(kernel)
    masks = recipe({"step": "prune", "config": 0.5, "layers": "logits"}, {"step": "quantize"}, FINETUNE)
    shrunk = recipe(
        {"step": "prune", "config": {"sparsity": 0.5, "granularity": "channel"}, "layers": "hidden"},
        {"step": "shrink"},
        FINETUNE,
    )
    pruned = recipe({"step": "prune", "config": 0.5, "layers": "logits"}, FINETUNE)
    for name, given in (("masks", masks), ("pruned", pruned), ("shrunk", shrunk)):
        plain = tfc.strip(run(given, model, data, folder=tmp_path / name).model)
        kernels = [np.asarray(layer.kernel) for layer in plain.layers if hasattr(layer, "kernel")]
        assert not kernels[0][::2].any()
        assert name == "masks" or kernels[0][1::2].all()  # quantized, small weights are zero
        assert np.mean(kernels[1] == 0) == (0 if name == "shrunk" else 0.5)


def test_numbers_are_not_distilled(tmp_path):
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    numbers = Data("numbers", x, x[:, :3], x, x[:, :3])
    with pytest.raises(ValueError, match=r"steps\[1\]: Expected data with classes.*Take `finetune`"):
        run(recipe({"step": "quantize"}, {"step": "distill"}), small(), numbers, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_several_outputs_are_trained_shipped_and_reported_by_name(tmp_path):
    keras.utils.set_random_seed(0)
    x = keras.Input((4,))
    model = keras.Model(x, {"sign": L.Dense(2, name="p")(x), "count": L.Dense(3, name="q")(x)})
    rows = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
    y = {"sign": np.where(rows[:, 0] > 0, "yes", "no"), "count": (rows[:, 1] > 0).astype(int) + (rows[:, 2] > 0)}
    first, last = ({name: values[part] for name, values in y.items()} for part in (slice(64), slice(64, None)))
    data = Data("made", rows[:64], first, rows[64:], last)
    trained = {"step": "distill", "epochs": 12, "batch_size": 8, "learning_rate": 0.1, "alpha": 0.1}
    report = {"step": "report", "latency": False, "layers": False}
    steps = [{"step": "prune", "config": 0.25}, trained, {"step": "export", "files": ["a.onnx"]}, report]
    done = run(recipe(*steps), model, data, folder=tmp_path)
    said = done.metrics["02_distill"]["outputs"]
    assert {name: [one["name"] for one in metrics["classes"]] for name, metrics in said.items()} == {
        "sign": ["no", "yes"],
        "count": ["0", "1", "2"],
    }
    assert said["sign"]["accuracy"] > 0.75
    assert said["count"]["accuracy"] > 0.55
    assert done.report["a.onnx"].metrics["sign"].accuracy == said["sign"]["accuracy"]
    values = {"sign": rows[:, :2], "count": y["count"]}
    with pytest.raises(ValueError, match="whose targets of 'sign' are numbers"):
        run(recipe(*steps), model, Data("n", rows, values, rows, values), folder=tmp_path / "numbers")


def test_a_report_has_what_is_estimated_for_the_target_of_a_file(model, data, tmp_path, monkeypatch):
    pytest.importorskip("tflite_micro")
    pytest.importorskip("ethosu.vela")
    steps = [{"step": "quantize"}, {"step": "export", "files": ["npu.tflite"], "target": "ethos-u55-128"}]
    steps += [{"step": "export", "files": ["phone.tflite"]}, {"step": "report", "latency": False, "layers": False}]
    report = run(recipe(*steps), model, data, folder=tmp_path / "made").report
    assert report["npu.tflite"].npu.cycles > 0 and report["phone.tflite"].npu is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ethosu" else 1)
    with pytest.raises(ImportError, match="ethos-u-vela"):
        run(recipe(*steps), model, data, folder=tmp_path / "other")
    assert not (tmp_path / "other").exists() or not list((tmp_path / "other").glob("*.tflite"))
