"""Configurations refuse what they can't be, and come back from their dictionaries."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tfcompress as tfc
from tfcompress.quantization.quantize_config import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name):
    config = tfc.QuantizeConfig.get(name)
    assert tfc.QuantizeConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_fields_that_took_one_value_are_dropped():
    spec = tfc.WeightSpec(bits=4, range="mse")
    old = {"bits": 4, "granularity": "per_channel", "symmetric": True, "codebook": "uniform", "range": "mse"}
    assert tfc.WeightSpec.from_dict(old) == spec  # as models of that time say, without a warning
    with pytest.warns(DeprecationWarning, match="Expected no argument codebook= of WeightSpec"):
        assert tfc.WeightSpec(bits=4, range="mse", codebook="uniform") == spec


def test_numbers_of_numpy_become_plain_ones():
    spec = tfc.ActivationSpec(bits=np.uint8(8), percentile=np.float32(99.5), momentum=np.float64(0.5))
    config = tfc.QuantizeConfig(tfc.WeightSpec(bits=np.int64(4)), spec, freeze_ranges_step=np.int32(7))
    assert config == tfc.QuantizeConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert {type(config.weights.bits), type(spec.bits), type(config.freeze_ranges_step)} == {int}
    assert spec.scale(0.0, 255.0) == 1.0


@pytest.mark.parametrize("bits", [np.int8(8), np.uint8(8), np.int64(8)])
def test_arrays_take_the_bits_of_numpy_alike(bits):
    x = np.linspace(-1, 1, 9)
    for how in ({}, {"symmetric": True}, {"mode": "floor"}):
        expected = tfc.uniform_quantize(x, 8, **how)
        for part, wanted in zip(tfc.uniform_quantize(x, bits, **how), expected, strict=True):
            np.testing.assert_array_equal(part, wanted)


@pytest.mark.parametrize("bits", [1, 17, 8.0, True, "8"])
@pytest.mark.parametrize("spec", [tfc.WeightSpec, tfc.ActivationSpec])
def test_bits_out_of_range(spec, bits):
    with pytest.raises(ValueError, match=r"Expected bits to be a whole number from 2 to 16\. Received: bits="):
        spec(bits=bits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tfc.WeightSpec(granularity="per_chanel"), "Did you mean 'per_channel'"),
        (lambda: tfc.WeightSpec(granularity=24), "or one of the blocks 16, 32, 64, 128, 256. Received: granularity=24"),
        (lambda: tfc.WeightSpec(granularity=True), "Received: granularity=True"),
        (lambda: tfc.WeightSpec(granularity=32, range="ternary"), "Blocks go with range='minmax', 'mse' or 'learned'"),
        (lambda: tfc.QuantizeConfig(tfc.WeightSpec(bits=4, granularity=32)), "Expected activations=None with weights"),
        (lambda: tfc.WeightSpec(range="max"), "Expected range to be one of"),
        (lambda: tfc.WeightSpec(symmetric=False), "Expected no argument symmetric= of WeightSpec"),
        (lambda: tfc.WeightSpec(codebook="kmeans"), "codebook='uniform' is all there is"),
        (lambda: tfc.WeightSpec.from_dict({"codebook": "kmeans"}), "codebook"),
        (lambda: tfc.ActivationSpec(range="mean"), "Expected range to be one of"),
        (lambda: tfc.ActivationSpec(percentile=30), "Expected percentile above 50"),
        (lambda: tfc.ActivationSpec(percentile="99"), "Expected percentile above 50, up to 100. Received: .*'99'"),
        (lambda: tfc.ActivationSpec(percentile=float("nan")), "Expected percentile above 50"),
        (lambda: tfc.ActivationSpec(momentum=1.0), r"Expected momentum in \[0, 1\)"),
        (lambda: tfc.ActivationSpec(clip_decay=-1), "Expected clip_decay at least 0"),
        (lambda: tfc.ActivationSpec(range="learned", dynamic=True), "Expected dynamic=False with range='learned'"),
        (lambda: tfc.QuantizeConfig(first_and_last_bits=1), "Expected first_and_last_bits to be a whole number"),
        (lambda: tfc.ActivationSpec(momentum="a"), r"Expected momentum in \[0, 1\). Received: momentum='a'"),
        (lambda: tfc.QuantizeConfig(freeze_ranges_step=-1), "Expected freeze_ranges_step to be a training step"),
        (lambda: tfc.QuantizeConfig.get("int9"), "Did you mean 'int8'"),
        (lambda: tfc.QuantizeConfig.get("INT8"), "Did you mean 'int8'"),
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
