"""Files are judged beside the float model, sample by sample."""

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tfcompress.search.judge import Judge
from tfcompress.search.judgement import Judgement


def identity(name: str = "identity") -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, use_bias=False)], name=name)
    model.layers[0].set_weights([np.eye(3)])
    return model


def swapping() -> keras.Model:
    """Return a model that takes class 0 for class 1."""
    model = identity("swapping")
    model.layers[0].set_weights([np.array([[0, 1, 0], [0, 1, 0], [0, 0, 1]])])
    return model


def samples(count: int, wrong: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return samples of class 2, all but so many, which are of class 0."""
    y = np.array([0] * wrong + [2] * (count - wrong))
    return np.eye(3, dtype="float32")[y], y


def test_the_drop_is_that_of_the_file(tmp_path):
    artifact = tfc.export(swapping(), tmp_path / "swapping.tflite")
    judgement = Judge(identity(), samples(1000, wrong=30))(artifact.path, budget=0.5)
    assert (judgement.baseline, judgement.value, judgement.drop) == (1.0, 0.97, pytest.approx(3))
    assert judgement.verdict == "broken"
    assert judgement.interval[0] > 0.5
    assert "a budget of 0.5 points is broken" in str(judgement)


def test_what_may_be_chance_is_not_shown_and_says_how_many_samples_it_takes():
    judgement = Judge(identity(), samples(1000, wrong=3))(swapping(), budget=0.5)
    assert judgement.verdict == "not shown"
    assert judgement.needed > 1000
    assert f"about {judgement.needed:,} samples would show" in str(judgement)
    assert Judge(identity(), samples(1000, wrong=6))(swapping(), budget=0.5).needed is None


def test_the_same_model_holds():
    judgement = Judge(identity(), samples(700))(identity("other"), budget=0.5)
    assert (judgement.verdict, judgement.drop, judgement.samples) == ("holds", 0, 700)


def test_a_clear_case_stops_early():
    judge = Judge(identity(), samples(4000, wrong=4000))
    judgement = judge(swapping(), budget=0.5, early=True)
    assert (judgement.verdict, judgement.samples, judgement.stopped) == ("broken", 256, True)
    assert judge(swapping(), budget=0.5).samples == 4000


def test_sorted_samples_stop_it_no_sooner():
    judge = Judge(identity(), samples(4000, wrong=256))  # 6.4 %, all at the beginning
    assert judge(swapping(), budget=20, early=True).verdict == "holds"


def test_errors_count_in_their_own_unit():
    x = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    judge = Judge(identity(), (x, x + 0.1))
    judgement = judge(swapping(), budget=0.1)
    assert judgement.metric == "mse"
    assert not judgement.points
    assert judgement.baseline == pytest.approx(0.01, rel=1e-4)
    assert judgement.drop == pytest.approx(judgement.value - judgement.baseline)
    assert judgement.verdict == "broken"
    assert Judge(identity(), (x, x + 0.1), "mae").baseline == pytest.approx(0.1, rel=1e-4)


def test_a_function_says_what_each_sample_is_worth():
    def found(y, outputs):
        return outputs.argmax(1) == y

    judgement = Judge(identity(), samples(1000, wrong=30), found)(swapping(), budget=0.5)
    assert (judgement.metric, judgement.drop, judgement.points) == ("found", pytest.approx(3), True)
    judge = Judge(identity(), samples(1000, wrong=30), lambda y, outputs: found(y, outputs).astype("float32"))
    assert (judge(swapping()).drop, judge.points) == (pytest.approx(3), True)
    assert judge(swapping(), budget=0.5, early=True).verdict == "broken"
    with pytest.raises(ValueError, match=r"Expected at least 2,995 samples"):
        judge.check_budget(0.1)
    nearness = Judge(identity(), samples(100, wrong=30), lambda y, outputs: 1 - abs(outputs - np.eye(3)[y]).max(1) / 2)
    with pytest.raises(ValueError, match=r"return 0 or 1 for each sample.*Received: 0\.5\. Let it"):
        nearness(swapping())
    errors = Judge(identity(), samples(100), lambda y, outputs: -abs(outputs - np.eye(3)[y]).max(1))
    assert not errors.points
    with pytest.raises(ValueError, match=r"one value for each of 100 samples.*Received: an array of shape"):
        Judge(identity(), samples(100), lambda y, outputs: 0.5)


def test_functions_of_one_name_are_told_apart():
    data = samples(100, wrong=30)
    prints = [Judge(identity(), data, lambda y, o, k=k: k * o.max(1) - y).fingerprint for k in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]
    assert Judge(identity(), data, "accuracy").fingerprint == "accuracy"


def test_several_outputs_each_keep_the_budget():
    x = keras.Input((3,))
    outputs = {name: keras.layers.Dense(3, use_bias=False, name=name)(x) for name in "ab"}
    model = keras.Model(x, outputs)
    for layer in (model.get_layer("a"), model.get_layer("b")):
        layer.set_weights([np.eye(3)])
    worse = keras.models.clone_model(model)
    worse.get_layer("a").set_weights([np.eye(3)])
    worse.get_layer("b").set_weights(swapping().layers[0].get_weights())
    inputs, y = samples(1000, wrong=30)
    judgement = Judge(model, (inputs, {"a": y, "b": y}))(worse, budget=0.5)
    assert (judgement.metric, judgement.verdict) == ("accuracy of 'b'", "broken")
    with pytest.raises(ValueError, match="Expected outputs of one kind.*accuracy of 'a', mse of 'b'"):
        Judge(model, (inputs, {"a": y, "b": inputs * 0.7}))


def test_classes_may_be_text():
    x, y = samples(700, wrong=300)
    names = np.array(["ape", "bee", "cat"])
    judge = Judge(identity(), (x, names[y]), class_names=["ape", "bee", "cat"])
    assert judge(swapping(), budget=0.5, early=True).verdict == "broken"


def test_budgets_that_cannot_be_shown_are_refused():
    judge = Judge(identity(), samples(500))
    with pytest.raises(ValueError, match=r"Expected at least 598 samples.*Received: 500"):
        judge.check_budget(0.5)
    with pytest.raises(ValueError, match=r"Expected max_drop above 0.*Received: max_drop=-1"):
        judge.check_budget(-1)
    judge.check_budget(1.0)


def test_metrics_that_are_no_means_are_refused():
    for metric, message in (
        ("macro_f1", "Expected a metric that is a mean over samples"),
        ("acuracy", "Did you mean 'accuracy'"),
        ("mse", "Expected a metric of a multiclass task"),
    ):
        with pytest.raises(ValueError, match=message):
            Judge(identity(), samples(10), metric)


def test_a_judgement_goes_to_json_and_back():
    judgement = Judge(identity(), samples(700))(identity(), budget=0.5)
    assert Judgement.from_dict(judgement.to_dict()) == judgement
