"""Mixed precision on a model that is there already: what comes back, and what training it does."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.check import ON_TENSORFLOW, data_for, on_jax
from tests.layers import GROUPS, model_of
from tests.precision import networks
from tests.precision.networks import DTYPE, HALF, assert_same, floats, innermost, inputs_of, precisions, predictions
from tfcompress.core.transform import read
from tfcompress.graph import rebuild
from tfcompress.graph.loss_scaling import MixedPrecisionModel

pytestmark = pytest.mark.filterwarnings("ignore:mixed_float16 is slow on a CPU:UserWarning")
EVERY = list(GROUPS.values()) if ON_TENSORFLOW else [("dense", "lstm"), ("dense", "attention")]
MAKERS = [networks.cnn, networks.mlp, networks.transformer, networks.two_outputs]


@pytest.mark.parametrize("make", on_jax(MAKERS, [networks.mlp]))
def test_weights_outputs_and_the_given_model(make):
    model = make()
    x = inputs_of(model)
    before, weights = predictions(model, x), [read(v) for v in model.variables]
    mixed = tfc.mixed_precision(model, HALF)
    assert DTYPE in precisions(mixed).values()
    assert {v.dtype for v in mixed.weights} == {"float32"}
    assert mixed.output_names == rebuild(model).output_names
    assert [y.dtype for y in mixed.outputs] == ["float32"] * len(mixed.outputs)
    assert_same(model, mixed, x, tolerance=1e-2 if HALF == "mixed_float16" else 5e-2)
    assert any(np.any(a != b) for a, b in zip(before, predictions(mixed, x), strict=True)), "nothing was in 16 bits"
    for old, variable in zip(weights, model.variables, strict=True):
        np.testing.assert_array_equal(old, read(variable))
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}


@pytest.mark.parametrize("make", MAKERS)
def test_back_to_full_precision_bit_by_bit(make):
    model = make()
    mixed = tfc.mixed_precision(model, HALF)
    full = tfc.full_precision(mixed)
    assert_same(model, full, inputs_of(model))
    assert set(precisions(full).values()) == {"float32"}
    kinds = [type(operation).__name__ for operation in full.operations]
    assert kinds == [type(operation).__name__ for operation in rebuild(model).operations]
    assert type(full) is type(keras.Model(*[keras.Input((1,), name="x")] * 2))


@pytest.mark.parametrize("make", MAKERS)
def test_saved_and_loaded(make, tmp_path):
    model = make()
    mixed, x = tfc.mixed_precision(model, HALF), inputs_of(model)
    mixed.save(tmp_path / "mixed.keras")
    for load in (keras.models.load_model, tfc.load):
        loaded = load(tmp_path / "mixed.keras")
        assert precisions(loaded) == precisions(mixed)
        assert_same(mixed, loaded, x)


@pytest.mark.parametrize("names", on_jax(EVERY, [("dense", "lstm")], rare=[GROUPS["others"]]), ids=", ".join)
def test_every_layer(names):
    model, (x, y) = model_of(*names), data_for(*names)
    mixed = tfc.mixed_precision(model, HALF)
    precision = {row.layer: row.precision for row in tfc.explain(mixed).rows}
    for layer in model.layers:
        if isinstance(layer, L.InputLayer) or not layer.weights:
            continue
        # What is opened has its name in front of the names of its layers; so has a head.
        inner = [name for name in precision if name.startswith(f"{layer.name}_") and not name.endswith("_head")]
        assert DTYPE in {precision[name] for name in (layer.name, *inner) if name in precision}, layer.name
    assert {y.dtype for y in mixed.outputs} == {"float32"}
    assert_same(model, mixed, x, tolerance=2e-2 if HALF == "mixed_float16" else 1e-1)
    mixed.compile(keras.optimizers.SGD(1e-3), "mse")
    loss = mixed.fit(x, y, verbose=0).history["loss"][0]
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(read(v))) for v in mixed.trainable_variables)
    assert_same(model, tfc.full_precision(tfc.mixed_precision(model, HALF)), x)


@pytest.mark.on_jax
def test_training_goes_the_same_way():
    model, x = networks.mlp(), floats(64, 8)
    y = ops.convert_to_numpy(ops.matmul(x, floats(8, 3, seed=1)))
    mixed = tfc.mixed_precision(model, HALF)
    for each in (model, mixed):
        each.compile(keras.optimizers.SGD(0.05), "mse")
        each.fit(x, y, epochs=8, shuffle=False, verbose=0)
    plain, half = model.evaluate(x, y, verbose=0), mixed.evaluate(x, y, verbose=0)
    assert abs(half - plain) < 0.05 * plain
    assert half < np.mean(y**2)


@pytest.mark.skipif(HALF != "mixed_float16", reason="bfloat16 needs no scaling")
class TestLossScaling:
    def test_of_what_was_made_loaded_pruned_and_quantized(self, tmp_path):
        mixed = tfc.mixed_precision(networks.mlp(), HALF)
        mixed.save(tmp_path / "mixed.keras")
        loaded = keras.models.load_model(tmp_path / "mixed.keras")
        pruned = tfc.prune(loaded, 0.5)
        for model in (mixed, loaded, pruned, tfc.quantize(mixed, "int8"), tfc.strip(pruned)):
            model.compile("adam", "mse")
            assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        full = tfc.full_precision(mixed)
        full.compile("adam", "mse")
        assert type(full.optimizer) is keras.optimizers.Adam

    def test_small_gradients_reach_the_weights(self):
        """1e-9 a step: beneath float16's least number, which is 6e-8."""
        model, x = networks.mlp(), np.abs(floats(16, 8))
        model.layers[0].kernel.assign(np.abs(model.layers[0].kernel))  # no unit is dead
        moved = {}
        for scale in (True, False):
            mixed = tfc.mixed_precision(model, HALF)
            before = read(mixed.get_layer("hidden").kernel)
            mixed.compile(keras.optimizers.SGD(1e6), lambda y, p: ops.mean(p) * 1e-8, auto_scale_loss=scale)
            mixed.fit(x, np.zeros((16, 3)), verbose=0)
            moved[scale] = np.abs(read(mixed.get_layer("hidden").kernel) - before).max()
        assert moved[True] > 0
        assert moved[False] == 0

    def test_a_plain_file_of_what_was_stripped(self, tmp_path):
        stripped = tfc.strip(tfc.mixed_precision(networks.mlp(), HALF))
        assert not isinstance(stripped, MixedPrecisionModel)
        stripped.save(tmp_path / "stripped.keras")
        assert "tfcompress" not in keras.models.load_model(tmp_path / "stripped.keras").to_json()

    @pytest.mark.skipif(not ON_TENSORFLOW, reason="a loop of TensorFlow's")
    def test_in_a_loop_of_ones_own(self):
        import tensorflow as tf

        mixed, x = tfc.mixed_precision(networks.mlp(), HALF), floats(32, 8)
        y = x[:, :3]
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.02))
        losses = []
        for _ in range(20):
            with tf.GradientTape() as tape:
                loss = keras.ops.mean((mixed(x, training=True) - y) ** 2)
                scaled = optimizer.scale_loss(loss)
            optimizer.apply(tape.gradient(scaled, mixed.trainable_variables), mixed.trainable_variables)
            losses.append(float(loss))
        assert losses[-1] < losses[0] / 2


