"""Recipes as files: what is read, and what is refused before any work."""

from __future__ import annotations

import json

import pytest

import tfcompress as tfc
from tfcompress.pruning import ConstantSparsity, PolynomialSparsity
from tfcompress.recipes import Cluster, Distill, Export, Finetune, Prune, Quantize, Recipe, Report, Shrink

INT4 = tfc.QuantizeConfig(weights=tfc.WeightSpec(bits=4))

WHOLE = """
version: 1
name: mine
when: Where it is to be small.
seed: 3
steps:
- step: load
  model: my.keras
- step: equalize
- step: prune
  by_layer: {"conv.*": {sparsity: 0.5, granularity: "2:4"}, logits: null}
  layers: [conv_1, conv_2]
- step: distill
  epochs: 2
  temperature: 4
- step: cluster
  config: 16
- step: finetune
- step: quantize
  config: {weights: {bits: 4}}
  rounding: {adaround: {steps: 20}}
- step: export
  files: [a.tflite, a.onnx]
  weights: coded
- step: report
  baseline: a.onnx
"""


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_recipe_is_the_same_in_a_file(suffix, tmp_path):
    (tmp_path / "mine.yml").write_text(WHOLE)
    recipe = Recipe.read(tmp_path / "mine.yml")
    assert [step.called() for step in recipe.steps][:4] == ["load", "equalize", "prune", "distill"]
    assert recipe.steps[2].layers == ("conv_1", "conv_2")
    assert recipe.steps[2].read(10).configs["conv.*"].schedule == ConstantSparsity(0.5, frequency=1)
    assert recipe.steps[6].read(0) == INT4
    assert recipe.steps[6].method == tfc.AdaRound(steps=20)
    assert Recipe.read(recipe.save(tmp_path / f"again{suffix}")) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(FileExistsError):
        recipe.save(tmp_path / f"again{suffix}")


def test_steps_take_configs_of_the_verbs():
    schedule = PolynomialSparsity(0.0, 0.5, begin_step=0, end_step=100)
    pairs = [(Prune, tfc.PruneConfig(schedule)), (Cluster, tfc.ClusterConfig(4)), (Quantize, INT4)]
    for step, config in pairs:
        assert step(config=config).read(100) == config
    by_layer = tfc.LayerConfigs({"a": INT4, "b": None})
    made = Recipe(steps=(Quantize(by_layer=by_layer), Export(files=("a.onnx",))))
    assert Recipe.from_dict(json.loads(json.dumps(made.to_dict()))).steps[0].read(1) == by_layer
    assert Quantize(config=by_layer).read(1) == by_layer
    assert Prune(config=0.5).read(100).schedule.final() == 0.5


