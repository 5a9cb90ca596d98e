"""Smaller models with the same outputs."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.check import ON_TENSORFLOW, but_rare
from tests.graph.networks import NETWORKS, random_network
from tfcompress.channels import channel_groups
from tfcompress.core.passthrough import FixedTraining
from tfcompress.graph import rebuild
from tfcompress.graph.sample_inputs.samples import random_inputs
from tfcompress.pruning import shrink_report


def numpy(variable):
    return np.asarray(ops.convert_to_numpy(variable.value))


def randomise(model, seed=0):
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        if "float" in str(variable.dtype):
            positive = "variance" in variable.name
            low, high = (0.5, 1.5) if positive else (-0.5, 0.5)
            variable.assign(generator.uniform(low, high, variable.shape).astype("float32"))
    return model


def outputs(model, x):
    return [np.asarray(ops.convert_to_numpy(ops.cast(y, "float32"))) for y in keras.tree.flatten(model(x))]


def clear(model, part, size, channels):
    """Make the weights of some channels zero."""
    weight = model.get_layer(part.layer).weights[part.position]
    value = numpy(weight).copy()
    np.moveaxis(value, part.axis, 0)[part.indices(size, channels)] = 0
    weight.assign(value)


def assert_same(model, smaller, atol=1e-5):
    x = random_inputs(model, seed=3)
    for want, got in zip(outputs(model, x), outputs(smaller, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=atol * max(1, np.abs(want).max()))


# JAX compiles each operation of each shape: some are enough there.
SOME = NETWORKS if ON_TENSORFLOW else ("plain", "transformer", "siamese")


@pytest.mark.on_jax
@pytest.mark.parametrize("name", SOME)
def test_channels_that_are_not_read_are_removed_and_no_others(name, tmp_path):
    model = rebuild(randomise(NETWORKS[name].make()), check=False)
    generator = np.random.default_rng(1)
    groups = channel_groups(model)
    shapes = {layer.name: [list(weight.shape) for weight in layer.weights] for layer in model.layers}
    removed = {}
    for group in groups:
        if group.reason is not None or group.size < 2:
            continue
        chosen = generator.permutation(group.size)[: generator.integers(1, group.size)]
        removed[group.name] = len(chosen)
        readers = [part for part in group.slices if part.role == "consumer"]
        # The widths of queries and keys have no reader: there the queries are made zero.
        for part in readers or [part for part in group.slices if part.layer == group.producers[0]]:
            clear(model, part, group.size, chosen)
        for part in group.slices:
            shapes[part.layer][part.position][part.axis] -= len(chosen) * part.outer * part.inner
    assert removed
    report = shrink_report(model)
    assert {row.group: row.removed for row in report.rows if row.removed} == removed
    for row, group in zip(report.rows, groups, strict=True):
        assert row.producers == group.producers and row.channels == group.size
        assert row.reason is not None  # some stay in each group
        assert group.reason is None or row.reason == group.reason
    smaller = tfc.shrink(model)
    assert_same(model, smaller, 1e-2 if name == "half" else 1e-5)
    assert {layer.name: [list(weight.shape) for weight in layer.weights] for layer in smaller.layers} == shapes
    expected = sum(math.prod(shape) for weights in shapes.values() for shape in weights)
    assert smaller.count_params() == report.parameters_after == expected < report.parameters_before
    assert smaller.output_names == model.output_names
    assert [x.name for x in smaller.inputs] == [x.name for x in model.inputs]
    smaller.save(tmp_path / "m.keras")
    assert_same(smaller, keras.models.load_model(tmp_path / "m.keras"), 0)


def test_widths_of_a_plain_network_by_hand():
    model = randomise(NETWORKS["plain"].make())
    for layer, axis, channels in (("b", 2, [0, 5]), ("head", 0, [1, 2, 3])):
        weight = model.get_layer(layer).kernel
        value = numpy(weight).copy()
        np.moveaxis(value, axis, 0)[channels] = 0
        weight.assign(value)
    smaller = tfc.shrink(model)
    assert smaller.get_layer("a").filters == 4 and smaller.get_layer("c").units == 4
    # a: 27 * 4 + 4, norm: 4 * 4, b: 36 * 8 + 8, c: 128 * 4 + 4, head: 16 + 4
    assert smaller.count_params() == 112 + 16 + 296 + 516 + 20
    np.testing.assert_array_equal(numpy(smaller.get_layer("a").kernel), numpy(model.get_layer("a").kernel)[..., 1:5])


@pytest.mark.filterwarnings("ignore:Expected a model with channels that nothing depends on")
@pytest.mark.parametrize("seed", but_rare(range(12), range(4, 12)) if ON_TENSORFLOW else [0])
def test_whatever_is_zero_outputs_stay(seed):
    model = rebuild(randomise(random_network(seed), seed), check=False)
    generator = np.random.default_rng(seed)
    for group in channel_groups(model):
        if group.reason is None and generator.integers(3):
            chosen = generator.permutation(group.size)[: generator.integers(0, group.size + 1)]
            roles = [("consumer",), ("producer", "follower"), ("producer",), ("follower",)][generator.integers(4)]
            for part in group.slices:
                if part.role in roles and generator.integers(8):
                    clear(model, part, group.size, chosen)
    assert_same(model, tfc.shrink(model))


@pytest.mark.rare  # what its blocks are made of, small models above have one by one
@pytest.mark.skipif(not ON_TENSORFLOW, reason="slow on JAX, which compiles each operation")
def test_half_of_mobilenet():
    model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=10, alpha=0.35)
    wanted = 0
    for group in channel_groups(model):
        if group.reason is None:
            for part in group.slices:
                if part.role != "consumer":
                    clear(model, part, group.size, range(0, group.size, 2))
            wanted += group.size // 2
    report = shrink_report(model)
    assert report.removed == wanted
    smaller = tfc.shrink(model)
    assert_same(model, smaller)
    assert smaller.count_params() < 0.3 * model.count_params()
    assert [row.reason for row in report.rows if not row.removed] == ["it is an output of the model"]


# What is zero, and what is constant -------------------------------------------------------------------


def two(first, *between, second=None, shape=(8, 8, 3)):
    """A model of two layers with something between."""
    second = second or L.Conv2D(3, 3, name="second")
    return randomise(keras.Sequential([keras.Input(shape), first, *between, second]))


def kill(layer, channels, bias=0.0):
    """Make a layer's kernel zero for some outputs, and their bias a number."""
    kernel = numpy(layer.kernel).copy()
    kernel[..., channels] = 0
    layer.kernel.assign(kernel)
    if layer.bias is not None:
        value = numpy(layer.bias).copy()
        value[channels] = bias
        layer.bias.assign(value)


