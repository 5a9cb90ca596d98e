"""The wrapper, with every type of layer."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW, check_exports, check_wrapper, data_for, on_jax, train, zeros_of
from tests.layers import GROUPS, model_of
from tfcompress.core.passthrough import FixedTraining
from tfcompress.core.wrapper import CompressedLayer, wrapped_layers
from tfcompress.quantization.graph.batch_norm_freezing import FreezingBatchNorm
from tfcompress.quantization.graph.float_layers import KeptFloat

MODES = {"graph": {}, "eager": {"run_eagerly": True}, "xla": {"jit_compile": True}}
# JAX compiles by default, runs eagerly at a snail's pace, and has no float16 dot product on CPUs.
HALF = "mixed_float16" if ON_TENSORFLOW else "mixed_bfloat16"


def case(group, *others, on_jax=False):
    """A layer in a mode other than the first is rare, unless it is there for all of its kind."""
    marks = [pytest.mark.on_jax] if on_jax else []
    common = group in ("central", "dense") and "xla" not in others  # a shared layer is compiled below
    return pytest.param(group, *others, marks=marks if common else pytest.mark.rare)


GROUPS_HERE = {"dense": ("dense",), **GROUPS}
CENTRAL_ON_JAX = ("conv2d", "attention", "custom")
"""Others, an LSTM above all, take XLA seconds to compile, and are pruned on JAX elsewhere."""
EVERY = [case(group, mode) for group in GROUPS for mode in ("eager", "xla")]
MORE = EVERY if ON_TENSORFLOW else [case("dense", "eager")]
IN_HALF = [case(group) for group in GROUPS] if ON_TENSORFLOW else [case("dense", on_jax=True)]


# The layers of other groups are pruned and exported one by one by tests/test_support_matrix.py.
@pytest.mark.parametrize("group", on_jax(GROUPS, ["central"], rare=["convolutions", "others"]))
def test_every_layer_in_a_graph_and_exported(group, tmp_path):
    names = GROUPS[group] if ON_TENSORFLOW else CENTRAL_ON_JAX
    model, (x, y) = model_of(*names), data_for(*names)
    check_wrapper(model, x, y, tmp_path)
    if ON_TENSORFLOW:
        check_exports(tfc.prune(model, 0.5), x, tmp_path)


@pytest.mark.parametrize("group", IN_HALF)
def test_every_layer_in_half_precision(group, tmp_path):
    names = GROUPS_HERE[group]
    keras.config.set_dtype_policy(HALF)
    try:
        check_wrapper(model_of(*names), *data_for(*names), tmp_path)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(("group", "mode"), MORE)
def test_every_layer_eagerly_and_compiled(group, mode, tmp_path):
    names = GROUPS_HERE[group]
    check_wrapper(model_of(*names), *data_for(*names), tmp_path, **MODES[mode])


@pytest.mark.parametrize("mode", on_jax(MODES, ["graph"]))
def test_a_shared_layer_counts_one_step(mode, tmp_path):
    shared = L.Dense(6, name="shared")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, L.Dense(2)(shared(shared(shared(inputs)))))
    x, y = np.random.normal(size=(12, 6)), np.zeros((12, 2))
    pruned = tfc.prune(model, tfc.ConstantSparsity(0.5, begin_step=2, frequency=1))
    pruned.compile("sgd", "mse", **MODES[mode])
    pruned.fit(x, y, batch_size=6, epochs=1, verbose=0)
    assert tfc.sparsity(pruned) == 0
    pruned.fit(x, y, batch_size=6, epochs=1, verbose=0)
    assert tfc.sparsity(pruned) == 0.5
    assert [int(keras.ops.convert_to_numpy(layer.step.value)) for layer in wrapped_layers(pruned)] == [4, 4]
    check_wrapper(model, x[:8], y[:8], tmp_path, **MODES[mode])


@pytest.mark.on_jax
@pytest.mark.parametrize("steps", [1, 4])
def test_steps_per_execution(steps):
    model, (x, y) = model_of("dense"), data_for("dense", samples=32)
    pruned = tfc.prune(model, tfc.PolynomialSparsity(0.0, 0.5, 0, 6, frequency=2))
    pruned.compile("sgd", "mse", steps_per_execution=steps)
    pruned.fit(x, y, batch_size=4, epochs=1, verbose=0)
    assert int(wrapped_layers(pruned)[0].step) == 8
    assert tfc.sparsity(pruned) == 0.5


@pytest.mark.on_jax
def test_the_wrapped_layer_keeps_its_own_losses_statistics_and_seeds():
    layer = L.Dense(4, name="hidden", activity_regularizer=keras.regularizers.L2(0.1), kernel_regularizer="l2")
    model = keras.Sequential([keras.Input((6,)), layer, L.BatchNormalization(), L.Dropout(0.5, seed=1)])
    pruned = tfc.prune(model, 0.5)
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    plain = tfc.strip(pruned)
    plain(x)
    pruned(x)
    expected = sorted(float(loss) for loss in plain.losses)
    assert len(expected) == 2
    assert min(expected) > 0
    losses = sorted(float(loss) for loss in pruned.losses)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    # In `fit` the loss that is reported holds both, on both backends.
    y = np.zeros((8, 4))
    pruned.compile(keras.optimizers.SGD(0.0), "mse")
    reported = pruned.evaluate(x, y, verbose=0)
    plain.compile("sgd", "mse")
    np.testing.assert_allclose(reported, plain.evaluate(x, y, verbose=0), rtol=1e-5)
    assert reported > max(expected)


@pytest.mark.on_jax
def test_state_inside_of_the_wrapped_layer_moves():
    layer = L.TimeDistributed(L.BatchNormalization())
    inputs = keras.Input((3, 6))
    recurrent = L.LSTM(4, return_sequences=True, recurrent_dropout=0.5, seed=3)
    model = keras.Model(inputs, layer(recurrent(inputs)))
    pruned = tfc.prune(model, 0.5)
    states = [v for v in wrapped_layers(pruned)[0].layer.variables if "seed" in v.path]
    before = [keras.ops.convert_to_numpy(v.value) for v in states]
    x = np.random.normal(size=(8, 3, 6))
    pruned.compile("sgd", "mse")
    pruned.fit(x, np.zeros((8, 3, 4)), batch_size=4, verbose=0)
    assert states
    for old, variable in zip(before, states, strict=True):
        assert np.any(old != keras.ops.convert_to_numpy(variable.value))


@pytest.mark.skipif(not ON_TENSORFLOW, reason="JAX drops what an optimizer assigns beyond its own variables")
def test_weights_are_zero_at_the_end_of_every_batch_from_the_first_update_on():
    model, (x, y) = model_of("conv2d"), data_for("conv2d", samples=32)
    pruned = tfc.prune(model, tfc.ConstantSparsity(0.75, begin_step=2, frequency=3))
    pruned.compile(keras.optimizers.Adam(0.05), "mse")
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append([zero / size for _, zero, size in zeros_of(self.model).values()])

    pruned.fit(x, y, batch_size=4, verbose=0, callbacks=[Look()])
    np.testing.assert_array_equal(seen[:2], 0)
    np.testing.assert_allclose(seen[2:], 0.75, atol=0.005)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="on JAX the effective weights alone are constrained")
def test_the_users_constraint_still_holds():
    inputs = keras.Input((6,))
    layer = L.Dense(4, kernel_constraint=keras.constraints.NonNeg())
    model = keras.Model(inputs, layer(inputs))
    pruned = tfc.prune(model, 0.5)
    train(pruned, np.random.normal(size=(8, 6)), np.ones((8, 4)) * -5)
    kernel = pruned.layers[-1].layer.kernel.numpy()
    assert kernel.min() >= 0
    assert (kernel == 0).sum() >= 12
    assert isinstance(tfc.strip(pruned).layers[-1].kernel.constraint, keras.constraints.NonNeg)


@pytest.mark.on_jax
def test_masks_of_a_layer_are_kept_when_a_second_layer_is_pruned():
    model = keras.Sequential([keras.Input((8,)), L.Dense(8, name="first"), L.Dense(4, name="second")])
    once = tfc.prune(model, 0.5, layers="first")
    train(once, np.random.normal(size=(8, 8)), np.zeros((8, 4)))
    twice = tfc.prune(once, 0.25, layers="second")
    assert [type(layer) for layer in twice.layers[1:]] == [CompressedLayer, CompressedLayer]
    before = keras.ops.convert_to_numpy(once.get_layer("first").transforms[0][1].mask.value)
    after = keras.ops.convert_to_numpy(twice.get_layer("first").transforms[0][1].mask.value)
    np.testing.assert_array_equal(before, after)
    assert int(twice.get_layer("first").step) == 4


def test_pinned_training_survives_saving(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, FixedTraining(L.Dropout(0.5, seed=1), pinned=False, name="drop")(inputs))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    x = np.ones((4, 3), "float32")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(x, training=True)), x)


class Sees(L.Layer):
    """Returns 1 where its `call` is one of training, else 0."""

    def call(self, x, training=None):
        return keras.ops.zeros_like(x) + float(bool(training))


class Behind(L.Layer):
    """Calls a layer, then looks at the `training` that the layer behind it gets."""

    def __init__(self, first):
        super().__init__()
        self.first, self.sees = first, Sees()

    def call(self, x):
        return self.sees(self.first(x))


@pytest.mark.on_jax
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["pinned off", "pinned on", "freezing", "pruned", "kept"])
def test_a_layer_keeps_its_training_to_itself(kind, training):
    """What a wrapper calls the layer inside with doesn't reach the layers behind."""

    class Stubborn(L.Dense):
        """A layer of the user's own that calls another with a `training` of its own."""

        def call(self, x):
            return self.norm(super().call(x), training=not training)

    def stubborn():
        layer = Stubborn(3)
        layer.norm = L.BatchNormalization()
        layer(np.ones((1, 3)))
        return layer

    made = {
        "pinned off": lambda: FixedTraining(L.Dropout(0.5), pinned=False),
        "pinned on": lambda: FixedTraining(L.Dropout(0.5), pinned=True),
        "freezing": lambda: FreezingBatchNorm(L.BatchNormalization(), 10),
        "pruned": lambda: CompressedLayer(stubborn(), []),
        "kept": lambda: KeptFloat(stubborn(), "it is"),
    }[kind]()
    if kind == "freezing":
        made.layer.build((None, 3))
    seen = Behind(made)(np.ones((2, 3), "float32"), training=training)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(seen), float(training))