class Counting(keras.Model):
    """A functional model with a step of its own."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return super().compute_loss(x, y, y_pred, sample_weight, training) + 100.0


@pytest.mark.on_jax
def test_a_step_of_the_models_own_stays():
    inputs = keras.Input((4,))
    model = Counting(inputs, L.Dense(2)(L.Dense(3, name="hidden")(inputs)))
    mixed = tfc.mixed_precision(model, HALF)
    mixed.compile("sgd", "mse")
    assert mixed.evaluate(floats(4, 4), np.zeros((4, 2)), verbose=0) > 99
    if HALF == "mixed_float16":
        assert isinstance(mixed.optimizer, keras.optimizers.LossScaleOptimizer)


class Small(keras.Model):
    def __init__(self):
        super().__init__()
        self.block = keras.Sequential([L.Dense(4, name="inner"), L.ReLU()], name="block")
        self.last = L.Dense(2, name="last")

    def call(self, x):
        return self.last(self.block(x) + self.block(x))


def test_a_subclassed_model_with_a_nested_one():
    model, x = Small(), floats(4, 4)
    model(x)
    mixed = tfc.mixed_precision(model, HALF)
    assert precisions(mixed) == {"inner": DTYPE, "re_lu": DTYPE, "last": "float32"}
    assert not [operation for operation in mixed.operations if type(operation).__name__ == "Cast"]
    assert_same(model, tfc.full_precision(mixed), x)


@keras.saving.register_keras_serializable(package="tests.precision")
class Own(keras.Model):
    """A functional model of a class of one's own."""


