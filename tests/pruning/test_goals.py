"""A schedule that training left before its end: every verb says what was reached."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tfcompress.core.wrappers import remarks

X, Y = np.random.default_rng(0).normal(size=(32, 8)).astype("float32"), np.zeros((32, 4), "float32")


def trained(schedule, steps, **config):
    """Return a pruned model after some steps of training."""
    model = keras.Sequential([keras.Input((8,), name="x"), L.Dense(16, name="one"), L.Dense(4, name="two")])
    pruned = tfc.prune(model, tfc.PruneConfig(schedule, **config))
    pruned.compile("sgd", "mse")
    pruned.fit(X[:1].repeat(steps, 0), Y[:1].repeat(steps, 0), batch_size=1, verbose=0)
    return pruned


def ramp(**how):
    return tfc.PolynomialSparsity(
        **{"initial_sparsity": 0.0, "final_sparsity": 0.9, "begin_step": 4, "end_step": 8, "frequency": 2, **how}
    )


@pytest.mark.on_jax
def test_weights_that_early_stopping_restored():
    """From before the schedule began: nothing is pruned, and every verb says so."""
    model = keras.Sequential([keras.Input((8,)), L.Dense(16, activation="relu"), L.Dense(4)])
    pruned = tfc.prune(model, tfc.ConstantSparsity(0.9, begin_step=8))
    pruned.compile("sgd", "mse")
    # The first epoch is what is called the best.
    worse = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(quality=-epoch))
    stop = keras.callbacks.EarlyStopping(monitor="quality", mode="max", patience=3, restore_best_weights=True)
    pruned.fit(X, X[:, :4], batch_size=8, epochs=6, shuffle=False, verbose=0, callbacks=[worse, stop])
    said = "reached 0 of 0.9 at step 4 of 9"
    with pytest.warns(UserWarning, match=said):
        tfc.strip(pruned)
    with pytest.warns(UserWarning, match=said):
        tfc.quantize(pruned, "int8", data=X)
    assert said in " ".join(str(tfc.summary(pruned)).split())


@pytest.mark.skipif(not ON_TENSORFLOW, reason="exports")
@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_files_say_it(suffix, tmp_path):
    with pytest.warns(UserWarning, match="at step 5 of 9") as caught:
        artifact = tfc.export(trained(ramp(), 5), tmp_path / f"m{suffix}")
    assert [x.filename for x in caught if "at step" in str(x.message)] == [__file__]
    assert "at step 5 of 9" in str(artifact)


@pytest.mark.parametrize(
    ("schedule", "steps", "said"),
    [
        (ramp(), 5, "0 of 0.9 at step 5 of 9"),
        (ramp(), 7, r"0\.\d+ of 0.9 at step 7 of 9"),
        (ramp(), 8, r"0\.\d+ of 0.9 at step 8 of 9"),
        (ramp(), 9, None),
        (ramp(initial_sparsity=0.5), 4, "0 of 0.9 at step 4 of 9"),
        (tfc.ConstantSparsity(0.5, begin_step=3), 3, "0 of 0.5 at step 3 of 4"),
        (tfc.ConstantSparsity(0.5, begin_step=3), 4, None),
        (tfc.OneShot(0.5, 3), 2, "0 of 0.5 at step 2 of 4"),
        (tfc.OneShot(0.5, 3), 6, None),
        (tfc.CosineSparsity(0.0, 0.5, begin_step=0, end_step=4, frequency=1), 2, r"0\.\d+ of 0.5 at step 2 of 5"),
    ],
)
def test_what_was_reached(schedule, steps, said):
    pruned = trained(schedule, steps)
    found = remarks(pruned)
    assert len(found) == (0 if said is None else 1)
    if said is not None:
        with pytest.warns(UserWarning, match=said):
            tfc.strip(pruned)


@pytest.mark.parametrize("config", [{"scope": "global"}, {"granularity": "channel"}, {"granularity": tfc.Block(2, 2)}])
def test_whatever_is_pruned(config):
    assert "of 0.9 at step 5 of 9" in remarks(trained(ramp(), 5, **config))[0]
    assert remarks(trained(ramp(final_sparsity=0.5), 9, **config)) == []


def test_the_goal_of_targets_is_theirs():
    """128 weights to 0.3 and 64 to 0.9: 0.5 of all, whatever the schedule says."""
    for targets in ({"one": 0.3, "two": 0.9}, "erdos_renyi"):
        pruned = trained(ramp(final_sparsity=0.8), 8, allocation=targets)
        goal = 0.5 if isinstance(targets, dict) else 0.8
        assert f"of {goal} at step 8 of 9" in remarks(pruned)[0]
        assert remarks(trained(ramp(final_sparsity=0.8), 9, allocation=targets)) == []


def test_of_an_untrained_model_and_of_a_schedule_without_end_nothing_is_said():
    model = keras.Sequential([keras.Input((8,)), L.Dense(4)])
    assert remarks(tfc.prune(model, ramp())) == []
    assert remarks(tfc.prune_once(model, 0.5)) == []