def rows(model):
    return {row.group: (row.removable, row.reason) for row in shrink_report(model).rows}


@pytest.mark.parametrize(
    "between",
    [
        [L.ReLU],
        [lambda: L.Activation("gelu"), L.MaxPooling2D, lambda: L.ZeroPadding2D(1)],
        [lambda: L.DepthwiseConv2D(3, padding="same", use_bias=False), lambda: L.PReLU(shared_axes=[1, 2])],
        [lambda: L.Dropout(0.5), lambda: L.UpSampling2D(2), lambda: L.Cropping2D(1), L.LeakyReLU],
    ],
)
def test_zero_stays_zero_on_its_way(between):
    second = L.Conv2D(3, 3, padding="same", name="second")
    model = two(L.Conv2D(6, 3, name="first"), *(make() for make in between), second=second)
    kill(model.get_layer("first"), [0, 3, 4])
    assert rows(model)["first"] == (3, "layer 'second' reads it with weights that aren't zero")
    assert_same(model, tfc.shrink(model))


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(
    ("second", "parameters"),
    [
        (lambda bias: L.Conv2D(3, 3, use_bias=bias, name="second"), 28 * 4 + 36 * 3 + 3),
        (lambda bias: L.Conv2D(3, 1, padding="same", use_bias=bias, name="second"), 28 * 4 + 12 + 3),
        (lambda bias: L.Dense(5, use_bias=bias, activation="tanh", name="second"), 28 * 4 + 20 + 5),
        (
            lambda bias: L.SeparableConv2D(3, 3, depth_multiplier=2, use_bias=bias, name="second"),
            28 * 4 + 9 * 4 * 2 + 8 * 3 + 3,
        ),
    ],
)
def test_constants_become_part_of_the_bias(second, parameters, use_bias):
    model = two(L.Conv2D(6, 3, activation="sigmoid", name="first"), second=second(use_bias))
    kill(model.get_layer("first"), [1, 2], bias=0.7)
    smaller = tfc.shrink(model)
    assert_same(model, smaller)
    assert smaller.count_params() == parameters
    assert smaller.get_layer("second").use_bias


