"""Files with a config for each layer."""

from __future__ import annotations

import json

import pytest
import yaml

import tfcompress as tfc
from tfcompress.precision.policies import policy_name
from tfcompress.pruning import ConstantSparsity, NofM, PolynomialSparsity
from tfcompress.recipes.config_file import layer_configs, sections
from tfcompress.recipes.written_configs import read_prune, read_quantize

INT4 = tfc.QuantizeConfig(weights=tfc.WeightSpec(bits=4))


def prune_config(value):
    return read_prune(value, steps=100)


@pytest.mark.parametrize(
    ("name", "text", "read", "expected"),
    [
        (
            "c.yaml",
            'logits: null\n"conv.*": {weights: {bits: 4}}\n".*": int16x8\n',
            read_quantize,
            {"logits": None, "conv.*": INT4, ".*": tfc.QuantizeConfig.get("int16x8")},
        ),
        (
            "c.json",
            '{"a": {"recipe": "int8_weights", "weights": {"granularity": "per_tensor"}}}',
            read_quantize,
            {"a": tfc.QuantizeConfig(weights=tfc.WeightSpec(granularity="per_tensor"), activations=None)},
        ),
        (
            "c.yml",
            'a: 0.5\nb: {granularity: "2:4", criterion: l2}\n',
            prune_config,
            {
                "a": tfc.PruneConfig(PolynomialSparsity(0.0, 0.5, begin_step=0, end_step=75, frequency=3)),
                "b": tfc.PruneConfig(ConstantSparsity(0.5, frequency=4), "l2", NofM(2, 4)),
            },
        ),
        ("c.yaml", "a: auto\n.*: float32\n", policy_name, {"a": "auto", ".*": "float32"}),
    ],
)
def test_each_form(name, text, read, expected, tmp_path):
    (tmp_path / name).write_text(text)
    assert layer_configs(tmp_path / name, read).configs == expected


def test_sections_for_several_jobs(tmp_path):
    reads = {"prune": prune_config, "quantize": read_quantize}
    (tmp_path / "c.yaml").write_text('quantize: {a: null, ".*": int8}\nprune: {a: 0.5}\n')
    found = sections(tmp_path / "c.yaml", reads)
    assert found["quantize"].configs == {"a": None, ".*": tfc.QuantizeConfig()}
    assert found["prune"].configs == {"a": tfc.PruneConfig(PolynomialSparsity(0.0, 0.5, 0, 75, frequency=3))}
    for text, message in [
        ("prun: {a: 0.5}", "the sections 'prune' and 'quantize'.*Did you mean 'prune'"),
        ("a: int8", "the sections.*Received: .'a'"),
        ("{}", "the sections"),
        ("- prune", "the sections"),
        ("prune: 0.5", "c.json: in 'prune': .*mapping from names.*Received: 0.5"),
        ("quantize: {a: int9}", "c.json: in 'quantize': for 'a': .*Did you mean 'int8'"),
    ]:
        (tmp_path / "c.json").write_text(json.dumps(yaml.safe_load(text)))
        with pytest.raises(ValueError, match=message):
            sections(tmp_path / "c.json", reads)


@pytest.mark.parametrize(
    ("configs", "read"),
    [
        ({"a": INT4, ".*": None}, read_quantize),
        ({"a": tfc.PruneConfig(ConstantSparsity(0.5, frequency=4), granularity="channel")}, prune_config),
    ],
)
def test_what_the_package_stores(configs, read, tmp_path):
    stored = tfc.LayerConfigs(configs)
    (tmp_path / "c.json").write_text(json.dumps(stored.to_dict()))
    assert layer_configs(tmp_path / "c.json", read) == stored


@pytest.mark.parametrize(
    ("name", "text", "read", "message"),
    [
        ("c.txt", "a: int8", read_quantize, "ends in .json, .yaml, .yml"),
        ("c.yaml", "a: {weights: {bitz: 4}}", read_quantize, "for 'a': .*`weights`, a WeightSpec: 'bits'.*'bitz'"),
        ("c.yaml", "a: {weight: {bits: 4}}", read_quantize, "for 'a': .*'weights'.*Received: 'weight'"),
        ("c.yaml", "a: {weights: {bits: 40}}", read_quantize, "for 'a': .*bits"),
        ("c.yaml", "a: int9", read_quantize, "for 'a': .*Did you mean 'int8'"),
        ("c.yaml", "a: [1]", read_quantize, "for 'a': .*name of a recipe"),
        ("c.yaml", "a: int8\na: int8", read_quantize, "'a' twice"),
        ("c.json", '{"a": "int8", "a": "int8"}', read_quantize, "'a' twice"),
        ("c.json", '{"a": ', read_quantize, "can't be read"),
        ("c.yaml", "{a: ", read_quantize, "can't be read"),
        ("c.yaml", "a: !!python/name:os.system", read_quantize, "can't be read"),
        ("c.yaml", "- a", read_quantize, "a mapping from names"),
        ("c.yaml", "{}", read_quantize, "an empty one"),
        ("c.yaml", "1: int8", read_quantize, "Write it in quotes"),
        ("c.yaml", '"(": int8', read_quantize, "regular expression"),
        ("c.yaml", "a: 1.5", prune_config, "for 'a': .*sparsity"),
        ("c.yaml", "a: {sparsity: 0.5, criterio: l2}", prune_config, "for 'a': .*'criterion'.*'criterio'"),
        ("c.yaml", "a: {sparsity: 0.5, criterion: l3}", prune_config, "for 'a': .*criterion.*l3"),
        ("c.yaml", "a: {sparsity: 0.5, granularity: 4}", prune_config, "for 'a': .*granularity"),
        ("c.yaml", "a: {criterion: l2}", prune_config, "for 'a': .*`sparsity` or `schedule`"),
        ("c.yaml", "a: {sparsity: x}", prune_config, "for 'a': .*sparsity"),
        ("c.yaml", "a: float8", policy_name, "for 'a': .*policy"),
    ],
)
def test_what_is_wrong_is_named(name, text, read, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        layer_configs(tmp_path / name, read)
    assert name in str(refused.value) or name == "c.txt"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        layer_configs(tmp_path / "none.json", read_quantize)