@pytest.mark.skipif(HALF != "mixed_float16", reason="bfloat16 needs no scaling")
@pytest.mark.parametrize("stripped", [False, True])
def test_loading_scales_the_loss_whatever_the_class(stripped, tmp_path):
    inputs = keras.Input((4,))
    mixed = tfc.mixed_precision(Own(inputs, L.Dense(2)(L.Dense(3)(inputs))), HALF)
    (tfc.strip(mixed) if stripped else mixed).save(tmp_path / "model.keras")
    loaded = tfc.load(tmp_path / "model.keras")
    loaded.compile("adam", "mse")
    assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer)


class Forgetful(L.Layer):
    """Doesn't save its policy."""

    def __init__(self, name=None):
        super().__init__(name=name)

    def call(self, x):
        return x * 2

    def get_config(self):
        return {"name": self.name}


def test_the_global_policy_does_not_come_into_it():
    keras.config.set_dtype_policy(HALF)
    try:
        model = keras.Sequential([keras.Input((4,)), L.Dense(3), Forgetful(), L.Dense(2)])
        full = tfc.full_precision(model)
        assert keras.config.dtype_policy().name == HALF
        full.compile("adam", "mse")
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in (full, *full._flatten_layers())} == {"float32"}
    assert type(full.optimizer) is keras.optimizers.Adam


@pytest.mark.skipif(not ON_TENSORFLOW, reason="a strategy of TensorFlow's")
def test_the_strategy_of_the_model_stays():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = networks.mlp()
    mixed = tfc.mixed_precision(model, HALF)
    assert mixed.distribute_strategy is strategy
    assert tfc.full_precision(mixed).distribute_strategy is strategy


def test_grids_that_the_policy_cannot_hold():
    x = floats(16, 8)
    with pytest.warns(UserWarning, match=f"up to 16 bits lie behind layers in {DTYPE}"):
        tfc.quantize(tfc.mixed_precision(networks.mlp(), HALF), "int16x8", x)
    tfc.quantize(tfc.mixed_precision(networks.mlp(), HALF), "int8", x)
    with pytest.warns(UserWarning, match="No runtime has kernels for weights of 12 bits"):
        uncalibrated = tfc.quantize(networks.mlp(), tfc.QuantizeConfig(tfc.WeightSpec(bits=12), None))
    with pytest.warns(UserWarning, match="12 bits"):
        tfc.mixed_precision(uncalibrated, HALF)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="exports")
def test_files_of_a_model_opened_under_the_global_policy_hold_no_casts(tmp_path):
    import onnx

    keras.config.set_dtype_policy(HALF)
    try:
        model = Small()
        model(floats(2, 4))
        opened = tfc.strip(tfc.prune(model, 0.5))
        assert [operation for operation in opened.operations if type(operation).__name__ == "Cast"]
        tfc.export(opened, tmp_path / "model.onnx")
    finally:
        keras.config.set_dtype_policy("float32")
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert "Cast" not in kinds


def test_a_model_under_the_global_policy():
    keras.config.set_dtype_policy(HALF)
    try:
        model = networks.cnn()
        block = keras.Sequential([keras.Input((5,)), L.Dense(4, name="inside")], name="block")
        model = keras.Model(model.inputs, L.Dense(2, name="last")(block(model.outputs[0])))
    finally:
        keras.config.set_dtype_policy("float32")
    full, x = tfc.full_precision(model), inputs_of(model)
    assert set(precisions(full).values()) == {"float32"}
    assert not [operation for operation in full.operations if type(operation).__name__ == "Cast"]
    again = tfc.mixed_precision(model, HALF)
    assert precisions(again)["gate"] == precisions(again)["last"] == "float32"
    assert precisions(again)["first"] == DTYPE
    assert_same(full, again, x, tolerance=5e-2)
    assert_same(full, tfc.full_precision(again), x)


def test_casts_to_half_by_hand_are_taken_out_of_full_precision_and_names_stay():
    inputs = keras.Input((4,))
    hidden = ops.cast(L.Dense(3, name="hidden", dtype=HALF)(inputs), DTYPE)
    model = keras.Model(inputs, ops.cast(L.Dense(2, name="last", dtype=HALF)(hidden), DTYPE))
    full, x = tfc.full_precision(model), floats(4, 4)
    assert full.output_names == model.output_names
    assert [y.dtype for y in full.outputs] == ["float32"]
    wanted = x @ read(model.layers[1].kernel) @ read(model.get_layer("last").kernel)
    np.testing.assert_allclose(full.predict(x, verbose=0), wanted, rtol=1e-5, atol=1e-6)