@pytest.mark.on_jax
def test_training_goes_on_behind_a_layer_that_is_pinned():
    """Of a model with `self.norm(x, training=False)` the rest is pruned, normalized and dropped as ever."""

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm, self.dense, self.moving = L.BatchNormalization(), L.Dense(16), L.BatchNormalization()
            self.drop, self.head = L.Dropout(0.5), L.Dense(2)

        def call(self, x, training=None):
            x = self.moving(self.dense(self.norm(x, training=False)), training=training)
            return self.head(self.drop(x, training=training))

    x = np.random.normal(2, 1, (32, 8)).astype("float32")
    model = Model()
    model(x)
    pruned = tfc.prune(model, 0.5)
    pruned.compile("sgd", "mse")
    pruned.fit(x, np.zeros((32, 2)), epochs=2, verbose=0)
    assert tfc.sparsity(pruned) == 0.5
    still, moving = (pruned.get_layer(name) for name in (model.norm.name, model.moving.name))
    assert not np.any(keras.ops.convert_to_numpy(still.layer.moving_mean))
    assert np.all(keras.ops.convert_to_numpy(moving.moving_mean) != 0)
    one, two = (keras.ops.convert_to_numpy(pruned(x, training=True)) for _ in range(2))
    assert not np.allclose(one, two)


