"""Multiply-adds, by hand and beside TensorFlow's profiler."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tests.graph.networks import NETWORKS
from tfcompress.channels.costs import multiply_adds, total_multiply_adds, uses
from tfcompress.graph import rebuild
from tfcompress.graph.inputs.declared import inputs_given


@pytest.mark.parametrize(
    ("layer", "shape", "count", "positions"),
    [
        (lambda: L.Dense(4), (6,), 24, {0: 1}),
        (lambda: L.Dense(4), (3, 5, 6), 15 * 24, {0: 15}),
        (lambda: L.Conv1D(4, 3, padding="same"), (8, 2), 8 * 24, {0: 8}),
        (lambda: L.Conv2D(4, 3), (8, 8, 3), 36 * 108, {0: 36}),
        (lambda: L.Conv2D(4, 3, strides=2, padding="same", groups=2), (8, 8, 6), 16 * 108, {0: 16}),
        (lambda: L.Conv3D(2, 2), (4, 4, 4, 3), 27 * 48, {0: 27}),
        (lambda: L.Conv2DTranspose(4, 3, strides=2), (6, 6, 3), 36 * 108, {0: 36}),
        (lambda: L.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 4), 36 * 72, {0: 36}),
        (lambda: L.SeparableConv2D(5, 3, depth_multiplier=2), (8, 8, 4), 36 * (72 + 40), {0: 36, 1: 36}),
        (lambda: L.EinsumDense("abc,cde->abde", (None, 2, 4)), (5, 6), 5 * 48, {0: 5}),
        (lambda: L.LSTM(4), (7, 3), 7 * (3 * 16 + 4 * 16), {0: 7, 1: 7}),
        (L.BatchNormalization, (8, 8, 4), 0, {}),
    ],
)
def test_kernels_by_hand(layer, shape, count, positions):
    model = keras.Sequential([keras.Input(shape), layer()])
    name = model.layers[-1].name
    assert multiply_adds(model) == ({name: count} if count else {})
    assert total_multiply_adds(model) == count
    assert uses(model) == {(name, position): number for position, number in positions.items()}


def test_attention_by_hand():
    # positions 6, width 8, heads 4 of 3
    expected = {
        "embed": 6 * 8 * 8,
        "mha_query": 6 * 8 * 12,
        "mha_key": 6 * 8 * 12,
        "mha_value": 6 * 8 * 12,
        "dot_product_attention": 6 * 6 * 4 * (3 + 3),
        "mha_attention_output": 6 * 12 * 8,
        "up": 6 * 8 * 11,
        "down": 6 * 11 * 8,
        "head": 8 * 2,
    }
    assert multiply_adds(rebuild(NETWORKS["transformer"].make())) == expected
    by_hand = multiply_adds(NETWORKS["attention_by_hand"].make())
    assert sorted(by_hand.values()) == sorted([6 * 8 * 12] * 3 + [6 * 6 * 12] * 2 + [6 * 12 * 2])


def test_shared_layers_count_each_call_and_wrapped_ones_as_plain_ones():
    model = rebuild(NETWORKS["siamese"].make())
    assert multiply_adds(model) == {"a": 2 * 36 * 9 * 15, "b": 2 * 16 * 9 * 20, "head": 4}
    assert uses(model) == {("a", 0): 72, ("b", 0): 32, ("head", 0): 1}
    assert uses(tfc.prune(model, 0.5)) == uses(model)


@pytest.mark.skipif(ON_TENSORFLOW, reason="TensorFlow has no such convolution on a CPU")
def test_channels_first_have_their_space_behind_them():
    model = keras.Sequential([keras.Input((3, 9, 7)), L.DepthwiseConv2D(3, data_format="channels_first", name="a")])
    assert uses(model) == {("a", 0): 35}


def test_free_sizes_are_those_that_the_model_is_tried_with():
    model = keras.Sequential([keras.Input((None, 8, 3), name="images"), L.Conv2D(4, 3, name="conv")])
    assert multiply_adds(model) == {"conv": 30 * 6 * 3 * 3 * 3 * 4}
    with inputs_given({"images": (10, 8, 3)}):
        assert multiply_adds(model) == {"conv": 8 * 6 * 3 * 3 * 3 * 4}


def test_of_one_sample_where_the_batch_is_fixed():
    inputs = keras.Input(batch_shape=(4, 5, 8))
    model = keras.Model(inputs, L.Dense(2, name="head")(L.Dot(2, name="scores")([inputs, inputs])))
    assert multiply_adds(model)["head"] == 5 * 5 * 2


@pytest.mark.skipif(not ON_TENSORFLOW, reason="TensorFlow's profiler")
@pytest.mark.parametrize("name", ["plain", "depthwise", "concatenated"])
def test_as_many_as_tensorflows_profiler_counts(name):
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model = NETWORKS[name].make()
    run = tf.function(model).get_concrete_function(tf.TensorSpec((1, *model.inputs[0].shape[1:])))
    graph = convert_variables_to_constants_v2(run).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    found = tf.compat.v1.profiler.profile(graph, options=options)
    products = {
        node.name for node in graph.as_graph_def().node if node.op in ("Conv2D", "MatMul", "DepthwiseConv2dNative")
    }
    flops = sum(child.total_float_ops for child in _nodes(found) if child.name in products)
    assert np.isclose(flops, 2 * total_multiply_adds(model))


def _nodes(profile):
    for child in profile.children:
        yield child
        yield from _nodes(child)