def test_a_constant_that_is_padded_stays_and_it_is_said():
    model = two(L.Conv2D(6, 3, name="first"), L.ReLU(), second=L.Conv2D(3, 3, padding="same", name="second"))
    kill(model.get_layer("first"), [1, 2], bias=0.7)
    kill(model.get_layer("first"), [3], bias=-0.7)  # which the ReLU makes zero
    removable, reason = rows(model)["first"]
    assert removable == 1
    assert "layer 'second' reads a constant that isn't zero, which can't become part of its bias" in reason
    smaller = tfc.shrink(model)
    assert smaller.get_layer("first").filters == 5
    assert_same(model, smaller)


@pytest.mark.parametrize(
    ("gamma", "beta", "mean", "kernel", "able"),
    [(0, 0, 3, 1, True), (0, -2, 3, 1, True), (1, 0, 0, 0, True), (1, 0, 3, 0, True), (0, 2, 0, 1, False)],
)
def test_what_batch_normalization_makes_of_a_channel(gamma, beta, mean, kernel, able):
    model = two(
        L.Conv2D(6, 3, use_bias=False, name="first"),
        L.BatchNormalization(name="norm"),
        L.ReLU(),
        second=L.Conv2D(3, 3, padding="same", name="second"),
    )
    norm = model.get_layer("norm")
    for variable, number in ((norm.gamma, gamma), (norm.beta, beta), (norm.moving_mean, mean)):
        value = numpy(variable).copy()
        value[2] = number
        variable.assign(value)
    if not kernel:
        kill(model.get_layer("first"), [2])
    assert rows(model)["first"][0] == int(able)
    if able:
        assert_same(model, tfc.shrink(model))


def test_a_gate_times_zero_is_zero_and_a_sum_with_zero_is_not():
    inputs = keras.Input((6, 6, 3))
    x = L.Conv2D(5, 3, name="x")(inputs)
    y = L.Conv2D(5, 3, activation="sigmoid", name="y")(inputs)
    for combine, able in ((L.Multiply(), 2), (L.Add(), 0), (L.Maximum(), 0)):
        model = randomise(keras.Model(inputs, L.Conv2D(2, 3, padding="same", name="head")(combine([x, y]))))
        kill(model.get_layer("x"), [0, 4])
        assert sum(row.removable for row in shrink_report(model).rows) == able
        if able:
            assert_same(model, tfc.shrink(model))


def test_concatenation_and_flattening_carry_constants():
    inputs = keras.Input((6, 6, 3))
    x = L.Concatenate()([L.Conv2D(4, 3, name="a")(inputs), L.Conv2D(3, 3, name="b")(inputs)])
    model = randomise(keras.Model(inputs, L.Dense(2, name="head")(L.Flatten()(x))))
    kill(model.get_layer("a"), [1], bias=0.5)
    kill(model.get_layer("b"), [0, 2], bias=-0.25)
    smaller = tfc.shrink(model)
    assert (smaller.get_layer("a").filters, smaller.get_layer("b").filters) == (3, 1)
    assert_same(model, smaller)


