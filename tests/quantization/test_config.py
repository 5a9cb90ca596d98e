"""Configurations refuse what they can't be, and come back from their dictionaries."""

from __future__ import annotations

import json

import pytest

import tfcompress as tfc
from tfcompress.quantization.config import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name):
    config = tfc.QuantizeConfig.get(name)
    assert tfc.QuantizeConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("bits", [1, 17, 8.0, True, "8"])
@pytest.mark.parametrize("spec", [tfc.WeightSpec, tfc.ActivationSpec])
def test_bits_out_of_range(spec, bits):
    with pytest.raises(ValueError, match=r"Expected bits to be a whole number from 2 to 16\. Received: bits="):
        spec(bits=bits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tfc.WeightSpec(granularity="per_chanel"), "Did you mean 'per_channel'"),
        (lambda: tfc.WeightSpec(range="max"), "Expected range to be one of"),
        (lambda: tfc.WeightSpec(symmetric=False), "Expected symmetric=True"),
        (lambda: tfc.WeightSpec(codebook="kmeans"), "Expected codebook to be one of"),
        (lambda: tfc.ActivationSpec(range="mean"), "Expected range to be one of"),
        (lambda: tfc.ActivationSpec(percentile=30), "Expected percentile above 50"),
        (lambda: tfc.ActivationSpec(momentum=1.0), r"Expected momentum in \[0, 1\)"),
        (lambda: tfc.QuantizeConfig(freeze_ranges_step=-1), "Expected freeze_ranges_step to be a training step"),
        (lambda: tfc.QuantizeConfig.get("int9"), "Did you mean 'int8'"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_types():
    with pytest.raises(TypeError, match="Expected weights to be a WeightSpec"):
        tfc.QuantizeConfig(weights=8)
    with pytest.raises(TypeError, match="Expected activations to be an ActivationSpec or None"):
        tfc.QuantizeConfig(activations=8)
