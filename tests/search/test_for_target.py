"""A search for a target: what is tried, what it costs there, and what is refused before any work."""

from __future__ import annotations

import importlib.util
import json

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tfc
from tfcompress import targets
from tfcompress.quantization.quantize_config import QuantizeConfig, WeightSpec
from tfcompress.search import budget, candidates
from tfcompress.search.candidates import narrow, suits
from tfcompress.search.for_target import check_costs, named_in, said_of
from tfcompress.search.ladder import INTEGERS, choices_of, weighed_as

NPU, MICRO = "ethos-u55-128", "microcontroller"
BOTH = targets.get(MICRO).replace(name="both", runtimes=("tflm", "litert"))
"""For a microcontroller, too, and judged in another runtime."""

X = np.random.default_rng(0).normal(size=(700, 8)).astype("float32")
Y = (X @ np.random.default_rng(1).normal(size=(8, 4))).argmax(1)
DATA, VALIDATION = (X[:100], Y[:100]), (X[100:], Y[100:])


@pytest.fixture
def model() -> keras.Model:
    made = keras.Sequential([keras.Input((8,), name="x"), layers.Dense(4, use_bias=False, name="logits")])
    made.layers[0].set_weights([np.random.default_rng(1).normal(size=(8, 4))])
    return made


def compressed(model, tmp_path, **how):
    return tfc.compress(
        model, data=DATA, validation=VALIDATION, max_drop=15, train=False, output_dir=tmp_path / "made", **how
    )


@pytest.fixture(autouse=True)
def short_ladder(monkeypatch: pytest.MonkeyPatch):
    rung = narrow("4 bits", {"logits": QuantizeConfig(WeightSpec(bits=4))})
    monkeypatch.setattr(budget, "Ladder", lambda *args, **how: [rung])


def test_files_for_an_npu_cost_what_its_compiler_says(model, tmp_path):
    pytest.importorskip("ethosu.vela")
    result = compressed(model, tmp_path, target=NPU, minimize="latency")
    assert result.holds and result.formats == ("tflite",)
    artifact = result.artifacts["tflite"]
    assert (artifact.runtime, artifact.accelerator) == ("tflm", NPU)
    assert [one.name for one in result.tries] == ["int8", "4 bits"]  # nothing is left float
    file = next(one.file("tflite") for one in result.tries if one.file("tflite").proof is result.judgements["tflite"])
    found = tfc.estimate_npu(artifact)
    assert (file.ms, file.flash, file.arena) == (found.milliseconds, found.flash, found.sram)
    assert (file.cost("latency"), file.cost("size")) == (found.milliseconds, found.flash)
    assert "estimates of Arm's compiler Vela; nothing is measured" in result.about["target"]
    assert "flash kB" in str(result.report) and f"{found.milliseconds:.3g} ms" in str(result.report)
    assert json.loads((tmp_path / "made" / "result.json").read_text())["tries"][0]["files"][0]["flash"] > 0


def test_files_for_a_microcontroller_cost_what_it_needs_to_the_byte(model, tmp_path):
    pytest.importorskip("tflite_micro")
    mine = targets.get(MICRO).replace(name="mine", numbers=("int8",))
    result = compressed(model, tmp_path, target=mine, minimize="arena")
    (tried,) = result.tries
    file = tried.file("tflite")
    assert file.runtime == "tflm" and file.ms is None and file.flash is None
    assert file.cost("arena") == file.arena == tfc.footprint(result.artifacts["tflite"]).arena.total
    assert result.judgements["tflite"].verdict == "holds"
    assert f"{file.arena / 1000:,.1f} kB of RAM" in str(result.report)
    assert tfc.targets.get(tmp_path / "made" / "target.yaml") == mine


def test_what_suits_a_target():
    npu, micro = targets.get(NPU), targets.get(MICRO)
    made = {"float16": candidates.float16(), "float": candidates.plain(), "int8": candidates.int8()}
    made |= {"wide": candidates.wide(), "some float": candidates.mixed(["a"], "float")}
    assert [name for name, one in made.items() if suits(one, npu)] == ["int8"]
    assert [name for name, one in made.items() if suits(one, micro)] == ["float", "int8", "wide", "some float"]
    assert all(suits(one, None) and suits(one, targets.get("android")) for one in made.values())
    blocks = narrow("blocks", {".*": QuantizeConfig(WeightSpec(bits=4, granularity=32), None)})
    assert not suits(blocks, targets.get("server-gpu")) and suits(blocks, targets.get("server-cpu"))


def test_the_runtime_that_judges_says_what_costs_and_helps():
    other = BOTH.replace(runtimes=("litert", "tflm"))
    assert [candidates.looks_up(one) for one in (BOTH, other)] == [False, True]
    assert [weighed_as(one, ("tflite",)) for one in (BOTH, other)] == [("tflite",), ("onnx",)]
    assert [choices_of(one) == INTEGERS for one in (BOTH, other)] == [True, False]
    assert [said_of(one) for one in (BOTH, other)] == ["both", "both: RAM is the arena that TFLite Micro needs"]
    check_costs(BOTH, ("latency", "size"), "minimize")
    with pytest.raises(ValueError, match="without 'latency' for target 'both'"):
        check_costs(other, ("latency",), "minimize")


def test_files_are_as_a_target_wants_them():
    def written(candidate, target, minimize="size"):
        return candidate.recipe(targets.get(target).formats, minimize, 0, target).steps[-2]

    assert (written(candidates.int8(), MICRO).weights, written(candidates.plain(), MICRO).weights) == ("coded", "plain")
    assert written(candidates.int8(), MICRO, "arena").weights == "plain"  # tables are looked up in RAM
    assert (written(candidates.int8(), NPU).weights, written(candidates.int8(), NPU).prefer) == ("plain", "speed")
    assert written(candidates.int8(), "android").prefer == "size"
    assert written(candidates.int8(), "web").weights == "coded"


