"""The monitor of mixed precision: what it counts, whom it names, and that training stays what it is."""

from __future__ import annotations

import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tfcompress.precision.monitoring.activation_maxima import named_operations
from tfcompress.precision.monitoring.training_report import MonitorReport, MonitorRow

HALF = "mixed_float16"
MODES = {
    "graph": {},
    "several steps": {"steps_per_execution": 3},
    "xla": {"jit_compile": True},
    "eager": {"run_eagerly": True},
}


@pytest.fixture
def half():
    """Layers and models are made in mixed_float16, which makes Keras scale the loss."""
    keras.config.set_dtype_policy(HALF)
    yield
    keras.config.set_dtype_policy("float32")


def monitor(**how):
    return tfc.callbacks.PrecisionMonitor(**{"verbose": 0, **how})


def values(model):
    """Return all numbers that training moves: weights, statistics, seeds, masks, the optimizer's."""
    variables = [*model.variables, *model.optimizer.variables]
    return [np.asarray(ops.convert_to_numpy(v.value)) for v in variables]


def ours(seen):
    """Return the warnings that aren't TensorFlow's with NumPy."""
    return [warning for warning in seen if warning.category is UserWarning]


def data(samples=22, inputs=8, outputs=4):
    generator = np.random.default_rng(3)
    return generator.normal(size=(samples, inputs)), generator.normal(size=(samples, outputs))


def plain():
    """Dropout, batch normalization, a regularizer, an operation, and an output in float32."""
    x = inputs = keras.Input((8,))
    x = L.Dense(16, activation="relu", name="hidden", kernel_regularizer="l2")(x)
    x = L.BatchNormalization(name="norm")(x)
    x = L.Dropout(0.5, seed=3, name="drop")(x) * 2.0
    x = L.Dense(4, name="head")(x)
    # Keras can't add activity regularizers in float16 to a loss in float32.
    out = L.Activation("linear", dtype="float32", name="out", activity_regularizer="l2")
    return keras.Model(inputs, out(x), name="plain")


def pruned():
    """One layer by its weights, one by its gradients."""
    schedule = tfc.PolynomialSparsity(0.0, 0.5, 0, 6, frequency=2)
    model = tfc.prune(plain(), tfc.PruneConfig(schedule), layers="hidden")
    later = tfc.ConstantSparsity(0.5, begin_step=3, frequency=1)
    return tfc.prune(model, tfc.PruneConfig(later, criterion="gradient"), layers="head")


def quantized():
    return tfc.quantize(plain(), "int8", data=data()[0].astype("float32"))


MODELS = {
    "plain": plain,
    "pruned": pruned,
    "quantized": quantized,
    "distilled": lambda: tfc.distill(plain(), plain()),
}
if not ON_TENSORFLOW:  # it compiles by default, and runs eagerly at a snail's pace
    del MODES["xla"], MODES["eager"]
    del MODELS["quantized"], MODELS["distilled"]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        # What the plain model is made of, the others are.
        pytest.param("plain", "graph", marks=pytest.mark.rare),
        pytest.param("pruned", "graph", marks=pytest.mark.on_jax),
        *((name, "graph") for name in ("quantized",) if name in MODELS),
        *(pytest.param(name, "graph", marks=pytest.mark.rare) for name in ("distilled",) if name in MODELS),
        # Eagerly, and several at once, other tests look at which steps are skipped.
        *(pytest.param("pruned", mode, marks=pytest.mark.rare) for mode in ("several steps", "eager") if mode in MODES),
        # With XLA other tests of the monitor train.
        *(pytest.param("plain", mode, marks=pytest.mark.rare) for mode in ("xla",) if mode in MODES),
    ],
)
def test_training_is_the_same_bit_by_bit(name, mode, half):
    results = []
    for callbacks in ([], [monitor(every=2)]):
        keras.utils.set_random_seed(5)
        model = MODELS[name]()
        # The scale is too high at first: skipped steps are among those that are looked at.
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), initial_scale=2.0**17)
        loss = keras.losses.MeanSquaredError()
        model.compile(optimizer, loss, metrics=None if name == "distilled" else ["mae"], **MODES[mode])
        history = model.fit(*data(), batch_size=4, epochs=2, verbose=0, callbacks=callbacks)
        results.append((values(model), history.history))
    for before, after in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(before, after)
    assert results[0][1] == results[1][1]
    report = callbacks[0].report
    assert report.steps == 12
    assert report.batches >= (5 if mode == "several steps" else 7) - 1
    assert report["hidden"].overflow is not None