QUANTIZE, EXPORT = {"step": "quantize"}, {"step": "export", "files": ["a.onnx"]}
KERAS, TFLITE = {**EXPORT, "files": ["a.keras"]}, {**EXPORT, "files": ["a.tflite"]}
CHANNELS = {"step": "prune", "config": {"sparsity": 0.5, "granularity": "channel"}}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "Expected `steps` with a step"),
        ([{"step": "prun"}], r"At steps\[0\].step: .*'prun'. Did you mean 'prune'"),
        ([{"step": ["quantize"]}], r"At steps\[0\].step: Expected one of 'load'.*Received: \['quantize'\]"),
        ([{"config": 0.5}], r"At steps\[0\].step: .*Received: none, but 'config'"),
        ([QUANTIZE, {"step": "export", "file": []}], r"At steps\[1\].file: .*Did you mean 'files'"),
        ([{"step": "finetune", "epochs": "many"}], r"At steps\[0\].epochs: Expected `int \| null`. Received: `str`"),
        ([{"step": "finetune", "epochs": 0}], r"At steps\[0\]: Expected epochs to be an integer of at least 1"),
        ([{"step": "prune"}], r"At steps\[0\]: Expected `config`, or `by_layer`"),
        ([{"step": "prune", "config": 0.5, "by_layer": {"a": 0.5}}], "Received: both"),
        ([{"step": "prune", "by_layer": {"a": {"criterium": "l2"}}}], r"\[0\]: for 'a': .*Did you mean 'criterion'"),
        ([{"step": "quantize", "config": "int9"}], r"\[0\]: Expected a QuantizeConfig or one of .*Did you mean 'int8"),
        ([{"step": "quantize", "rounding": {"adaround": {"stepz": 1}}}], "Did you mean steps="),
        ([{"step": "export", "files": []}], "Expected `files` to name a file"),
        ([{"step": "export", "files": ["a/b.onnx"]}], "names, without a folder"),
        (
            [{**KERAS, "precision": "float16"}],
            r"\[0\]: Expected precision .* ends in .tflite or .onnx.*name such a file",
        ),
        ([{**KERAS, "inference_io": "int8"}], "Expected inference_io .* ends in .tflite or .onnx"),
        ([{**TFLITE, "weights": "coded"}], "ends in .onnx: .*Received: weights='coded', and a.tflite"),
        ([{**TFLITE, "opset": 20}], "Received: opset=20, and a.tflite"),
        ([{**EXPORT, "prefer": "size"}], "ends in .tflite: .*Received: prefer='size', and a.onnx"),
        ([{**EXPORT, "sparse": True}], "Received: sparse=True, and a.onnx"),
        ([EXPORT, {"step": "load"}], r"At steps\[1\]: Expected `load` as the first"),
        ([{"step": "prune", "config": 0.5}, {"step": "shrink"}], "Received: a `prune` of single weights"),
        ([{"step": "finetune", "reestimate_batch_norm": True}], "Expected reestimate_batch_norm behind `quantize`"),
        ([{"step": "shrink"}], r"At steps\[0\]: Expected `shrink` behind a `prune` of channels.*no `prune`"),
        ([CHANNELS, QUANTIZE, {"step": "shrink"}], "Expected `shrink` in front of"),
        ([CHANNELS, {"step": "shrink"}, {"step": "shrink"}], "Received: twice"),
        ([{"step": "prune", "config": 0.5}, {"step": "equalize"}], "`equalize` in front of"),
        ([QUANTIZE, {"step": "prune", "config": 0.5}], "`quantize` behind all other changes"),
        ([{"step": "distill"}], "Take `finetune`"),
        ([QUANTIZE, EXPORT, EXPORT], "'a.onnx' twice"),
        ([QUANTIZE, {**EXPORT, "precision": "float16"}], "precision='float32' of a quantized model"),
        ([{**EXPORT, "inference_io": "int8"}], "Put `quantize` in front"),
        ([QUANTIZE, {"step": "report"}], "`report` behind an `export`"),
        ([EXPORT, {"step": "report"}, {"step": "report"}], r"At steps\[2\]: Expected `report` as the last step"),
        ([EXPORT, {"step": "report", "baseline": "b.onnx"}], "Did you mean 'a.onnx'"),
    ],
)
def test_what_can_not_work_is_refused(steps, message):
    with pytest.raises(ValueError, match=message):
        Recipe.from_dict({"steps": steps})


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.yaml"
    for text, message in (
        ("version: 2\nstages: []\n", "a later tfcompress wrote.*pip install --upgrade"),
        ("version: 1\nstpes: []\n", "At stpes: .*Did you mean 'steps'"),
        ("version: 1\n", "Received: no 'steps'"),
        ("steps: 3\n", "At steps: Expected a list"),
        ("steps: [3]\n", r"At steps\[0\]: Expected a step"),
        ("name: a/b\nsteps: [{step: quantize}]\n", "Expected name to be of letters"),
        ("- 3\n", "Expected a recipe: "),
        ("steps: [\n", "can't be read"),
        ("name: a\nname: b\n", "each key once"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message) as found:
            Recipe.read(path)
        assert str(path) in str(found.value)
    with pytest.raises(FileNotFoundError, match="a file with a recipe"):
        Recipe.read(tmp_path / "none.json")
    with pytest.raises(ValueError, match="Did you mean 'int8'"):
        Recipe.read("int_8")
    with pytest.raises(TypeError, match=r"Received: 'prune' as steps\[0\]"):
        Recipe(steps=("prune",))
    assert Finetune().learning_rate == Distill().learning_rate
    assert Recipe(steps=(Export(files=["a.onnx"]), Report())).steps[0].files == ("a.onnx",)
    assert Shrink() == Shrink()
