"""Raw data and indices reach what takes them as they are."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.precision.networks import DTYPE, HALF, precisions, predictions
from tfcompress.precision import float32_rule

pytestmark = pytest.mark.filterwarnings("ignore:mixed_float16 is slow on a CPU:UserWarning")


def why(model):
    return {row.layer: row.why for row in tfc.explain(tfc.mixed_precision(model, HALF)).rows}


def test_columns_of_a_table_before_their_normalization():
    a, b = keras.Input((1,), name="year"), keras.Input((1,), name="size")
    x = L.Concatenate(name="both")([a, b])
    x = L.Normalization(mean=[2000.0, 0.0], variance=[100.0, 1.0], name="normalization")(x)
    x = L.Reshape((2,), name="shape")(x)
    model = keras.Model([a, b], L.Dense(1, kernel_initializer="ones", name="last")(x))
    assert {name: why(model)[name] for name in ("both", "shape")} == {"both": float32_rule.HANDS_ON, "shape": ""}
    x = [np.array([[4097.0], [1997.0]]), np.zeros((2, 1))]
    got = predictions(tfc.mixed_precision(model, HALF), x)[0]
    np.testing.assert_allclose(got, predictions(model, x)[0], rtol=1e-2)


@pytest.mark.parametrize("way", ["float", "cast"])
def test_indices(way):
    """4001 is 4000 in float16, and 4000 or 4096 in bfloat16."""
    inputs = keras.Input((2, 2), name="ids")
    x = L.Reshape((4,), name="shape")(inputs)
    x = ops.cast(x, "int32") if way == "cast" else x
    x = L.Flatten(name="flat")(L.Embedding(5000, 1, name="embedding")(x))
    model = keras.Model(inputs, L.Dense(1, kernel_initializer="ones", name="last")(x))
    model.get_layer("embedding").embeddings.assign((np.arange(5000) % 7)[:, None])
    mixed = tfc.mixed_precision(model, HALF)
    assert precisions(mixed)["shape"] == "float32"
    assert precisions(mixed)["embedding"] == precisions(mixed)["flat"] == DTYPE
    ids = np.array([[[4001, 257], [3, 4]]])
    np.testing.assert_array_equal(predictions(mixed, ids)[0], [[sum(i % 7 for i in (4001, 257, 3, 4))]])


def test_what_a_layer_computed_is_no_raw_data():
    inputs = keras.Input((8,))
    x = L.Reshape((2, 4), name="before")(inputs)
    x = L.Dense(4, name="dense")(x)
    x = L.Rescaling(2.0, name="rescaling")(L.Reshape((8,), name="after")(x))
    found = why(keras.Model(inputs, L.Dense(2, name="last")(x)))
    assert found == {"before": "", "dense": "", "after": "", "rescaling": float32_rule.RAW, "last": float32_rule.OUTPUT}