@pytest.mark.on_jax
@pytest.mark.parametrize("mode", MODES)
def test_skipped_steps_are_those_that_keras_skips(mode, half):
    model = plain()
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(1e-9), initial_scale=2.0**13, dynamic_growth_steps=5
    )
    model.compile(optimizer, "mse", loss_weights=8.0, **MODES[mode])
    x, y = data(40)
    scales = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if not ON_TENSORFLOW:
                self.model.jax_state_sync()
            scales.append(float(optimizer.dynamic_scale))

    watch = monitor()
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[Look(), watch])
    report = watch.report
    assert report.steps == 20
    assert report.skipped == 20 - int(optimizer.iterations) > 3
    assert report.scale == float(optimizer.dynamic_scale)
    assert (report.lowest, report.highest) == (min(scales), 2.0**13)
    if mode != "several steps":
        changes = np.diff(np.log2([2.0**13, *scales]))
        assert report.skipped == (changes == -1).sum()
        assert (changes == 1).any()  # it grew too, which costs no step
        # Each was looked into with its own dropout, and the overflow was there again.
        assert report.looked_into == report.skipped == sum(row.skipped for row in report.rows)
        assert {row.layer for row in report.rows if row.skipped} <= {"hidden", "norm", "head"}


@pytest.mark.parametrize("given", [True, False])
def test_steps_are_counted_where_their_number_is_not_known_before(given, half):
    def batches():
        x, y = data(28)
        for start in range(0, 28, 4):
            yield x[start : start + 4].astype("float32"), y[start : start + 4].astype("float32")

    model = plain()
    model.compile("sgd", "mse", steps_per_execution=4)
    watch = monitor(data=next(batches()) if given else None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*ran out of data")
        model.fit(batches(), verbose=0, shuffle=False, callbacks=[watch])
    assert watch.report.steps == 7
    assert watch.report.skipped == 7 - int(model.optimizer.iterations)


@pytest.mark.on_jax
def test_the_layer_whose_activations_overflow_is_named(half, tmp_path):
    x = inputs = keras.Input((8,))
    x = L.Dense(8, name="before")(x)
    x = L.Dense(8, name="loud", kernel_initializer=keras.initializers.Constant(3e4))(x)
    model = keras.Model(inputs, L.Dense(2, name="after")(x), name="overflowing")
    model.compile("sgd", "mse")
    watch = monitor()
    with pytest.warns(UserWarning, match=r"'loud' \(mixed_float16\).*step 1.*65,504.*keep_float32=\['loud'\]") as seen:
        model.fit(np.full((8, 8), 5.0), np.zeros((8, 2)), batch_size=4, epochs=2, verbose=0, callbacks=[watch])
    assert len(ours(seen)) == 1  # once, and not for what comes after it
    report = watch.report
    assert [row.layer for row in report.rows if row.nonfinite] == ["loud", "after"]
    assert [row.layer for row in report.rows if row.warned] == ["loud"]
    assert report.skipped == report.steps == 4
    assert report["loud"].skipped == report.looked_into == 4
    assert report["after"].overflow == 1.0
    lines = report.table().splitlines()
    assert "4 of 4 steps skipped" in lines[0]
    assert any(
        line.split() == ["!", "loud", HALF, "inf", "or", "NaN", "over", "-", "100.0", "%", "4"] for line in lines
    )
    document = json.loads(report.to_json(tmp_path / "precision.json").read_text())
    assert (document["skipped"], document["scale"]) == (4, 2048.0)
    assert [row["layer"] for row in document["rows"]] == ["(input)", "before", "loud", "after"]


@pytest.mark.on_jax
def test_the_largest_activation_is_beside_the_range():
    inputs = keras.Input((2,))
    ones = {"kernel_initializer": "ones", "use_bias": False}
    x = L.Dense(1, dtype=HALF, name="half", **ones)(inputs)
    y = L.Dense(1, dtype="mixed_bfloat16", name="brain", **ones)(inputs)
    z = L.Dense(1, dtype="float32", name="full", **ones)(inputs)
    model = keras.Model(inputs, [x, y, z])
    model.compile(keras.optimizers.SGD(0.0), ["mse", "mse", "mse"])
    watch = monitor()
    targets = [np.full((4, 1), 40000.0)] * 3
    with pytest.warns(UserWarning, match=r"near the end.*'half' reaches 40,000 of 65,504") as seen:
        model.fit(np.array([[30000.0, 10000.0]] * 4), targets, batch_size=2, epochs=2, verbose=0, callbacks=[watch])
    assert len(ours(seen)) == 1
    report = watch.report
    assert report["half"].largest == report["full"].largest == 40000.0
    assert report["half"].of_range == 40000.0 / 65504.0
    assert report["brain"].of_range == report["brain"].largest / 3.3895313892515355e38 < 1e-30
    assert [report[name].policy for name in ("half", "brain", "full")] == [HALF, "mixed_bfloat16", "float32"]
    assert report["(input)"].largest == 30000.0
    assert report.skipped == 0
    assert not report.dynamic
    assert "float16 without loss scaling" in report.caption()
    assert "61.1 %" in report.table()


def test_the_data_itself_may_be_beyond_the_range(half):
    model = keras.Sequential([keras.Input((2,)), L.Dense(2, name="dense")])
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match=r"layer '\(input\)'.*Scale the data"):
        model.fit(np.full((4, 2), 1e5), np.zeros((4, 2)), verbose=0, callbacks=[monitor()])


