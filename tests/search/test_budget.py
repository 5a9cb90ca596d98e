"""From a model and a budget to files that are shown to keep it."""

import json
import shutil
import types
import warnings

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tfcompress.quantization.quantize_config import QuantizeConfig, WeightSpec
from tfcompress.search import attempts, budget, trials
from tfcompress.search.budget import compress
from tfcompress.search.candidates import narrow
from tfcompress.search.judge import Judge


def samples(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(count, 8)).astype("float32")
    return x, (x @ np.random.default_rng(0).normal(size=(8, 4))).argmax(1)


DATA, VALIDATION, LATER = samples(200, 1), samples(2400, 2), samples(4000, 3)


@pytest.fixture
def model() -> keras.Model:
    return small()


def small() -> keras.Model:
    made = keras.Sequential([keras.Input((8,), name="x"), keras.layers.Dense(4, use_bias=False, name="logits")])
    made.layers[0].set_weights([np.random.default_rng(0).normal(size=(8, 4))])
    return made


@pytest.fixture(autouse=True)
def short_ladder(monkeypatch: pytest.MonkeyPatch):
    shorten(monkeypatch, 4, 2)


def shorten(monkeypatch: pytest.MonkeyPatch, *rungs: int):
    """Let the ladder have rungs of so many bits."""
    made = [narrow(f"{bits} bits", {"logits": QuantizeConfig(WeightSpec(bits=bits))}) for bits in rungs]
    monkeypatch.setattr(budget, "Ladder", lambda *args, **how: made)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The result of a whole search."""
    with pytest.MonkeyPatch.context() as patched:
        shorten(patched, 4, 2)
        return compress(small(), **HOW, max_drop=8, output_dir=tmp_path_factory.mktemp("search") / "made")


@pytest.fixture
def searched(shipped, tmp_path):
    """A folder as that search left it."""
    return shutil.copytree(shipped.folder, tmp_path / "searched")


@pytest.fixture
def quick(shipped, monkeypatch):
    """A run that takes what that search made of the same recipe."""

    def run(recipe, model, data, *, folder, **how):
        (made,) = (shipped.folder / "tries").glob(f"{recipe.name}-*")
        shutil.copytree(made, folder, dirs_exist_ok=True)
        return types.SimpleNamespace(artifacts={"model.tflite": types.SimpleNamespace(path=folder / "model.tflite")})

    monkeypatch.setattr(attempts, "run", run)


def drop_of(path, data=LATER) -> float:
    """Return the drop on samples that no search has seen, in points: the float model is always right."""
    return 100 - 100 * tfc.evaluate(path, *data).accuracy


HOW = {"data": DATA, "validation": VALIDATION, "formats": "tflite", "train": False}


def test_what_is_shipped_keeps_the_budget_on_data_never_seen(shipped):
    result, folder = shipped, shipped.folder
    assert result.holds
    judgement = result.judgements["tflite"]
    assert judgement.verdict == "holds"
    assert judgement.samples == 1600
    assert result.interval == judgement.interval
    assert judgement.interval[1] <= 8
    path = result.artifacts["tflite"].path
    assert path == folder / "model.tflite"
    assert drop_of(path) <= judgement.interval[1]
    assert [one.name for one in result.tries] == ["float16", "int8", "4 bits", "2 bits"]
    assert result.tries[3].outcome == "loses too much"
    assert result.tries[3].files[0].selection.stopped  # it is clear after a few
    assert tfc.evaluate(result.model, *LATER).accuracy == pytest.approx(1 - drop_of(path) / 100, abs=1e-3)
    assert json.loads((folder / "result.json").read_text())["judgements"]["tflite"]["verdict"] == "holds"
    assert "2 bits" in (folder / "report.md").read_text()
    assert "a budget of 8 points holds" in str(result)


def test_a_search_that_is_interrupted_has_a_result_and_goes_on(model, quick, tmp_path, monkeypatch):
    run, ran = attempts.run, []

    def counted(recipe, *args, **kwargs):
        ran.append(recipe.name)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return run(recipe, *args, **kwargs)

    monkeypatch.setattr(attempts, "run", counted)
    result = compress(model, **HOW, max_drop=8, output_dir=tmp_path)
    assert result.ended == "interrupted"
    assert [one.name for one in result.tries] == ["float16", "int8"]
    assert result.holds
    assert "the same call goes on" in str(result)
    again = compress(model, **HOW, max_drop=8, output_dir=tmp_path)
    assert not again.ended
    assert ran == ["float16", "int8", "4-bits", "4-bits", "2-bits"]
    state = json.loads((tmp_path / trials.STATE).read_text())
    assert list(state["proved"]["tflite"].values()).count("holds") == len(state["proved"]["tflite"]) > 1
    with pytest.raises(FileExistsError, match="Name another output_dir"):
        compress(model, **HOW, max_drop=5, output_dir=tmp_path)


def test_a_search_of_other_data_or_metric_is_another(model, searched):
    (x, y), (held, labels) = DATA, VALIDATION
    for how in (
        {"validation": (held, np.roll(labels, 1))},
        {"validation": (held[::-1], labels[::-1])},
        {"data": (x[::-1], y)},
        {"data": (x, y[::-1])},
        {"metric": lambda y, outputs: outputs.argmax(1) == y},
    ):
        with pytest.raises(FileExistsError, match="Name another output_dir"):
            compress(model, **{**HOW, **how}, max_drop=8, output_dir=searched)


@pytest.mark.parametrize("batched", [False, True])
def test_an_input_by_its_name_is_taken(model, tmp_path, batched):
    held, labels = VALIDATION
    given = [({"x": held}, labels)] if batched else ({"x": held}, labels)
    assert compress(model, **{**HOW, "validation": given}, max_drop=8, output_dir=tmp_path, max_seconds=1e-6).ended


def with_two_outputs():
    """Return a model with two outputs, and a function from data of one to data of both."""
    x = keras.Input((8,), name="x")
    made = {name: keras.layers.Dense(4, use_bias=False, name=f"{name}_logits")(x) for name in ("way", "back")}
    model = keras.Model(x, made)
    kernel = np.random.default_rng(0).normal(size=(8, 4))
    model.get_layer("way_logits").set_weights([kernel])
    model.get_layer("back_logits").set_weights([-kernel])

    def both(data):
        return data[0], {"way": data[1], "back": (-data[0] @ kernel).argmax(1)}

    return model, both


def both_right(y, outputs):
    return (outputs["way"].argmax(1) == y["way"]) & (outputs["back"].argmax(1) == y["back"])


@pytest.fixture
def rung_of_all(monkeypatch):
    made = [narrow("4 bits", {".*logits": QuantizeConfig(WeightSpec(bits=4))})]
    monkeypatch.setattr(budget, "Ladder", lambda *args, **how: made)


@pytest.mark.usefixtures("rung_of_all")
@pytest.mark.parametrize("metric", [None, both_right])
def test_several_outputs_are_searched(metric, tmp_path):
    model, both = with_two_outputs()
    how = {**HOW, "data": both(DATA), "validation": both(VALIDATION), "max_drop": 8, "metric": metric}
    result = compress(model, **how, output_dir=tmp_path)
    assert result.holds
    said = result.judgements["tflite"].metric
    assert said == "both_right" if metric else said in ("accuracy of 'way'", "accuracy of 'back'")
    x, y = both(LATER)
    later = tfc.evaluate(result.artifacts["tflite"].path, x, y)
    assert all(later[name].accuracy > 0.9 for name in y)
    again = compress(
        model,
        **{**how, "data": (both(DATA)[0], [both(DATA)[1][name] for name in ("back", "way")])},
        output_dir=tmp_path,
    )
    assert [one.key for one in again.tries] == [one.key for one in result.tries]  # the same data, in order


def test_outputs_of_two_kinds_need_a_metric():
    model, both = with_two_outputs()
    (x, y), (held, held_y) = both(DATA), both(VALIDATION)
    mixed = [{"way": one["way"], "back": np.eye(4)[one["back"]] / 2} for one in (y, held_y)]
    with pytest.raises(ValueError, match=r"Expected outputs of one kind.*Give metric="):
        compress(model, **{**HOW, "data": (x, mixed[0]), "validation": (held, mixed[1])}, max_drop=8)


@pytest.mark.rare  # it trains
@pytest.mark.usefixtures("rung_of_all")
def test_several_outputs_are_trained_until_they_hold(tmp_path):
    import tensorflow as tf

    model, both = with_two_outputs()
    data = tf.data.Dataset.from_tensor_slices(both(DATA)).batch(50)
    how = {**HOW, "validation": both(VALIDATION), "max_drop": 8, "train": True, "metric": both_right}
    result = compress(model, **{**how, "data": data}, output_dir=tmp_path)
    assert result.holds
    assert any("distillation" in one.name for one in result.tries)


def test_several_inputs_are_searched_with_a_metric_of_ones_own(tmp_path, monkeypatch):
    shorten(monkeypatch, 4)
    inputs = [keras.Input((5,), name="left"), keras.Input((3,), name="right")]
    joined = keras.layers.Concatenate()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(4, use_bias=False, name="logits")(joined))
    model.get_layer("logits").set_weights([np.random.default_rng(0).normal(size=(8, 4))])

    def apart(data):
        return (data[0][:, :5], data[0][:, 5:]), data[1]

    given = {**HOW, "data": apart(DATA), "validation": apart(VALIDATION)}
    result = compress(model, **given, max_drop=8, metric=lambda y, outputs: outputs.argmax(1) == y, output_dir=tmp_path)
    assert result.holds
    assert len(result.artifacts["tflite"].inputs) == 2
    (left, right), y = apart(LATER)
    drop = 100 - 100 * tfc.evaluate(result.artifacts["tflite"].path, {"left": left, "right": right}, y).accuracy
    assert drop <= result.interval[1]


def test_time_that_is_over_ends_it(model, tmp_path):
    result = compress(model, **HOW, max_drop=8, output_dir=tmp_path, max_seconds=1e-6)
    assert result.ended == "out of time"
    assert not result.holds
    assert result.model is None
    assert "no file is shown to keep the budget" in str(result)


def test_all_calls_share_the_time(model, quick, tmp_path, monkeypatch):
    now, run = [0.0], attempts.run

    def slow(*args, **kwargs):
        now[0] += 400
        return run(*args, **kwargs)

    monkeypatch.setattr(trials, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(attempts, "run", slow)
    how = {**HOW, "max_drop": 8, "output_dir": tmp_path, "max_seconds": 1000}
    names = ["float16", "int8", "4 bits"]
    assert [one.name for one in compress(model, **how).tries] == names
    assert json.loads((tmp_path / trials.STATE).read_text())["seconds"] == 1200
    result = compress(model, **how)
    assert (result.ended, [one.name for one in result.tries]) == ("out of time", names)
    assert now[0] == 1200


def test_a_try_that_is_killed_keeps_its_seconds(model, quick, tmp_path, monkeypatch):
    now, run = [0.0], attempts.run

    def killed(recipe, *args, stage, **kwargs):
        now[0] += 400
        if recipe.name == "int8" and now[0] == 800:
            with stage("quantize"):
                raise SystemExit
        return run(recipe, *args, stage=stage, **kwargs)

    monkeypatch.setattr(trials, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(attempts, "run", killed)
    how = {**HOW, "max_drop": 8, "output_dir": tmp_path, "max_seconds": 1100}
    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(trials.Trials, "end", lambda self: None)  # nothing is written when it is killed
        compress(model, **how)
    assert json.loads((tmp_path / trials.STATE).read_text())["seconds"] == 800
    result = compress(model, **how)
    assert [(one.name, one.seconds) for one in result.tries] == [("float16", 400), ("int8", 800)]
    assert result.ended == "out of time"


def test_a_proof_that_is_interrupted_ships_what_was_shown_until_then(model, searched, monkeypatch):
    prove_anew(searched)
    judged, call = [], Judge.__call__

    def interrupted(self, path, budget=None, **how):
        if not how.get("early"):
            judged.append(path)
            if len(judged) == 2:
                raise KeyboardInterrupt
        return call(self, path, budget, **how)

    monkeypatch.setattr(Judge, "__call__", interrupted)
    result = compress(model, **HOW, max_drop=8, output_dir=searched)
    assert (result.ended, result.holds, len(result.tries)) == ("interrupted", True, 4)
    assert result.artifacts["tflite"].path.read_bytes() == judged[0].read_bytes()
    assert "interrupted" in (searched / "report.md").read_text()
    again = compress(model, **HOW, max_drop=8, output_dir=searched)
    assert not again.ended
    assert again.artifacts["tflite"].nbytes < judged[0].stat().st_size
    assert judged[2] == judged[1]  # the first isn't judged again


def test_layers_are_not_scored_when_the_time_is_over(model, searched, monkeypatch):
    class Scored(list):
        def __getitem__(self, place):
            raise AssertionError

    monkeypatch.setattr(budget, "Ladder", lambda *args, **how: Scored([None] * 2))
    result = compress(model, **HOW, max_drop=8, output_dir=searched, max_seconds=1e-6)
    assert (result.ended, len(result.tries), result.holds) == ("out of time", 4, True)


def test_what_no_file_is_shown_for_is_not_left_by_an_earlier_call(model, searched):
    assert list(searched.glob("model.*"))
    prove_anew(searched, "not shown")
    assert not compress(model, **HOW, max_drop=8, output_dir=searched).artifacts
    assert not list(searched.glob("model.*"))


def prove_anew(folder, said: str | None = None):
    """Let a search know nothing of its proofs, or say the same of all."""
    state = json.loads((folder / trials.STATE).read_text())
    state["proved"] = {} if said is None else {"tflite": dict.fromkeys(state["proved"]["tflite"], said)}
    for file in (file for tried in state["tries"] for file in tried["files"]):
        file["proof"] = file["proof"] and said and {**file["proof"], "verdict": said}
    (folder / trials.STATE).write_text(json.dumps(state))


def test_files_of_others_stay(model, tmp_path):
    (tmp_path / "model.onnx").write_text("mine")
    with pytest.raises(FileExistsError, match=r"without model\.onnx"):
        compress(model, **HOW, max_drop=8, output_dir=tmp_path)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(4, name="logits")

    def call(self, x):
        return self.dense(x)


def test_a_subclassed_model_is_searched_as_its_functional_copy(tmp_path):
    model = Subclassed()
    model(DATA[0])
    model.dense.set_weights([np.random.default_rng(0).normal(size=(8, 4)), np.zeros(4)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    recipe = tfc.Recipe.from_dict(
        {
            "name": "integers",
            "steps": [{"step": "quantize", "config": "int8"}, {"step": "export", "files": ["a.tflite"]}],
        }
    )
    result = compress(model, recipe, data=DATA, validation=VALIDATION, max_drop=8, output_dir=tmp_path / "made")
    assert result.holds and result.artifacts["tflite"].path.exists()


def test_a_recipe_is_judged_as_it_is(model, tmp_path):
    steps = [{"step": "quantize"}, {"step": "export", "files": ["a.tflite", "b.onnx", "c.onnx"]}]
    recipe = tfc.Recipe.from_dict({"steps": steps})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = compress(model, recipe, data=DATA, validation=VALIDATION, output_dir=tmp_path)
    assert result.holds
    assert {form: one.path.name for form, one in result.artifacts.items()} == {
        **{"tflite": "a.tflite", "b.onnx": "b.onnx", "c.onnx": "c.onnx"},
    }
    judgement = result.judgements["tflite"]
    assert (judgement.verdict, judgement.samples) == ("no budget", 2400)
    assert judgement.drop == pytest.approx(drop_of(tmp_path / "a.tflite", VALIDATION))
    assert (tmp_path / "budget.html").exists()


def test_a_recipe_without_files_holds_nothing(model, tmp_path):
    recipe = tfc.Recipe.from_dict({"steps": [{"step": "prune", "config": 0.5}]})
    result = compress(model, recipe, data=DATA, validation=VALIDATION, output_dir=tmp_path)
    assert (result.formats, result.holds) == ((), False)


def test_what_has_no_effect_with_a_recipe_is_refused(model, tmp_path):
    recipe = tfc.Recipe.from_dict({"steps": [{"step": "prune", "config": 0.5}]})
    for how in ({"formats": "onnx"}, {"minimize": "zip"}, {"train": False}, {"learning_rate": 0.1}, {"max_seconds": 9}):
        with pytest.raises(ValueError, match=f"Expected no {next(iter(how))} with a recipe"):
            compress(model, recipe, data=DATA, validation=VALIDATION, output_dir=tmp_path, **how)


def test_what_cannot_be_shown_is_refused_before_work(model, tmp_path):
    few = tuple(array[:600] for array in VALIDATION)
    with pytest.raises(ValueError, match=r"Expected at least 897 samples .* Received: 600"):
        compress(model, **{**HOW, "validation": few}, max_drop=0.5, output_dir=tmp_path)
    for how, message in (
        ({"max_drop": -0.5}, "Expected max_drop above 0"),
        ({"max_drop": None}, "Expected max_drop, by how much"),
        ({"minimize": "sise"}, "Did you mean 'size'"),
        ({"formats": ("tflite", "onx")}, "Did you mean 'onnx'"),
        ({"metric": "roc_auc"}, "a metric that is a mean over samples"),
        ({"validation": DATA}, "isn't trained with"),
        ({"max_seconds": 0}, "Expected max_seconds"),
    ):
        with pytest.raises(ValueError, match=message):
            compress(model, **{**HOW, "max_drop": 8, **how}, output_dir=tmp_path)
    assert not list(tmp_path.iterdir())
