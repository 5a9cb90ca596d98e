"""Statistics of batch normalization, computed anew."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.quantization.graph.test_batch_norm_folding import infer, randomize
from tests.quantization.ptq.test_bias_correction import convolutions, cuts, images, state
from tfcompress.core.passthrough import FixedTraining
from tfcompress.core.transform import read
from tfcompress.graph import rebuild
from tfcompress.quantization.ptq import layerwise
from tfcompress.quantization.ptq.batch_norm_reestimation import reestimate_batch_norm


@pytest.mark.parametrize("batch_size", [64, 16, 7])
def test_first_statistics_are_those_of_all_data(batch_size):
    model, x = convolutions(norm=True), images()
    reestimate_batch_norm(model, x, batch_size=batch_size)
    reached = infer(keras.Model(model.input, model.get_layer("conv_0").output), x).astype("float64")
    norm = model.get_layer("norm_0")
    np.testing.assert_allclose(read(norm.moving_mean), reached.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(read(norm.moving_variance), reached.var((0, 1, 2)), rtol=1e-4, atol=1e-7)


def test_statistics_follow_scaled_weights():
    model, x = convolutions(fused=False, use_bias=False, norm=True), images(96)
    reestimate_batch_norm(model, x, batch_size=96)
    want = infer(model, x)
    for index, factor in enumerate((10.0, 0.1, 30.0)):
        kernel = model.get_layer(f"conv_{index}").kernel
        kernel.assign(read(kernel) * factor)
    scale = np.abs(want).max()
    assert np.abs(infer(model, x) - want).max() > 0.5 * scale
    reestimate_batch_norm(model, x, batch_size=16)
    # Epsilon weighs less or more on scaled weights.
    assert np.abs(infer(model, x) - want).mean() < 0.05 * scale


@pytest.mark.parametrize("kept", [0, 2**29])
def test_one_set_of_data_gives_one_result_however_it_is_cut_and_ordered(kept, monkeypatch):
    monkeypatch.setattr(layerwise, "KEPT", kept)
    inputs = keras.Input((10, 10, 3))
    shared, conv = L.BatchNormalization(name="shared"), L.Conv2D(3, 3, padding="same", name="conv")
    x = L.Conv2D(3, 1, name="other")(shared(conv(L.ReLU()(shared(inputs)))))
    x = L.Add()([L.BatchNormalization(name="last")(x), inputs])
    model = keras.Model(inputs, L.BatchNormalization(name="sum")(x))
    x = np.sort(images(), axis=0) ** 4
    reestimate_batch_norm(model, x, batch_size=64)
    expected = state(model)
    reached = infer(keras.Model(model.input, model.get_layer("sum").input), x).astype("float64")
    np.testing.assert_allclose(read(model.get_layer("sum").moving_mean), reached.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    for data, size in cuts(x):
        again = keras.models.clone_model(model)
        again.set_weights(
            [
                w if "conv" in v.path or "other" in v.path else read(v)
                for v, w in zip(again.weights, model.get_weights(), strict=True)
            ]
        )
        reestimate_batch_norm(again, data, batch_size=size)
        for want, got in zip(expected, state(again), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_masked_positions_do_not_count():
    inputs = keras.Input((5,), dtype="int32")
    embedded = L.Embedding(10, 4, mask_zero=True, name="embedding")(inputs)
    model = keras.Model(inputs, L.BatchNormalization(name="norm")(embedded))
    ids = np.random.default_rng(0).integers(0, 4, (33, 5))
    for opened in (model, rebuild(model)):
        reestimate_batch_norm(opened, ids, batch_size=8)
        values = read(opened.get_layer("embedding").embeddings)[ids[ids > 0]].astype("float64")
        norm = opened.get_layer("norm")
        np.testing.assert_allclose(read(norm.moving_mean), values.mean(0), rtol=0, atol=1e-6)
        np.testing.assert_allclose(read(norm.moving_variance), values.var(0), rtol=1e-4, atol=1e-7)


def test_pinned_normalizations():
    x = np.random.default_rng(0).normal(3, 2, (32, 4)).astype("float32")
    for pinned, moves in ((False, True), (True, False)):
        norm = L.BatchNormalization(name="norm")
        norm.build((None, 4))
        model = keras.Sequential([keras.Input((4,)), FixedTraining(norm, pinned)])
        reestimate_batch_norm(model, x)
        assert bool(np.any(read(norm.moving_mean) != 0)) is moves
        if moves:
            np.testing.assert_allclose(read(norm.moving_mean), x.mean(0), rtol=1e-5)


def test_failure_leaves_everything_as_it_was():
    model, x = randomize(convolutions(norm=True)), images()
    before = state(model)
    broken = np.concatenate([x, np.full((16, 10, 10, 3), 3e38, "float32")])
    with pytest.raises(ValueError, match="Expected finite activations.*'norm_0'"):
        reestimate_batch_norm(model, broken, batch_size=16)
    for old, new in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_refuses():
    with pytest.raises(ValueError, match="Expected a functional model"):
        reestimate_batch_norm("model", images(4))
    nested = keras.Sequential([keras.Input((10, 10, 3)), convolutions(norm=True)])
    with pytest.raises(ValueError, match=r"'norm_\d' inside of another layer"):
        reestimate_batch_norm(nested, images(4))
