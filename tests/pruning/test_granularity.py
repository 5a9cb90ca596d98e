"""Blocks and N:M: the units of a kernel, against plain numpy and against tfmot."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tfcompress.pruning.granularity import Block, Granularity, NofM


def numpy(variable):
    return keras.ops.convert_to_numpy(variable.value)


def dense(rows, cols, seed=0):
    model = keras.Sequential([keras.Input((rows,)), L.Dense(cols, use_bias=False, name="dense")])
    model.layers[0].kernel.assign(np.random.default_rng(seed).normal(size=(rows, cols)))
    return model


def kept_of(model):
    return numpy(model.get_layer("dense").kernel) != 0


@pytest.mark.skipif(not ON_TENSORFLOW, reason="tfmot")
@pytest.mark.parametrize("pooling", ["AVG", "MAX"])
@pytest.mark.parametrize("block", [(1, 4), (4, 1), (2, 3)])
def test_blocks_equal_tfmots(tfmot, block, pooling):
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

    model = dense(12, 12)
    weights = numpy(model.layers[0].kernel)
    theirs = pruning_impl.Pruning(
        training_step_fn=lambda: tf.constant(0),
        pruning_vars=[(tf.Variable(weights), tf.Variable(np.ones_like(weights)), tf.Variable(0.0))],
        pruning_schedule=tfmot.sparsity.keras.ConstantSparsity(0.6, 0, frequency=1),
        block_size=block,
        block_pooling_type=pooling,
    )
    _, mask = theirs._maybe_update_block_mask(tf.Variable(weights))
    ours = kept_of(tfc.prune_once(model, 0.6, granularity=Block(*block, pooling)))
    np.testing.assert_array_equal(ours, mask.numpy() != 0)


@pytest.mark.parametrize("shape", [(5, 7), (3, 3, 5, 7), (2, 4, 6)])
def test_a_cut_block_counts_as_the_mean_of_what_is_there(shape):
    scores = np.abs(np.random.default_rng(0).normal(size=shape)).astype("float32")
    block = Block(2, 3)
    rows, cols = shape[-2:]
    matrices = scores.reshape(-1, rows, cols)
    units = np.asarray(block.units(keras.ops.convert_to_tensor(matrices)))
    assert units.shape == (len(matrices), -(-rows // 2), -(-cols // 3))
    for (at, i, j), found in np.ndenumerate(units):
        np.testing.assert_allclose(found, matrices[at, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3].mean(), rtol=1e-6)
    whole = np.asarray(block.expand(keras.ops.convert_to_tensor(units > 0.7), matrices.shape))
    for (at, i, j), found in np.ndenumerate(units):
        assert np.all(whole[at, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3] == (found > 0.7))


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (3, 5)])
@pytest.mark.parametrize("shape", [(20, 6), (3, 3, 20, 6)])
def test_n_of_m_keeps_the_largest_of_each_group(n, m, shape):
    scores = np.random.default_rng(0).normal(size=shape).astype("float32")
    kept = np.asarray(NofM(n, m).pattern(keras.ops.convert_to_tensor(scores.reshape(-1, 20, 6))))
    groups = scores.reshape(-1, 20 // m, m, 6)
    expected = np.argsort(np.argsort(-groups, axis=2), axis=2) < n
    np.testing.assert_array_equal(kept, expected.reshape(kept.shape))


@pytest.mark.on_jax
def test_n_of_m_with_ties_and_a_rest_keeps_no_more_than_n():
    kept = np.asarray(NofM(2, 4).pattern(keras.ops.ones((1, 7, 2))))
    np.testing.assert_array_equal(kept[0, :, 0], [True, True, False, False, True, True, False])


@pytest.mark.skipif(not ON_TENSORFLOW, reason="tfmot")
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4)])
@pytest.mark.parametrize("shape", [(16, 6), (3, 3, 8, 4)])
def test_n_of_m_equals_tfmots(tfmot, shape, n, m):
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

    weights = tf.Variable(np.random.default_rng(0).normal(size=shape).astype("float32"))
    theirs = pruning_impl.Pruning(
        training_step_fn=lambda: tf.constant(0),
        pruning_vars=[(weights, tf.Variable(tf.ones_like(weights)), tf.Variable(0.0))],
        pruning_schedule=tfmot.sparsity.keras.ConstantSparsity(0.5, 0, frequency=1),
        block_size=(1, 1),
        block_pooling_type="AVG",
        sparsity_m_by_n=(m - n, m),  # tfmot counts the zeros
    )
    mask = np.asarray(theirs._update_mask_sparsity_m_by_n(weights, (m - n, m)))
    ours = NofM(n, m).pattern(tf.reshape(tf.abs(weights), (-1, *shape[-2:])))
    np.testing.assert_array_equal(np.reshape(ours, shape), mask != 0)


@pytest.mark.on_jax
@pytest.mark.parametrize("granularity", [Block(2, 2), NofM(2, 4)])
def test_in_training_from_a_later_step_and_saved(granularity, tmp_path):
    model = keras.Sequential(
        [keras.Input((6, 6, 8)), L.Conv2D(4, 3, name="dense"), L.Flatten(), L.Dense(2, name="head")]
    )
    schedule = tfc.ConstantSparsity(0.5, begin_step=2, frequency=2)
    pruned = tfc.prune(model, tfc.PruneConfig(schedule, granularity=granularity), layers="dense")
    pruned.compile("adam", "mse")
    x, y = np.random.default_rng(0).normal(size=(8, 6, 6, 8)), np.zeros((8, 2))
    pruned.fit(x, y, batch_size=4, verbose=0)
    assert tfc.sparsity(pruned) == 0
    pruned.fit(x, y, batch_size=4, verbose=0)
    pruned.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    (mask,) = (mask for _, mask in loaded.get_layer("dense").transforms)
    assert mask.config.granularity == granularity
    assert tfc.summary(loaded).sparsities["dense/kernel"] == 0.5
    kernel = numpy(tfc.strip(loaded).get_layer("dense").kernel).reshape(-1, 2, 4, 4)
    if isinstance(granularity, NofM):
        assert np.all((kernel != 0).sum(axis=2) == 2)


def test_depthwise_kernels_are_left_out_of_n_of_m():
    model = keras.Sequential(
        [keras.Input((6, 6, 4)), L.DepthwiseConv2D(3, name="depthwise"), L.Conv2D(4, 1, name="dense")]
    )
    found = tfc.summary(tfc.prune_once(model, 0.5, granularity=NofM(2, 4))).sparsities
    assert found == {"depthwise/kernel": 0.0, "dense/kernel": 0.5}


def test_the_largest_of_a_cut_block_is_one_of_its_own():
    units = np.asarray(Block(5, 4, "MAX").units(keras.ops.full((1, 12, 10), -3.0)))
    np.testing.assert_array_equal(units, np.full((1, 3, 3), -3.0))


def test_inputs_are_inputs_whatever_the_order_of_a_kernels_axes():
    inputs = keras.Input((5, 16))
    attended = L.MultiHeadAttention(8, 4, name="mha")(inputs, inputs)
    wide = L.Reshape((5, 4, 4))(attended)
    model = keras.Model(inputs, L.Conv2DTranspose(6, 3, name="transposed")(wide))
    pruned = tfc.prune_once(model, 0.5, granularity=NofM(2, 4))
    for layer in pruned.layers:
        if isinstance(layer, L.EinsumDense):
            kernel = numpy(layer.kernel)
            # (inputs, heads, width); of the output projection (heads, width, outputs)
            rows = kernel.reshape(16, -1) if kernel.shape[0] == 16 else kernel.reshape(32, 16)
            assert np.all((rows.reshape(-1, 4, rows.shape[1]) != 0).sum(axis=1) == 2), layer.name
    kernel = numpy(pruned.get_layer("transposed").kernel)  # (height, width, outputs, inputs)
    assert kernel.shape == (3, 3, 6, 4)
    assert np.all((kernel != 0).sum(axis=3) == 2)
    blocks = tfc.prune_once(model, 0.5, granularity=Block(4, 1), layers=".*query.*")
    query = next(numpy(layer.kernel) for layer in blocks.layers if "query" in layer.name)
    assert set((query.reshape(4, 4, 32) != 0).sum(axis=1).ravel().tolist()) == {0, 4}


def masked_attention(heads=2, width=4):
    words = keras.Input((6,), dtype="int32")
    x = L.Embedding(12, 8, mask_zero=True, name="words")(words)
    return keras.Model(words, L.LSTM(4, name="lstm")(L.MultiHeadAttention(heads, width, name="mha")(x, x)))


def test_the_layer_that_a_kernel_is_of_says_which_axes_are_inputs():
    found = tfc.prune_once(masked_attention(), 0.5, granularity=NofM(2, 4))
    attention = found.get_layer("mha")  # with a Keras mask it is one layer
    for part in (attention.query_dense, attention.key_dense, attention.value_dense, attention.output_dense):
        kernel = numpy(part.kernel)
        rows = kernel.reshape(2, 4, 8)  # (8, 2, 4): inputs, heads, width; of the output (2, 4, 8)
        assert np.all((rows != 0).sum(axis=1) == 2), part.name
    with pytest.raises(
        ValueError, match="kernel's 8 input and 8 output channels.*16 x 1 for the kernel of layer 'mha'"
    ):
        tfc.prune_once(masked_attention(), 0.5, granularity=Block(16, 1), layers="mha")
    inside = {"depthwise": L.DepthwiseConv2D(3), "transposed": L.Conv2DTranspose(6, 3)}
    parts = [L.TimeDistributed(layer, name=name) for name, layer in inside.items()]
    found = tfc.prune_once(keras.Sequential([keras.Input((2, 5, 5, 4)), *parts]), 0.5, granularity=NofM(2, 4))
    assert np.all(numpy(found.get_layer("depthwise_depthwise_conv2d").kernel) != 0)
    kernel = numpy(found.get_layer("transposed_conv2d_transpose").kernel)  # (height, width, outputs, inputs)
    assert kernel.shape == (3, 3, 6, 4)
    assert np.all((kernel != 0).sum(axis=3) == 2)


def test_kernels_with_too_few_inputs_for_the_pattern_are_named():
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), L.Conv2D(1, 3, name="rgb"), L.Conv2D(8, 3, name="grey"), L.Conv2D(4, 1, name="wide")]
    )
    with pytest.warns(
        UserWarning, match=r"Fewer than 4 input channels.*'rgb' \(3: 33% zeros\), 'grey' \(1: 0% zeros\)\."
    ):
        found = tfc.prune_once(model, 0.5, granularity=NofM(2, 4))
    each = tfc.summary(found).sparsities
    assert each == {"rgb/kernel": pytest.approx(1 / 3), "grey/kernel": 0.0, "wide/kernel": 0.5}


def test_bad_units_are_refused():
    for refused, words in [
        (lambda: NofM(4, 4), "NofM.2, 4. keeps two of four"),
        (lambda: NofM(0, 4), "Expected `n`"),
        (lambda: Block(0, 4), "Expected `rows`"),
        (lambda: Block(2, 4, "MEAN"), "'AVG' or 'MAX'"),
        (
            lambda: tfc.prune(dense(8, 4), tfc.PruneConfig(0.5, granularity=Block(16, 1))),
            "8 input and 4 output.*16 x 1",
        ),
        (lambda: tfc.PruneConfig(0.6, granularity=NofM(2, 4)), "ends at 0.5"),
        (lambda: tfc.PruneConfig(0.5, granularity=NofM(2, 4), scope="global"), "scope='layer'"),
        (lambda: tfc.PruneConfig(0.5, granularity="block"), "'element'.*'channel'"),
    ]:
        with pytest.raises(ValueError, match=words):
            refused()
    assert isinstance(Block.from_config(Block(2, 4).get_config()), Granularity)