def test_large_data_that_a_float32_layer_takes_is_fine(half):
    layers = [keras.Input((2,)), L.Rescaling(1e-5, dtype="float32"), L.Dense(2, name="dense")]
    model, watch = keras.Sequential(layers), monitor(verbose=0)
    model.compile("sgd", "mse")
    model.fit(np.full((4, 2), 1e5), np.zeros((4, 2)), verbose=0, callbacks=[watch])
    assert (watch.report["(input)"].largest, watch.report["(input)"].nonfinite) == (1e5, False)


def test_skipped_steps_after_a_later_callback_restored_the_optimizer(half, tmp_path):
    class Stops(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def fit(*callbacks):
        model = keras.Sequential([keras.Input((4,)), L.Dense(3), L.Dense(2)])
        model.compile("sgd", "mse")
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        model.fit(np.ones((40, 4)), np.zeros((40, 2)), 4, 3, verbose=0, callbacks=[*callbacks, backup])

    with pytest.raises(KeyboardInterrupt):
        fit(Stops())
    watch = monitor(verbose=0)
    fit(watch)
    assert (watch.report.steps, watch.report.skipped) == (10, 0)


def test_a_training_that_diverges_in_float32_too_is_not_blamed_on_precision(half):
    model = keras.Sequential([keras.Input((2,)), L.Dense(2, name="dense")])
    model.compile("sgd", "mse")
    watch = monitor(verbose=0)
    with pytest.warns(UserWarning, match="float32 either"):
        model.fit(np.full((4, 2), np.nan), np.zeros((4, 2)), verbose=0, callbacks=[watch])
    assert watch.report.diverged


def mean_of_outputs(y_true, y_pred):
    return ops.mean(ops.cast(y_pred, "float32"), axis=-1)


@pytest.mark.on_jax
def test_underflow_is_what_is_zero_in_half_precision_alone():
    layer = L.Dense(1, use_bias=False, name="dense", dtype=HALF)
    model = keras.Sequential([keras.Input((8,)), layer])
    model.compile(keras.optimizers.SGD(0.0), mean_of_outputs)
    # dL/dw is the mean of x. 1e-8 is 0 in float16; 0 is 0 in float32 too, and 1e-12 is noise beside 1e-3.
    x = np.array([[1e-3, 1e-3, 1e-8, 0.0, 1e-8, 0.0, 1e-12, 1e-3]] * 4)
    watch = monitor()
    with pytest.warns(UserWarning, match=r"25\.0% of layer 'dense'"):
        model.fit(x, np.zeros((4, 1)), verbose=0, callbacks=[watch])
    assert watch.report["dense"].underflow == 0.25
    assert watch.report["dense"].overflow == 0.0


@pytest.mark.on_jax
@pytest.mark.parametrize("policy", [HALF, "mixed_bfloat16"])
def test_a_tiny_loss_underflows_unless_it_is_scaled(policy):
    found = {}
    for scale in (None, 2.0**40):
        keras.utils.set_random_seed(2)
        regularized = L.Dense(4, name="dense", dtype=policy, kernel_regularizer="l2")  # it doesn't hide it
        model = keras.Sequential([keras.Input((8,)), regularized])
        model.compile(keras.optimizers.SGD(loss_scale_factor=scale), "mse", loss_weights=1e-12)
        watch = monitor()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            model.fit(*data(), batch_size=22, verbose=0, callbacks=[watch])
        found[scale] = watch.report["dense"].underflow
        assert watch.report.scale == (scale or 1.0)
        texts = [str(warning.message) for warning in seen if "underflow" in str(warning.message)]
        assert len(texts) == (found[scale] > 0.1)
    assert found == ({None: 1.0, 2.0**40: 0.0} if policy == HALF else {None: 0.0, 2.0**40: 0.0})


def test_gradients_that_overflow_without_loss_scaling_are_told():
    model = keras.Sequential([keras.Input((8,)), L.Dense(4, name="dense", dtype=HALF), L.Dense(4, name="head")])
    model.compile(keras.optimizers.SGD(0.0), "mse", loss_weights=1e-3)
    x, y = data()
    watch = monitor(data=(x, y * 1e10))  # what is looked at overflows, and the weights stay as they are
    with pytest.warns(
        UserWarning, match=r"Gradients of layer 'dense' \(mixed_float16\) overflow.*scale of 1:.*'dense'"
    ):
        model.fit(x, y, verbose=0, callbacks=[watch])
    assert watch.report["dense"].overflow == 1.0
    assert watch.report["head"].overflow == 0.0


def test_weights_that_are_lost_already_are_not_blamed_on_the_range():
    model = keras.Sequential([keras.Input((8,)), L.Dense(4, name="dense", dtype=HALF)])
    model.compile(keras.optimizers.SGD(0.01, loss_scale_factor=2.0**30), "mse")
    with pytest.warns(UserWarning, match="weights or the data hold such values.*LossScaleOptimizer skips"):
        model.fit(*data(), verbose=0, callbacks=[monitor()])


def test_overflow_that_loss_scaling_deals_with_is_no_reason_to_warn(half):
    model = plain()
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-3), initial_scale=2.0**20), "mse")
    watch = monitor()
    model.fit(*data(), batch_size=4, epochs=2, verbose=0, callbacks=[watch])  # warnings are errors
    assert watch.report.skipped > 1


