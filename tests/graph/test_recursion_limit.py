"""Graphs of more layers behind one another than Python recurs."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.graph import rebuild
from tfcompress.graph.recursion_limit import functional


def test_deep_models_are_made_again_and_loaded(tmp_path):
    inputs = keras.Input((4,))
    x = L.Dense(3, name="dense")(inputs)
    for _ in range(1050):
        x = L.Identity()(x)
    limit = sys.getrecursionlimit()
    model = functional(inputs, x)
    again = rebuild(model)
    again.save(tmp_path / "deep.keras")
    with pytest.raises(RecursionError):
        keras.Model(inputs, x)
    loaded = tfc.load(tmp_path / "deep.keras")
    data = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(data))
    for other in (again, loaded):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(other(data)), expected)
    assert sys.getrecursionlimit() == limit