def test_layers_whose_only_readers_are_gone_go_too():
    model = randomise(
        keras.Sequential([keras.Input((5,)), *(L.Dense(6, name=name) for name in "abc"), L.Dense(2, name="head")])
    )
    head, c = model.get_layer("head"), model.get_layer("c")
    value = numpy(head.kernel).copy()
    value[:3] = 0  # the first three of c go
    head.kernel.assign(value)
    value = numpy(c.kernel).copy()
    value[[1, 4], 3:] = 0  # and what of b they alone read
    c.kernel.assign(value)
    smaller = tfc.shrink(model)
    assert [smaller.get_layer(name).units for name in "abc"] == [6, 4, 3]
    assert_same(model, smaller)


def test_one_channel_of_a_group_stays():
    model = two(L.Conv2D(6, 3, name="first"))
    kill(model.get_layer("first"), list(range(6)))
    assert rows(model)["first"] == (6, "one channel has to stay")
    smaller = tfc.shrink(model)
    assert smaller.get_layer("first").filters == 1
    assert_same(model, smaller)


def test_a_shared_reader_of_different_constants():
    inputs = keras.Input((5,))
    shared = L.Dense(3, name="shared")
    a, b = L.Dense(4, name="a"), L.Dense(4, name="b")
    model = randomise(keras.Model(inputs, L.Add()([shared(a(inputs)), shared(b(inputs))])))
    kill(a, [0, 1], bias=0.5)
    kill(b, [0, 1], bias=0.5)
    value = numpy(b.bias).copy()
    value[1] = 0.25
    b.bias.assign(value)
    assert next(iter(rows(model).values())) == (1, "layer 'shared' reads it with weights that aren't zero")
    assert_same(model, tfc.shrink(model))


def test_heads_of_attention():
    model = rebuild(randomise(NETWORKS["transformer"].make()), check=False)
    value = model.get_layer("mha_value")
    kernel, bias = numpy(value.kernel).copy(), numpy(value.bias).copy()
    kernel[:, 2], bias[2] = 0, 0  # the third head mixes zeros
    value.kernel.assign(kernel)
    value.bias.assign(bias)
    smaller = tfc.shrink(model)
    assert smaller.get_layer("mha_query").kernel.shape == (8, 3, 3)
    assert smaller.get_layer("mha_attention_output").kernel.shape == (3, 3, 8)
    assert_same(model, smaller)


@pytest.mark.parametrize("cleared", [("value",), ("query",), ("value", "query")])
def test_widths_of_attention_may_differ(cleared):
    inputs = keras.Input((6, 8))
    x = L.MultiHeadAttention(2, 4, name="mha")(inputs, inputs)
    model = rebuild(randomise(keras.Model(inputs, x)), check=False)
    for part in cleared:
        layer = model.get_layer(f"mha_{part}")
        for weight in (layer.kernel, layer.bias):
            value = numpy(weight).copy()
            value[..., 1] = 0
            weight.assign(value)
    smaller = tfc.shrink(model)
    assert smaller.get_layer("mha_value").kernel.shape[-1] == 4 - ("value" in cleared)
    assert smaller.get_layer("mha_key").kernel.shape[-1] == 4 - ("query" in cleared)
    assert_same(model, smaller)


# Verbs and refusals -----------------------------------------------------------------------------------


def test_wrapped_models_are_stripped_and_the_given_one_stays():
    model = randomise(NETWORKS["plain"].make())
    kill(model.get_layer("a"), [0, 1])
    norm = model.get_layer("norm")
    norm.beta.assign(np.zeros(6))
    norm.moving_mean.assign(np.zeros(6))
    pruned = tfc.prune(model, 0.25)
    before = [numpy(variable).copy() for variable in pruned.variables]
    smaller = tfc.shrink(pruned)
    assert smaller.get_layer("a").filters == 4
    assert type(smaller.get_layer("a")) is L.Conv2D
    assert_same(tfc.strip(pruned), smaller)
    for old, variable in zip(before, pruned.variables, strict=True):
        np.testing.assert_array_equal(old, numpy(variable))