def test_one_policy_after_the_other():
    model, x = networks.cnn(), floats(4, 8, 8, 3)
    first = tfc.mixed_precision(model, HALF)
    second = tfc.mixed_precision(first, "mixed_bfloat16")
    assert precisions(second) == precisions(tfc.mixed_precision(model, "mixed_bfloat16"))
    assert len(second.operations) == len(first.operations)
    assert_same(model, tfc.full_precision(second), x)
    assert set(precisions(tfc.mixed_precision(first, "float32")).values()) == {"float32"}


@keras.saving.register_keras_serializable(package="tests")
class Strict(L.Layer):
    """Adds a constant in float32, which raw TensorFlow and this layer refuse to add to another type."""

    def call(self, x):
        if keras.backend.standardize_dtype(x.dtype) != "float32":
            raise TypeError("float32 alone")
        return x * 2.0


@keras.saving.register_keras_serializable(package="tests")
class Deaf(L.Layer):
    """Gives its layer inside no policy, and has a weight of its own, so that it is kept whole."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inside = L.Dense(4, name="inside")

    def build(self, shape):
        self.factor = self.add_weight(name="factor", shape=(4,), initializer="ones")
        self.inside.build(shape)

    def call(self, x):
        return self.inside(x) * self.factor


def small(layer):
    return keras.Sequential([keras.Input((4,)), L.Dense(4, name="before"), layer, L.Dense(2, name="after")])


def test_a_layer_that_fails_stays_float32_and_is_named():
    model = small(Strict(name="strict"))
    with pytest.warns(UserWarning, match="'strict' of class Strict stays float32.*float32 alone"):
        mixed = tfc.mixed_precision(model, HALF)
    assert precisions(mixed) == {"before": DTYPE, "strict": "float32", "after": "float32"}
    assert_same(model, tfc.full_precision(mixed), floats(4, 4))


def test_what_a_file_would_not_keep_is_not_done(tmp_path):
    mixed = tfc.mixed_precision(small(Deaf(name="deaf")), HALF)
    deaf = mixed.get_layer("deaf")
    assert (deaf.compute_dtype, deaf.inside.compute_dtype) == (DTYPE, "float32")
    mixed.save(tmp_path / "mixed.keras")
    loaded = keras.models.load_model(tmp_path / "mixed.keras")
    assert loaded.get_layer("deaf").inside.compute_dtype == "float32"
    assert_same(mixed, loaded, floats(4, 4))


@pytest.mark.skipif(not ON_TENSORFLOW, reason="JAX has no float64 unless it is told so")
def test_float64_and_whole_numbers_stay_as_they_are():
    inputs = keras.Input((4,), dtype="float64")
    x = L.Dense(3, name="exact", dtype="float64")(inputs)
    bins = L.Discretization(bin_boundaries=[0.0, 1.0], name="bins")(x)
    x = L.Dense(3, name="hidden")(L.Flatten()(L.Embedding(3, 2, name="embedding")(bins)))
    model = keras.Model(inputs, L.Dense(2, name="last")(x))
    mixed, data = tfc.mixed_precision(model, HALF), floats(4, 4).astype("float64")
    found = precisions(mixed)
    assert [found[name] for name in ("exact", "embedding", "hidden")] == ["float64", DTYPE, DTYPE]
    assert mixed.get_layer("bins").output.dtype == model.get_layer("bins").output.dtype
    assert mixed.get_layer("exact").kernel.dtype == "float64"
    assert_same(model, tfc.full_precision(mixed), data)


def test_shared_layers_stay_shared():
    shared = L.Dense(4, name="shared")
    inputs = keras.Input((4,))
    mixed = tfc.mixed_precision(keras.Model(inputs, L.Dense(2)(shared(shared(inputs)))), HALF)
    assert len(mixed.get_layer("shared")._inbound_nodes) == 2
    assert len(mixed.trainable_variables) == 4


def test_nothing_of_the_given_model_is_kept_alive():
    mixed = tfc.mixed_precision(networks.cnn(), HALF)
    for operation in mixed.operations:
        for node in operation._inbound_nodes:
            for tensor in node.input_tensors:
                assert tensor._keras_history.operation in mixed.operations


def test_innermost_of_a_wrapper_has_the_policy():
    pruned = tfc.prune(networks.mlp(), 0.5)
    mixed = tfc.mixed_precision(pruned, HALF)
    hidden = mixed.get_layer("hidden")
    assert (hidden.compute_dtype, innermost(hidden).compute_dtype) == ("float32", DTYPE)
