"""What is tried, in which order: of trials that are made up, nothing is run."""

import types

import keras
import numpy as np
import pytest

from tfcompress import targets
from tfcompress.quantization.quantize_config import QuantizeConfig, WeightSpec
from tfcompress.search import candidates, staircase
from tfcompress.search.candidates import Candidate, narrow
from tfcompress.search.staircase import Dose, Staircase
from tfcompress.search.tries import Try


class MadeUp:
    """Trials whose candidates promise to hold as a function of them says."""

    formats, minimize, model = ("tflite",), "size", None
    data = types.SimpleNamespace(is_classes=True)

    def __init__(self, holds):
        self.holds, self.tries, self.begun, self.proved = holds, [], [], {}
        self.safe = lambda name: True
        self.begin = self.begun.append

    def attempt(self, candidate: Candidate) -> Try:
        for one in self.tries:
            if one.name == candidate.name:
                return one
        self.tries.append(Try(candidate.name, {}, outcome=str(self.holds(candidate.name))))
        return self.tries[-1]

    def promises(self, tried: Try, form: str, errors: float = -1.0) -> bool:
        return tried.outcome == "True" and (errors < 0 or self.safe(tried.name))

    def best(self, form: str) -> bool:
        return any(one.outcome == "True" for one in self.tries)

    def check_time(self) -> None:
        pass

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.tries]


LADDER = tuple(Candidate(f"rung {place}") for place in range(8))


def climbed(holds, dose: Dose | None = None, ladder=LADDER, **how) -> MadeUp:
    trials = MadeUp(holds)
    for name, value in how.items():
        setattr(trials, name, value)
    Staircase(trials, dose, np.zeros((1, 1)), ladder).climb()
    return trials


def test_it_halves_its_way_to_the_last_rung_that_holds():
    names = climbed(lambda name: "rung" not in name or int(name[5]) <= 4).names
    assert names == ["float16", "int8", "rung 3", "rung 5", "rung 4"]


def test_where_the_last_rung_is_not_sure_others_near_it_are_tried():
    ladder = tuple(Candidate(f"rung {place:02}") for place in range(32))

    def holds(name: str) -> bool:
        return "rung" not in name or int(name[5:]) <= 29

    halved = ["rung 15", "rung 23", "rung 27", "rung 29", "rung 30"]
    for safe, more in ((29, []), (27, []), (26, ["rung 24"]), (0, ["rung 24"])):
        names = climbed(holds, ladder=ladder, safe=lambda name, safe=safe: int(name[5:]) <= safe).names
        assert names == ["float16", "int8", *halved, *more]  # 27 was tried on the way
    names = climbed(lambda name: "rung" not in name or name == "rung 0", ladder=LADDER, safe=lambda name: False).names
    assert names == ["float16", "int8", "rung 3", "rung 1", "rung 0"]


def test_a_search_that_goes_on_behind_a_proof_falls_back_on_nothing():
    for proved, more in (({"tflite": {}}, ["rung 1"]), ({"tflite": {"a key": "holds"}}, [])):
        how = {"safe": lambda name: False, "proved": proved}
        names = climbed(lambda name: "rung" not in name or name in ("rung 2", "rung 3", "rung 1"), **how).names
        assert names == ["float16", "int8", "rung 3", "rung 5", "rung 4", *more]


def test_rungs_that_a_target_cannot_do_are_not_fallen_back_on():
    blocks = narrow("blocks", {".*": QuantizeConfig(WeightSpec(bits=4, granularity=32), None)})
    trials = MadeUp(lambda name: "rung" not in name or int(name[5]) <= 3)
    trials.safe = lambda name: False
    ladder = [*LADDER[:1], blocks, *LADDER[2:]]
    Staircase(trials, None, np.zeros((1, 1)), ladder, targets.get("server-gpu")).climb()
    assert trials.names[-3:] == ["rung 3", "rung 5", "rung 4"]