def test_settings_of_layers_are_kept(tmp_path):
    inputs = keras.Input((6,))
    x = L.Dense(
        5,
        name="a",
        kernel_regularizer=keras.regularizers.L2(0.1),
        kernel_initializer=keras.initializers.Constant(np.ones((6, 5), "float32").tolist()),
        bias_constraint=keras.constraints.NonNeg(),
        dtype="mixed_bfloat16",
    )(inputs)
    x = L.BatchNormalization(name="norm", momentum=0.7)(x)
    model = randomise(keras.Model(inputs, L.Dense(2, name="head", dtype="float32")(x)))
    model.get_layer("a").trainable = False
    value = numpy(model.get_layer("head").kernel).copy()
    value[:2] = 0
    model.get_layer("head").kernel.assign(value)
    smaller = tfc.shrink(model)
    a, norm = smaller.get_layer("a"), smaller.get_layer("norm")
    assert a.units == 3 and not a.trainable and not a.trainable_weights
    assert a.dtype_policy.name == "mixed_bfloat16" and norm.momentum == 0.7
    assert abs(float(a.kernel_regularizer.l2) - 0.1) < 1e-6
    assert isinstance(a.bias_constraint, keras.constraints.NonNeg)
    smaller.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert_same(smaller, loaded, 0)
    smaller.compile("sgd", "mse")
    smaller.fit(np.ones((4, 6)), np.zeros((4, 2)), verbose=0)


def test_a_subclassed_model_with_positions_and_a_pinned_layer():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.project = L.Dense(8, name="project")
            self.norm = L.BatchNormalization(name="norm")
            self.positions = self.add_weight(name="positions", shape=(1, 4, 8))
            self.head = L.Dense(2, name="head")

        def call(self, x):
            return self.head(self.norm(self.project(x) + self.positions, training=False))

    model = Net()
    model(np.ones((2, 4, 6), "float32"))
    randomise(model)
    value = numpy(model.head.kernel).copy()
    value[[0, 7]] = 0
    model.head.kernel.assign(value)
    smaller = tfc.shrink(model)
    assert isinstance(smaller.get_layer("norm"), FixedTraining)
    assert smaller.get_layer("positions").weight.shape == (1, 4, 6)
    x = np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")
    np.testing.assert_allclose(smaller(x), model(x), rtol=0, atol=1e-5)


def test_nothing_to_remove_is_said_and_a_copy_comes_back():
    model = randomise(NETWORKS["plain"].make())
    with pytest.warns(UserWarning, match='no channel is wholly zero.*granularity="channel"'):
        copy = tfc.shrink(model)
    assert copy is not model and copy.count_params() == model.count_params()
    assert_same(model, copy, 0)


def test_the_report_is_a_table():
    model = two(L.Conv2D(6, 3, name="first"))
    kill(model.get_layer("first"), [0])
    report = shrink_report(model)
    text = str(report)
    assert "first" in text and "6" in text and "it is an output of the model" in " ".join(text.split())
    assert f"{report.parameters_before:,} parameters, {report.parameters_after:,} without" in text
    assert report.parameters_before - report.parameters_after == 28 + 27


@pytest.mark.skipif(not ON_TENSORFLOW, reason="once is enough")
def test_quantized_models_and_what_is_no_model_are_refused():
    quantized = tfc.quantize(NETWORKS["nested"].make(), "int8_weights")
    with pytest.raises(ValueError, match="without quantizers.*tfcompress.shrink before tfcompress.quantize"):
        tfc.shrink(quantized)
    with pytest.raises(TypeError, match=r"Expected .*keras.Model"):
        tfc.shrink(L.Dense(2))
    with pytest.raises(ValueError, match="Expected a built model"):
        shrink_report(keras.Sequential([L.Dense(2)]))
