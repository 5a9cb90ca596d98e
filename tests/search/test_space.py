"""A search space is a recipe with choices and ranges, checked before any work."""

import json

import pytest
import yaml

from tfcompress.search.space import SearchSpace

WHOLE = """
name: mine
seed: 3
steps:
- step: prune
  config: {sparsity: {low: 0.3, high: 0.9}, granularity: {choice: [element, channel]}}
- step: finetune
  epochs: {low: 1, high: 5, step: 2}
  learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
- choice:
  - null
  - step: cluster
    config: {choice: [16, 32]}
- step: quantize
  by_layer: {low: {weights: {bits: {choice: [4, 8]}}}, high: int8}
- step: finetune
  epochs: {low: 1, high: 9, log: true}
- step: export
  files: [a.tflite, a.keras]
"""

NAMES = [
    "prune.config.sparsity",
    "prune.config.granularity",
    "finetune.epochs",
    "finetune.learning_rate",
    "steps[2]",
    "quantize.by_layer.low.weights.bits",
    "finetune_2.epochs",
    "steps[2][1].config",
]

QUANTIZE = {"step": "quantize"}
EXPORT = {"step": "export", "files": ["a.onnx"]}


def space(*steps, **fields):
    return SearchSpace({"steps": [*steps, EXPORT], **fields})


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_space_is_a_recipe_with_choices_and_ranges(suffix, tmp_path):
    values = yaml.safe_load(WHOLE)
    path = tmp_path / f"space{suffix}"
    path.write_text(json.dumps(values) if suffix == ".json" else WHOLE)
    read = SearchSpace.read(path)
    assert read.to_dict() == SearchSpace.read(read.save(tmp_path / f"again{suffix}")).to_dict() == values
    assert [parameter.name for parameter in read.parameters] == NAMES
    assert (read.name, read.size) == ("mine", None)
    sparsity, _, epochs, rate, steps, _, log, _ = read.parameters
    assert (sparsity.low, sparsity.high, sparsity.step, sparsity.values()) == (0.3, 0.9, None, None)
    assert (epochs.values(), rate.log, log.step, log.ends()) == ([1, 3, 5], True, None, [1, 9])
    chosen = dict(zip(NAMES, (0.5, "channel", 3, 1e-3, steps.labels[1], 4, 7, 32), strict=True))
    recipe = read.recipe(chosen)
    assert [step.called() for step in recipe.steps] == [
        "prune",
        "finetune",
        "cluster",
        "quantize",
        "finetune",
        "export",
    ]
    assert (recipe.steps[0].config, recipe.steps[2].config, recipe.steps[4].epochs, recipe.seed) == (
        {"sparsity": 0.5, "granularity": "channel"}, 32, 7, 3
    )  # fmt: skip
    without = read.recipe({**chosen, "steps[2]": steps.labels[0]})
    assert len(without.steps) == 5


def test_all_recipes_of_a_finite_space():
    bits = {"step": "quantize", "config": {"weights": {"bits": {"choice": [4, 8]}}}}
    nested = {"choice": [None, {"step": "cluster", "config": {"choice": [4, 8, 16]}}]}
    found = space(nested, bits)
    recipes = [found.recipe(values).to_dict() for values in found.all()]
    assert found.size == len(recipes) == 2 * (1 + 3)
    assert len({json.dumps(one) for one in recipes}) == 8


def test_steps_of_a_range_end_before_it_does():
    found = space({"step": "finetune", "learning_rate": {"low": 0.1, "high": 0.45, "step": 0.1}})
    assert found.parameters[0].values() == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([QUANTIZE], "with neither, so that there is nothing to search"),
        (
            [{"step": "prune", "config": {"choice": [0.5, 1.5]}}],
            "With prune.config=1.5: At steps.0.: Expected .sparsity",
        ),
        ([{"step": "quantise", "config": {"choice": ["int8"]}}], "Did you mean 'quantize'"),
        ([{"step": "prune", "config": {"choice": []}}], r"At prune.config: Expected \{choice.*Received: no option"),
        ([{"step": "prune", "config": {"choice": [0.5], "log": True}}], "Received: 'log' beside it"),
        ([{"step": "prune", "config": {"choice": [0.5, 0.5]}}], "each option once. Received: 0.5 twice"),
        ([{"step": "prune", "config": {"low": 0.5, "hihg": 0.6}}], "Received: 'hihg'. Did you mean 'high'"),
        ([{"step": "prune", "config": {"low": 0.5, "high": "a"}}], "Expected high to be a number. Received: 'a'"),
        ([{"step": "prune", "config": {"low": 0.5, "high": 0.5}}], "Expected low below high"),
        ([{"step": "prune", "config": {"low": 0, "high": 0.5, "log": True}}], "low above 0"),
        ([{"step": "finetune", "epochs": {"low": 0.5, "high": 3.5}}], "With finetune.epochs=0.5.*Expected `int"),
        ([{"choice": [QUANTIZE, None]}, {"step": "prune", "config": 0.5}], "`quantize` behind all other changes"),
    ],
)
def test_what_makes_no_recipe_is_refused(steps, message):
    with pytest.raises(ValueError, match=message):
        space(*steps)


def test_a_space_needs_a_file_to_judge():
    with pytest.raises(ValueError, match=r"exports a .tflite or .onnx file.*Received: none"):
        SearchSpace({"steps": [{"step": "prune", "config": {"low": 0.1, "high": 0.2}}]})


def test_of_many_combinations_all_pairs_are_checked():
    steps = [
        {"step": "prune", "config": {"sparsity": {"choice": [0.5, 0.6]}, "granularity": {"choice": ["2:4", "element"]}}}
    ]
    with pytest.raises(ValueError, match=r"With prune.config.sparsity=0.6.*2:4"):
        space(*steps)
    many = [{"step": "finetune", "epochs": {"low": 1, "high": 9}} for _ in range(12)]
    with pytest.raises(ValueError, match=r"prune.config.sparsity=0.6"):
        space(*steps, *many)
    assert space({"step": "prune", "config": {"choice": [0.5, 0.6]}}, *many).size is None