def test_training_goes_on_where_calibration_ends():
    def holds(name: str) -> bool:
        return "rung" not in name or int(name[5]) <= (6 if "distillation" in name else 1)

    names = climbed(holds, Dose(2)).names
    assert names[:5] == ["float16", "int8", "rung 3", "rung 1", "rung 2"]
    trained = ", 2 epochs of distillation"
    assert names[5:] == [f"rung {place}{trained}" for place in (3, 5, 7, 6)]


def test_numbers_are_trained_on_their_targets_alone():
    regression = types.SimpleNamespace(is_classes=False)
    names = climbed(lambda name: "rung" not in name, Dose(2), data=regression).names
    assert "rung 1, 2 epochs of training" in names
    assert not any("distillation" in name for name in names)
    for taught, kind in ((True, "distill"), (False, "finetune")):
        how = (1, 32, 1e-3, taught)
        assert candidates.int8().trained(*how).steps[-1].called() == kind
        assert candidates.fewer_channels(0.5, *how).steps[1].called() == kind


def test_first_aid_ends_with_what_helps():
    names = climbed(lambda name: name in ("float16", "int8, AdaRound"), ladder=()).names
    assert names[-1] == "int8, AdaRound"
    assert len(names) == 2 + 4


def test_the_fewest_layers_that_hurt_are_left_wider(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(staircase, "damages", lambda *args: {f"layer_{place}": 1.0 for place in range(9)})

    def holds(name: str) -> bool:
        return name == "float16" or (name.endswith(("layer in float", "layers in float")) and int(name[6]) >= 3)

    names = climbed(holds, ladder=()).names
    tried = [name.removeprefix("int8, ") for name in names if " in " in name]
    assert tried == [
        *(f"{count} in int16 activations" for count in ("1 layer", "2 layers", "4 layers", "8 layers")),
        *(f"{count} in float" for count in ("1 layer", "2 layers", "4 layers", "3 layers")),
    ]


def test_layers_that_are_left_wider_stay_so_further_down(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(staircase, "damages", lambda *args: {"bad.one": 1.0, "good": 0.1, "better": 0.0})
    rung = candidates.narrow("4 bits", {"bad\\.one": QuantizeConfig(WeightSpec(bits=4)), "good": QuantizeConfig()})
    trials = climbed(lambda name: "16" in name or "wider" in name, ladder=[rung])
    assert trials.names[-1] == "4 bits, 1 wider"
    config = candidates.keeping(rung, candidates.widened(["bad.one"], "int16 activations")).steps[0].read(1)
    assert [(key, one.weights.bits, one.activations.bits) for key, one in config.configs.items()] == [
        ("bad\\.one", 8, 16),
        ("good", 8, 8),
    ]


def test_channels_are_removed_where_time_counts():
    names = climbed(lambda name: "37%" not in name and "38%" not in name, Dose(1), minimize="latency").names
    assert [name.split()[0] for name in names] == ["float16", "int8", "12%", "25%", "38%"]


def test_names_of_candidates_are_names_of_folders_and_their_recipes_can_be_run():
    made = [candidates.float16(), candidates.int8(), *candidates.first_aid(), candidates.wide()]
    made += [candidates.mixed(["a.b", "c"], kind) for kind in candidates.WIDER]
    made += [candidates.fewer_channels(0.5, 1, 32, 1e-3)]
    made += [one.trained(2, 32, 1e-3) for one in made[1:-2]]
    recipes = [one.recipe(("tflite", "onnx"), "size", seed=1) for one in made]
    assert len({recipe.name for recipe in recipes}) == len(made)
    assert all(recipe.seed == 1 and recipe.steps[-1].files == ("model.keras",) for recipe in recipes)


def test_few_bits_are_trained_with_scales_that_learn():
    from tfcompress.search.ladder import uniform

    layers = [keras.layers.Dense(8, name=name) for name in "abc"]
    rungs = uniform(keras.Sequential([keras.Input((8,)), *layers]))
    three = next(one for one in rungs if one.name == "3 bits")
    config = three.steps[0].read(1).configs[".*"]
    assert (config.weights.range, config.first_and_last_bits) == ("mse", 8)
    trained = three.trained(1, 32, 1e-3).steps[0].read(1).configs[".*"]
    assert (trained.weights.range, trained.weights.bits) == ("learned", 3)