def test_a_target_is_named_as_a_recipe_reads_it(tmp_path):
    assert named_in(tmp_path, NPU) == named_in(tmp_path, targets.get(NPU)) == NPU
    file = targets.get(NPU).replace(name="mine").save(tmp_path / "mine.yaml")
    assert targets.get(named_in(tmp_path, file)).name == "mine"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"minimize": "arena"}, r"minimize without 'arena'.*and no target\. Say target='microcontroller'"),
        ({"minimize": "arena", "target": BOTH}, "'arena' and target 'both', whose .tflite files are judged in litert"),
        ({"minimize": "latency", "target": MICRO}, r"say nothing of a microcontroller's.*Take 'arena' or 'size'"),
        ({"formats": "onnx", "target": NPU}, "formats of target 'ethos-u55-128': tflite. Received: 'onnx'"),
        ({"target": "micro"}, "Expected a target"),
        ({"target": targets.get(NPU).replace(accelerator="ethos-u55-100")}, "name of an NPU: .*mean 'ethos-u55-"),
        ({"target": NPU, "recipe": "int8"}, "Expected no target with a recipe"),
        ({"target": targets.get(MICRO).replace(numbers=("float32",))}, "computes in 8-bit integers, which a search"),
    ],
)
def test_what_a_target_cannot_have_is_refused_before_any_work(model, how, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        compressed(model, tmp_path, **how)
    assert not list(tmp_path.iterdir())


def test_a_target_in_the_folder_of_another_search_stays(model, tmp_path):
    pytest.importorskip("tflite_micro")
    mine = targets.get(MICRO).replace(name="mine")
    folder = tmp_path / "made"
    folder.mkdir()
    mine.save(folder / "target.yaml")
    other = mine.replace(about="another")
    with pytest.raises(FileExistsError, match="a folder without target.yaml"):
        compressed(model, tmp_path, target=other)
    (folder / "search.json").write_text('{"search": "another"}')
    with pytest.raises(FileExistsError, match="Expected a folder of this very search"):
        compressed(model, tmp_path, target=other)
    assert targets.get(folder / "target.yaml") == mine


def test_layers_sizes_and_packages_are_looked_at_before_any_work(model, tmp_path, monkeypatch):
    gelu = keras.Sequential([keras.Input((8,), name="x"), layers.Dense(4, activation="gelu", name="hidden")])
    with pytest.raises(ValueError, match="Received: 'hidden', which needs GELU.*Take silu"):
        compressed(gelu, tmp_path, target=NPU)
    free = keras.Sequential([keras.Input((None, 8), name="x"), layers.GlobalAveragePooling1D(), layers.Dense(4)])
    with pytest.raises(ValueError, match=r"inputs of fixed sizes for target.*\(None, None, 8\)"):
        compressed(free, tmp_path, target=MICRO)
    for missing, name in (("ethosu", "ethos-u-vela"), ("tflite_micro", "tflite-micro")):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, missing=missing: None if name == missing else 1)
        with pytest.raises(ImportError, match=rf"{name}.*pip install 'tfcompress\[mcu\]'"):
            compressed(model, tmp_path, target=NPU)
    assert not list(tmp_path.iterdir())


def test_a_recipe_whose_files_are_not_chosen_needs_no_estimates(model, tmp_path, monkeypatch):
    pytest.importorskip("tflite_micro")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ethosu" else find(name))
    steps = [{"step": "quantize"}, {"step": "export", "files": ["a.tflite"], "target": NPU}]
    how = {"data": DATA, "validation": VALIDATION, "max_drop": 15, "output_dir": tmp_path / "made"}
    result = tfc.compress(model, tfc.Recipe.from_dict({"steps": steps}), **how)
    file = result.tries[0].file("tflite")
    assert result.holds and (file.runtime, file.flash, file.arena) == ("tflm", None, None)


def space(**export):
    quantize = {"step": "quantize", "config": {"weights": {"bits": {"choice": [2, 8]}}}}
    return {"name": "small", "steps": [quantize, {"step": "export", "files": ["a.tflite"], **export}]}


def test_objectives_of_files_for_an_npu_are_estimated(model, tmp_path):
    pytest.importorskip("optuna")
    pytest.importorskip("ethosu.vela")
    how = {"data": DATA, "validation": VALIDATION, "objectives": ("size", "latency", "arena")}
    report = tfc.search(model, space(target=NPU), **how, output_dir=tmp_path / "made")
    files = [one.file("tflite") for one in report.tries]
    assert len(files) == 2 and all(file.runtime == "tflm" and file.proof for file in files if file in front(report))
    for file in files:
        found = tfc.estimate_npu(file.path, NPU)
        assert (file.flash, file.ms, file.arena) == (found.flash, found.milliseconds, found.sram)


def front(report):
    return [report.tries[place].file("tflite") for place in report.front("tflite")]


def test_objectives_that_a_target_has_not_are_refused(model, tmp_path):
    pytest.importorskip("optuna")
    for objective, target, message in (
        ("latency", {"target": MICRO}, "objectives without 'latency' for target 'microcontroller'"),
        ("arena", {}, "objectives without 'arena'"),
    ):
        with pytest.raises(ValueError, match=message):
            tfc.search(
                model,
                space(**target),
                data=DATA,
                validation=VALIDATION,
                objectives=("drop", objective),
                output_dir=tmp_path / "made",
            )
    assert not list(tmp_path.iterdir())
