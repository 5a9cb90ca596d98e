"""What layers become from rung to rung, and what is rounded or pruned before a training."""

import types

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tests.search.allocation_models import clusters, trained_model
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.pruning import OneShot
from tfcompress.recipes import Prune
from tfcompress.recipes.transforms import Circumstances, changed
from tfcompress.search import candidates
from tfcompress.search.allocation import Allocation, LayerAllocation
from tfcompress.search.choices import Choice
from tfcompress.search.ladder import BASE, RUNGS, Ladder


def test_rungs_go_down_in_bits():
    model, (x, _) = trained_model(), clusters()
    ladder = Ladder(model, x[:128], None, ("onnx",))
    first, last = (float(ladder[place].name.split()[0]) for place in (0, RUNGS - 1))
    assert 2 <= last < first <= 8


def test_layers_that_cannot_be_scored_get_the_same_width_and_that_is_told():
    model, (x, _) = trained_model(), clusters()
    told: list[str] = []
    ladder = Ladder(model, x[:16], {"elsewhere": "mse"}, ("onnx",), told=told.append)
    with pytest.warns(UserWarning, match="Below int8 all layers get the same, since .* Expected a loss"):
        assert ladder[RUNGS - 1].name == "2 bits"
    assert ["can't be scored" in one for one in told] == [True]
    with pytest.raises(ValueError, match="Expected data"):
        Ladder(model, None, None, ("onnx",))[0]


def test_a_rung_prunes_before_it_rounds():
    choices = {"a": Choice(2, sparsity=0.5), "b": Choice(4)}
    rows = tuple(LayerAllocation(name, (name,), one, {}, 0.1, 10) for name, one in choices.items())
    ladder = Ladder(None, None, None, ("onnx",))
    ladder._allocator = types.SimpleNamespace(
        scores={"a": {Choice(8): 0.1, Choice(2): 1.0}},
        allocate=lambda max_rise: Allocation(rows, {}, None, BASE),
    )
    rung = ladder[RUNGS - 1]
    assert rung.name == "3.00 bits by layer"
    prune, quantize = rung.steps
    assert prune.read(100).configs["a"].schedule == OneShot(0.5)
    assert quantize.rounding == "adaround"
    assert [one.weights.bits for one in quantize.read(1).configs.values()] == [2, 4]
    (alone,) = candidates.keeping(rung, {"a": None}).steps
    assert alone.read(1).configs["a"] is None


def test_masks_that_are_found_once_are_there_before_a_training():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, name="dense")])
    for schedule, zeros in ((OneShot(0.5), 24), (tfc.PolynomialSparsity(0.0, 0.5, 0, 10, frequency=5), 0)):
        step = Prune(config=tfc.PruneConfig(schedule))
        pruned = changed(step, model, Circumstances(None, training=100, seed=0, trial=False))
        kernel = keras.ops.convert_to_numpy(wrapped_layers(pruned)[0].transformed()[0])
        assert np.sum(kernel == 0) == zeros