def test_dropout_and_units_that_are_off_are_no_underflow(half):
    x = inputs = keras.Input((8,))
    x = L.Dense(64, activation="relu", name="hidden", bias_initializer=keras.initializers.Constant(-1.0))(x)
    x = L.Dropout(0.5, seed=4)(x)
    model = keras.Model(inputs, L.Dense(4, name="head", dtype="float32")(x))
    model.compile("sgd", "mse")
    watch = monitor()
    model.fit(*data(3), verbose=0, callbacks=[watch])
    assert (watch.report["hidden"].underflow, watch.report["head"].underflow) == (0.0, 0.0)


def test_without_a_reference_underflow_is_not_known(half):
    model = plain()
    model.compile("sgd", "mse")
    watch = monitor(reference=False)
    model.fit(*data(), verbose=0, callbacks=[watch])
    assert watch.report["head"].underflow is None
    assert watch.report["head"].overflow is not None


def test_a_float32_model_has_activations_and_no_underflow():
    model = plain()
    model.compile("sgd", "mse")
    watch = monitor()
    model.fit(*data(), verbose=0, callbacks=[watch])
    assert watch.report["head"].largest > 0
    assert watch.report["head"].underflow is None
    assert "no loss scaling" in watch.report.table()


@pytest.mark.parametrize(("every", "looks"), [(None, 3), (1, 12), (3, 5), (100, 1)])
def test_when_it_looks(every, looks):
    model = plain()
    model.compile("sgd", "mse")
    watch = monitor(every=every)
    model.fit(*data(24), batch_size=4, epochs=2, verbose=0, callbacks=[watch])
    assert watch.report.batches == looks


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_what_tensorboard_gets(half, tmp_path):
    model = plain()
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-6), initial_scale=2.0**20), "mse")
    watch = monitor(log_dir=tmp_path, every=4)
    model.fit(*data(24), batch_size=4, epochs=2, verbose=0, callbacks=[watch])
    import tensorflow as tf

    seen = {}
    (log,) = tmp_path.iterdir()
    for record in tf.data.TFRecordDataset(str(log)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            seen[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    report = watch.report
    scales = {step: value for (tag, step), value in seen.items() if tag == "precision/loss_scale"}
    assert scales[1] == 2.0**19
    assert scales[12] == report.scale
    assert list(scales.values()) == sorted(scales.values(), reverse=True)
    assert len(set(scales.values())) == report.skipped  # each was written when it came
    assert seen["precision/skipped_steps", 12] == report.skipped == 20 - np.log2(report.scale)
    assert [step for tag, step in seen if tag == "precision/overflow/hidden"] == [1, 4, 8, 12]
    largest = [value for (tag, _), value in seen.items() if tag == "precision/largest_activation/hidden"]
    assert np.isclose(max(largest), report["hidden"].largest)
    assert seen["precision/underflow/head", 12] == 0.0
    assert seen["precision/overflow/head", 1] == 1.0
    assert ("precision/underflow/drop", 12) not in seen


def test_the_table_is_printed_at_the_end(capsys):
    model = plain()
    model.compile("sgd", "mse")
    watch = tfc.callbacks.PrecisionMonitor()
    model.fit(*data(), verbose=0, callbacks=[watch])
    assert capsys.readouterr().out == str(watch.report) + "\n"


def test_a_long_table_shows_the_worst_and_says_what_it_leaves_out():
    rows = [MonitorRow(f"layer_{i}", HALF, "float16", 1.0, underflow=0.0, overflow=0.0) for i in range(60)]
    rows[50] = MonitorRow("worst", HALF, "float16", 60000.0, underflow=0.0, overflow=0.0)
    rows[10] = MonitorRow("lost", HALF, "float16", 1.0, underflow=0.0001, overflow=0.0)
    report = MonitorReport("deep", 10, 0, 1.0, 1.0, 1.0, False, 1, 0, True, False, tuple(rows))
    text = report.table()
    assert text.count(f" {HALF} ") == 20
    assert text.index("lost") < text.index("worst")
    assert "< 0.1 %" in text
    assert "The 20 worst of 60 layers; 40 are left out here." in text
    assert max(map(len, text.splitlines())) <= 120
    with pytest.raises(KeyError, match="layer_0"):
        report["layer"]


def deep():
    """Nested models with like names, a shared layer, attention, recurrence, two outputs."""
    block = keras.Sequential([keras.Input((6, 4)), L.Dense(4, name="dense"), L.ReLU(name="relu")], name="block")
    inputs = keras.Input((6, 4))
    shared = L.Dense(4, name="shared")
    x = shared(shared(block(inputs)))
    x = L.Add(name="sum")([x, L.MultiHeadAttention(2, 2, name="attention")(x, x)])
    x = L.TimeDistributed(L.Dense(3, name="inner"), name="each")(x)
    one = L.Bidirectional(L.LSTM(3, name="lstm"), name="both")(x)
    two = L.Dense(2, name="dense")(L.SimpleRNN(3, name="rnn")(x))
    return keras.Model(inputs, {"one": one, "two": two}, name="deep")


@pytest.mark.parametrize("pruned", [pytest.param(False, marks=pytest.mark.rare), True])
def test_layers_in_models_of_all_kinds_have_the_names_of_the_flat_model(pruned):
    keras.config.set_dtype_policy(HALF if ON_TENSORFLOW else "mixed_bfloat16")
    try:
        model = tfc.prune(deep(), 0.5) if pruned else deep()
    finally:
        keras.config.set_dtype_policy("float32")
    # Eagerly a loop's body is no function of its own, and TensorFlow makes the test short.
    model.compile("sgd", {"one": "mse", "two": "mse"}, run_eagerly=pruned and ON_TENSORFLOW)
    watch = monitor()
    targets = {"one": np.zeros((4, 6)), "two": np.zeros((4, 2))}
    model.fit(np.random.default_rng(0).normal(size=(4, 6, 4)), targets, verbose=0, callbacks=[watch])
    rows = {row.layer: row for row in watch.report.rows}
    with_weights = {name for name, row in rows.items() if row.overflow is not None}
    flat = tfc.prune_once(deep(), 0.5)
    expected = {layer.name for layer in flat.layers if layer.trainable_variables}
    # What stays one layer in the flat model has its inner layers here too, each with its own weights.
    inside = {"each_inner", "both_forward_lstm", "both_backward_lstm"}
    assert with_weights == (expected - {"each", "both"}) | inside
    assert "block_dense" in expected
    assert all(row.largest is not None for name, row in rows.items() if name not in inside)
    assert all(rows[name].overflow == 0.0 for name in with_weights)


def test_names_of_subclassed_models_and_their_own_weights():
    class Mine(keras.Model):
        def __init__(self):
            super().__init__(name="mine")
            self.first = L.Dense(4, name="first")
            self.scale = self.add_weight(shape=(4,), name="scale", initializer="ones")

        def call(self, x):
            return self.first(x) * self.scale * 3.0

    model = Mine()
    model.compile("sgd", "mse")
    watch = monitor()
    model.fit(*data(), batch_size=22, verbose=0, callbacks=[watch])
    report = watch.report
    assert [row.layer for row in report.rows] == ["(input)", "first", "mine"]
    assert report["mine"].overflow == 0.0
    assert list(named_operations(model)) == ["first", "mine"]


@pytest.mark.on_jax
def test_a_train_step_of_ones_own_is_shown_without_gradients():
    class Mine(keras.Model):
        def train_step(self, *args):
            return super().train_step(*args)

    inputs = keras.Input((8,))
    model = Mine(inputs, L.Dense(4, name="dense", dtype=HALF)(inputs))
    model.compile("sgd", "mse")
    watch = monitor()
    model.fit(*data(), verbose=0, callbacks=[watch])
    assert watch.report["dense"].largest > 0
    assert watch.report["dense"].overflow is None
    assert "train_step of its own" in watch.report.table()


def test_data_of_ones_own_is_looked_at():
    model = keras.Sequential([keras.Input((2,)), L.Dense(1, kernel_initializer="ones", name="dense", dtype=HALF)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    watch = monitor(data=(np.array([[100.0, 28.0]]), np.array([[128.0]]), np.array([2.0])))
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0, callbacks=[watch])
    assert watch.report["dense"].largest == 128.0


@pytest.mark.on_jax
def test_the_model_has_its_train_function_back_and_trains_on(half):
    model = plain()
    model.compile("sgd", "mse")
    model.fit(*data(), verbose=0)
    function, watch = model.train_function, monitor()
    model.fit(*data(), verbose=0, callbacks=[watch])
    assert model.train_function is function
    assert "train_step" not in vars(model)
    assert not any("call" in vars(layer) for layer in model.layers)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(*data(), verbose=0, callbacks=[watch, Stop()])
    assert watch.report.steps == 1
    model.fit(*data(), batch_size=11, verbose=0)  # it trains without the callback as well
    model.fit(*data(), batch_size=11, verbose=0, callbacks=[watch])
    assert watch.report.steps == 2
    assert model.train_function is function


def test_wrong_use_is_refused():
    for every in (0, 1.5, True, "epoch"):
        with pytest.raises(ValueError, match="Expected every"):
            monitor(every=every)
    for given in (np.ones((2, 2)), (np.ones((2, 2)),)):
        with pytest.raises(ValueError, match="Expected data"):
            monitor(data=given)
    with pytest.raises(ValueError, match="that has been in a `fit`"):
        _ = monitor().report
