"""What is made once for several tests is the same for each of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.once import check_unchanged, once


@once
def made(units: int) -> keras.Model:
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])


def test_it_is_made_once_for_each_of_its_arguments():
    keras.utils.set_random_seed(5)
    first = made(3)
    assert made(3) is first
    assert made(4) is not first
    keras.utils.set_random_seed(1234)
    alone = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    np.testing.assert_array_equal(first.get_weights()[0], alone.get_weights()[0])


@pytest.mark.parametrize(
    "change",
    [lambda model: model.layers[0].kernel.assign(np.ones((2, 3))), lambda model: setattr(model, "trainable", False)],
    ids=["a weight", "what trains"],
)
def test_a_change_is_found(change):
    model = made(3)
    weights = model.get_weights()
    check_unchanged()
    made(3)
    change(model)
    try:
        with pytest.raises(AssertionError, match=r"stay as they are. Received: \['made\(3,\)'\], changed"):
            check_unchanged()
    finally:
        model.trainable = True
        model.set_weights(weights)
