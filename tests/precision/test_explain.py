"""What each layer computes in, of quantized models; those of mixed precision are in test_float32_rule.py."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.precision.explain import BY_HAND, NOT_CAST


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="x")
    x = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(L.Conv2D(4, 3, name="conv")(inputs)))
    x = L.LayerNormalization(name="float")(L.Flatten(name="flat")(x))
    return keras.Model(inputs, L.Dense(2, name="logits")(x))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("int8", {"conv": ("int8", "int8 kernel"), "norm": ("int8", "folded"), "flat": ("int8", "moves"),
                  "float": ("float32", "float fallback: no integer kernel")}),
        ("int16x8", {"conv": ("int16", "int8 kernel"), "relu": ("int16", "int16")}),
        ("dynamic_int8", {"conv": ("int8", "int8 kernel, ranges at run time"), "relu": ("float32", "")}),
        ("int8_weights", {"conv": ("float32", "weight-only: int8 kernel"), "float": ("float32", "")}),
    ],
)  # fmt: skip
def test_of_quantized_models(network, config, expected):
    report = tfc.explain(tfc.quantize(network, config))
    found = {row.layer: (row.precision, row.why) for row in report.rows}
    assert {name: found[name] for name in expected} == expected
    assert list(found)[:5] == ["conv", "norm", "relu", "flat", "float"] and len(found) == 6
    integers = sum(precision.startswith("int") for precision, _ in found.values())
    assert report.quantized and f"{integers} of 6 with integers." in str(report)


def test_one_report_for_every_model(network):
    mixed = tfc.mixed_precision(network, "mixed_bfloat16")
    both = tfc.quantize(mixed, "int8")
    assert {type(tfc.explain(model)) for model in (network, mixed, both)} == {tfc.PrecisionReport}
    assert {row.precision for row in tfc.explain(mixed).rows} == {"bfloat16", "float32"}
    assert {row.layer: row.precision for row in tfc.explain(both).rows}["float"] == "bfloat16"
    plain = tfc.explain(network).rows
    assert np.all([row.precision == "float32" and row.why for row in plain])
    assert plain[0].why == NOT_CAST
    one = tfc.explain(tfc.mixed_precision(network, {"conv": "mixed_bfloat16"})).rows
    assert [row.why for row in one[:2]] == ["", BY_HAND]