class Switched(L.Layer):
    """A layer that is called with tensors and other values by name."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = L.Dense(3)

    def call(self, query, value, mask=None, causal_mask=False, bias=None):
        found = self.dense(query) * value
        return found if bias is None or not causal_mask else found + bias


def test_tensors_and_other_values_go_by_name_to_a_layer_that_is_wrapped(tmp_path):
    inputs, x = keras.Input((3,)), np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    model = keras.Model(inputs, Switched()(inputs, value=inputs, causal_mask=True, bias=inputs))
    wrapped = tfc.prune(model, 0.5)
    np.testing.assert_allclose(wrapped(x), model(x), rtol=1e-6)
    custom = {"Switched": Switched}
    wrapped.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects=custom)
    np.testing.assert_array_equal(loaded(x), wrapped(x))


def test_gradients_pass_where_the_mask_is_one():
    model, (x, y) = model_of("dense"), data_for("dense")
    pruned = tfc.prune(model, 0.5)
    pruned.compile(keras.optimizers.SGD(0.1), "mse")
    before = keras.ops.convert_to_numpy(pruned.layers[1].layer.kernel.value)
    pruned.fit(x, y, batch_size=8, verbose=0)
    kernel = keras.ops.convert_to_numpy(pruned.layers[1].layer.kernel.value)
    mask = keras.ops.convert_to_numpy(pruned.layers[1].transforms[0][1].mask.value)
    assert np.all(kernel[mask] != before[mask])
    np.testing.assert_array_equal(kernel[~mask], 0 if ON_TENSORFLOW else before[~mask])
