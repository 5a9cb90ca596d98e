"""What makes a weight important: against formulas, on both ways of gathering statistics."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW, gathered, in_turn
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.pruning import Mask, PruneConfig, needs
from tfcompress.pruning.criteria import CRITERIA, needs_of
from tfcompress.pruning.gradient_statistics import Evidence, gather_gradients
from tfcompress.pruning.running_statistics import DECAY, NEEDS, Statistics


def numpy(variable):
    return keras.ops.convert_to_numpy(variable.value)


def line(units=3, size=4, seed=0):
    """A dense layer without bias, whose gradient under a mean squared error is known."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((size,)), L.Dense(units, use_bias=False, name="dense")])


def batches(count=3, size=4, units=3):
    generator = np.random.default_rng(1)
    return [(generator.normal(size=(8, size)), generator.normal(size=(8, units))) for _ in range(count)]


def slope(kernel, x, y):
    return 2 * x.T @ (x @ kernel - y) / y.size


def kept_of(model):
    return numpy(model.get_layer("dense").kernel) != 0


@pytest.mark.on_jax
@pytest.mark.parametrize(("criterion", "sign"), [("gradient", None), ("movement", -1)])
def test_statistics_from_data_are_those_of_the_mean_loss(criterion, sign):
    model, data = line(), batches()
    kernel = numpy(model.layers[0].kernel)
    slopes = sum(kernel * slope(kernel, *batch) for batch in data)
    scores = np.abs(slopes) if sign is None else -slopes
    pruned = tfc.prune_once(model, 0.5, data=iter(data), loss="mse", criterion=criterion)
    np.testing.assert_array_equal(kept_of(pruned), scores >= np.sort(scores.ravel())[6])
    arrays = tuple(np.concatenate(part) for part in zip(*data, strict=True))
    for size in (8, 1, 23):
        again = tfc.prune_once(model, 0.5, data=arrays, loss="mse", criterion=criterion, batch_size=size)
        np.testing.assert_array_equal(kept_of(again), kept_of(pruned))
    model.compile("sgd", "mse")  # its loss is taken
    np.testing.assert_array_equal(kept_of(tfc.prune_once(model, 0.5, data=data, criterion=criterion)), kept_of(pruned))


@pytest.mark.parametrize(("reduction", "fresh"), in_turn(["sum_over_batch_size", "sum"], [True, False]))
def test_one_set_of_data_gives_one_statistic_however_it_is_cut_and_ordered(reduction, fresh):
    inputs = keras.Input((8, 8, 2))
    x = L.Conv2D(4, 3, use_bias=False, name="first")(inputs)
    x = L.Dropout(0.5)(L.ReLU()(L.BatchNormalization(name="norm")(x)))
    model = keras.Model(inputs, L.Dense(3, name="last")(L.BatchNormalization()(L.Flatten()(x))))
    generator = np.random.default_rng(0)
    x = np.sort(generator.normal(1, 3, size=(21, 8, 8, 2)), axis=0).astype("float32")
    y = np.arange(21) // 7
    if not fresh:
        for name, value in (("moving_mean", 0.3), ("moving_variance", 4.0)):
            getattr(model.get_layer("norm"), name).assign(np.full(4, value))
    before = [numpy(variable) for variable in model.variables]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    order = generator.permutation(21)
    found = [
        gather_gradients(model, ("gradient", "sensitivity"), Evidence(data, loss, size))
        for data, size in (((x, y), 21), ((x, y), 1), ((x[::-1], y[::-1]), 4), ((x[order], y[order]), 20))
    ]
    found.append(
        gather_gradients(model, ("gradient", "sensitivity"), Evidence(iter([(x[:3], y[:3]), (x[3:], y[3:])]), loss))
    )
    for other in found[1:]:
        for key, values in found[0].items():
            for name, expected in values.items():
                np.testing.assert_allclose(other[key][name], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert all(np.abs(values["gradient"]).max() > 0 for values in found[0].values())
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, numpy(variable))


@pytest.mark.on_jax
@pytest.mark.parametrize(
    ("loss", "weighted"),
    [
        ("sparse_categorical_crossentropy", False),  # over the steps that a Keras mask leaves
        (keras.losses.SparseCategoricalCrossentropy(ignore_class=2), False),
        (keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight"), True),
        (keras.losses.SparseCategoricalCrossentropy(reduction=None), True),
    ],
)
def test_terms_of_the_loss_that_a_mask_or_weights_leave_out(loss, weighted):
    if getattr(loss, "reduction", "sum") in (None, "none") and not ON_TENSORFLOW:
        pytest.skip("JAX differentiates scalars alone")
    keras.utils.set_random_seed(0)
    layers = [L.Embedding(9, 4, mask_zero=True), L.Dense(3, "softmax", name="last")]
    model = keras.Sequential([keras.Input((5,), dtype="int32"), *layers])
    generator = np.random.default_rng(0)
    x, y = generator.integers(1, 9, (13, 5)), generator.integers(0, 3, (13, 5))
    x[np.arange(5) > generator.integers(0, 5, 13)[:, None]] = 0
    data = (x, y, generator.uniform(0, 4, (13, 5)))[: 3 if weighted else 2]
    shuffled = tuple(part[::-1] for part in data)
    whole, *cut = (
        gather_gradients(model, ("gradient",), Evidence(given, loss, size))["last", 0]["gradient"]
        for given, size in ((data, 13), (data, 1), (shuffled, 4))
    )
    for other in cut:
        np.testing.assert_allclose(other, whole, rtol=1e-4, atol=1e-6 * np.abs(whole).max())


@pytest.mark.parametrize("how", [{}, {"jit_compile": True}, {"run_eagerly": True}])
def test_statistics_are_gathered_in_training(how):
    model, data = line(), batches(2)
    pruned = tfc.prune(model, PruneConfig(tfc.PolynomialSparsity(0.0, 0.5, 5, 10, frequency=5), criterion="gradient"))
    pruned.compile(keras.optimizers.SGD(0.1), "mse", **how)
    kernel = numpy(model.layers[0].kernel)
    expected = np.zeros_like(kernel)
    for x, y in data:
        gradient = slope(kernel, x, y)
        expected = DECAY * expected + np.abs(kernel * gradient)
        kernel = kernel - 0.1 * gradient
        pruned.train_on_batch(x, y)
    (mask,) = (mask for _, mask in wrapped_layers(pruned)[0].transforms)
    np.testing.assert_allclose(gathered(mask, "sensitivity"), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(numpy(wrapped_layers(pruned)[0].layer.kernel), kernel, rtol=1e-4, atol=1e-6)
    for x, y in batches(9):
        pruned.train_on_batch(x, y)
    assert tfc.sparsity(pruned) == 0.5


@pytest.mark.on_jax
@pytest.mark.parametrize("criterion", ["gradient", "movement"])
def test_what_is_gathered_survives_saving_and_does_not_count_as_parameters(criterion, tmp_path):
    pruned = tfc.prune(line(), PruneConfig(tfc.PolynomialSparsity(0.0, 0.5, 2, 4, frequency=2), criterion=criterion))
    pruned.compile("adam", "mse")
    for x, y in batches(2):
        pruned.train_on_batch(x, y)
    pruned.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for one, other in zip(pruned.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(numpy(one), numpy(other))
    assert tfc.summary(pruned).parameters == 12
    with pytest.warns(UserWarning, match="Sparsity reached 0 of 0.5 at step 2 of"):
        assert len(tfc.strip(pruned).weights) == 1


def test_random_masks_are_nested_and_differ_between_layers():
    model = keras.Sequential([keras.Input((8,)), L.Dense(8, name="dense"), L.Dense(8, name="other")])
    less, more = (tfc.prune_once(model, s, criterion="random") for s in (0.3, 0.6))
    assert not np.any(kept_of(more) & ~kept_of(less))
    assert np.any(kept_of(more) != (numpy(more.get_layer("other").kernel) != 0))
    assert np.any(kept_of(more) != kept_of(tfc.prune_once(model, 0.6)))


def test_threshold_prunes_what_is_below_it_but_no_more_than_the_schedule():
    model = line()
    model.layers[0].kernel.assign(np.linspace(-0.5, 0.6, 12).reshape(4, 3))
    kernel = np.abs(numpy(model.layers[0].kernel))
    pruned = tfc.prune_once(model, 0.9, criterion="threshold", threshold=0.25)
    np.testing.assert_array_equal(kept_of(pruned), kernel >= 0.25)
    capped = tfc.prune_once(model, 0.25, criterion="threshold", threshold=0.25)
    np.testing.assert_array_equal(kept_of(capped), kernel >= np.sort(kernel.ravel())[3])


@keras.saving.register_keras_serializable("tests")
@needs("gradient")
def flat_ones_first(weights, statistics):
    return abs(statistics.gradient)


def test_a_users_function_is_a_criterion_and_is_saved(tmp_path):
    model, data = line(), batches()
    kernel = numpy(model.layers[0].kernel)
    scores = np.abs(sum(slope(kernel, *batch) for batch in data))
    pruned = tfc.prune_once(model, 0.5, data=data, loss="mse", criterion=flat_ones_first)
    np.testing.assert_array_equal(kept_of(pruned), scores >= np.sort(scores.ravel())[6])
    wrapped = tfc.prune(model, PruneConfig(tfc.ConstantSparsity(0.5, 1, 9, frequency=2), criterion=flat_ones_first))
    wrapped.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    (mask,) = (mask for _, mask in wrapped_layers(loaded)[0].transforms)
    assert isinstance(mask, Mask)
    assert mask.config.criterion is flat_ones_first
    assert set(mask.gathering.values) == {"gradient"}


def test_each_name_needs_what_is_gathered_for_it():
    weights = keras.ops.convert_to_tensor(np.array([[1.0, -2.0]], "float32"))
    known = Statistics(
        sensitivity=weights * 2, movement=weights * 3, activation_frequency=np.ones((1, 2), "float32"), scale=weights
    )
    found = {name: np.asarray(criterion(weights, known)).tolist() for name, criterion in CRITERIA.items()}
    random = np.array(found.pop("random"))
    assert found == {
        "magnitude": [[1, 2]],
        "l2": [[1, 4]],
        "threshold": [[1, 2]],
        "gradient": [[2, -4]],
        "movement": [[3, -6]],
        "activation_frequency": [[1, 1]],
        "bn_scale": [[1, 2]],
    }
    assert random.shape == (1, 2)
    assert {name for criterion in CRITERIA.values() for name in getattr(criterion, "needs", ())} == set(NEEDS) - {
        "gradient"
    }


def test_what_a_criterion_lacks_is_said_before_any_work():
    model, (x, y) = line(), batches(1)[0]
    for refused, words in [
        (lambda: tfc.prune_once(model, 0.5, criterion="gradient"), "Expected `data` and `loss`.*no data"),
        (lambda: tfc.prune_once(model, 0.5, data=(x, y), criterion="gradient"), "Expected a loss.*loss=None"),
        (lambda: tfc.prune(model, PruneConfig(0.5, criterion="gradient")), "begins at step 0.*later begin_step"),
        (lambda: tfc.prune_once(model, 0.5, data=x), "Expected data=None"),
        (
            lambda: tfc.prune_once(model, 0.5, data=(np.float32(1), y), loss="mse", criterion="gradient"),
            "first dimension that counts the samples. Received: a single number",
        ),
        (lambda: tfc.prune_once(model, 0.5, data=iter([]), loss="mse", criterion="gradient"), "empty iterable"),
        (lambda: tfc.prune_once(model, 0.5, data=[x], loss="mse", criterion="gradient"), r"batches of \(inputs, tar"),
        (
            lambda: tfc.prune_once(model, 0.5, data=(x * np.nan, y), loss="mse", criterion="gradient"),
            "finite numbers in x",
        ),
        (lambda: tfc.prune_once(model, 0.5, data=x, criterion="activation_frequency"), "granularity='channel'"),
        (lambda: PruneConfig(0.5, criterion="bn_scale"), "granularity='channel'"),
        (lambda: PruneConfig(0.5, criterion="threshold"), "Expected `threshold` with criterion='threshold'"),
        (lambda: PruneConfig(0.5, threshold=0.1), "and with no other"),
        (lambda: PruneConfig(0.5, criterion="threshold", threshold=-1), "number above 0"),
        (lambda: PruneConfig(0.5, criterion="magnitud"), "'magnitude', 'l2'.*or a function"),
        (lambda: PruneConfig(0.5, criterion=lambda weights, statistics: weights), "registered"),
        (lambda: tfc.prune_once(model, 0.5, data=(x, y), loss="mse", criterion="gradient", batch_size=0), "batch_size"),
        (lambda: tfc.prune_once(model, 0.5, data=5, loss="mse", criterion="gradient"), "data of type int"),
        (
            lambda: tfc.prune_once(model, 0.5, data=(x, y[:, :2]), loss="mse", criterion="gradient"),
            "data and a loss that go with the model",
        ),
        (lambda: PruneConfig(tfc.Regrowth(0.5, end_step=9), criterion="gradient"), "looks at weights alone"),
        (lambda: PruneConfig(tfc.Regrowth(0.5, end_step=9), criterion="threshold", threshold=1), "weights alone"),
        (lambda: needs("slope"), "Received: 'slope'"),
    ]:
        with pytest.raises(ValueError, match=words):
            refused()


@pytest.mark.on_jax
@pytest.mark.parametrize("criterion", ["gradient", "movement"])
def test_a_layer_that_is_called_twice_counts_the_gradient_of_both_calls(criterion):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    shared = L.Dense(6, use_bias=False, name="dense")
    model = keras.Model(inputs, shared(keras.ops.tanh(shared(inputs))))
    x, y = np.random.default_rng(0).normal(size=(2, 8, 6))
    kernel = numpy(shared.kernel)
    between = np.tanh(x @ kernel)
    error = 2 * (between @ kernel - y) / y.size
    gradient = between.T @ error + x.T @ ((error @ kernel.T) * (1 - between**2))
    once = np.abs(kernel * gradient) if criterion == "gradient" else -kernel * gradient
    (name,) = needs_of(criterion)
    (found,) = (values[name] for values in gather_gradients(model, (name,), Evidence((x, y), "mse")).values())
    np.testing.assert_allclose(found, once, rtol=1e-4, atol=1e-6)
    pruned = tfc.prune(model, PruneConfig(tfc.ConstantSparsity(0.5, 300, frequency=300), criterion=criterion))
    pruned.compile(keras.optimizers.SGD(0.0), "mse")
    for _ in range(4):
        pruned.train_on_batch(x, y)
    (mask,) = (mask for _, mask in wrapped_layers(pruned)[0].transforms)
    expected = once * sum(DECAY**step for step in range(4))
    np.testing.assert_allclose(gathered(mask, name), expected, rtol=1e-4, atol=1e-6)


def test_gradients_of_two_calls_may_cancel():
    first, second = keras.Input((4,)), keras.Input((4,))
    shared = L.Dense(3, use_bias=False, name="dense")
    model = keras.Model([first, second], L.Subtract()([shared(first), shared(second)]))
    x, y = np.random.default_rng(0).normal(size=(8, 4)), np.random.default_rng(1).normal(size=(8, 3))
    found = gather_gradients(model, ("sensitivity",), Evidence(([x, x], y), "mse"))
    np.testing.assert_allclose(found["dense", 0]["sensitivity"], np.zeros((4, 3)), atol=1e-6)


def test_the_loss_of_a_compiled_model_comes_with_its_weights():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    trunk = L.Dense(4, use_bias=False, name="trunk")(inputs)
    model = keras.Model(inputs, {name: L.Dense(2, use_bias=False, name=name)(trunk) for name in "ab"})
    model.compile("sgd", {"a": "mse", "b": "mse"}, loss_weights={"a": 3.0, "b": 0.0})
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(64, 4)), {name: generator.normal(size=(64, 2)) for name in "ab"}
    config = PruneConfig(tfc.ConstantSparsity(0.5, 5), criterion="gradient", scope="global")
    pruned = tfc.prune(model, config, data=(x, y), batch_size=64)
    first, last = (numpy(model.get_layer(name).kernel) for name in ("trunk", "a"))
    error = 3 * 2 * (x @ first @ last - y["a"]) / y["a"].size
    expected = {"trunk": first * (x.T @ error @ last.T), "a": last * ((x @ first).T @ error), "b": np.zeros((4, 2))}
    for layer in wrapped_layers(pruned):
        found = numpy(layer.transforms[0][1].gathering.values["sensitivity"])
        np.testing.assert_allclose(found, np.abs(expected[layer.name]), rtol=1e-4, atol=1e-6)


@keras.saving.register_keras_serializable("tests")
class Halved(L.Layer):
    """A layer that is opened, with a cast to its own precision in front."""

    def __init__(self, **kwargs):
        super().__init__(dtype="mixed_float16", **kwargs)
        self.dense = L.Dense(3, use_bias=False, dtype="mixed_float16", name="dense")

    def call(self, inputs):
        return self.dense(inputs)


def products(y, outputs):
    """A loss whose gradient is `y`."""
    return keras.ops.sum(y * keras.ops.cast(outputs, y.dtype), axis=-1)


@pytest.mark.on_jax
@pytest.mark.parametrize("size", [1e5, 1e-8])
def test_data_goes_through_half_precision_in_full(size):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Halved(name="block")(inputs))
    x, y = np.random.default_rng(0).normal(size=(32, 4)), size * np.random.default_rng(1).normal(size=(32, 3))
    # In float16 the small ones are zero, and the large ones, of a loss that is scaled, infinite.
    (found,) = gather_gradients(model, ("gradient",), Evidence((x, y), products)).values()
    np.testing.assert_allclose(found["gradient"], x.T @ y / 32, rtol=1e-4, atol=1e-6 * size)
    assert model.get_layer("block").dense.compute_dtype == "float16"  # the model itself is as it was


@pytest.mark.skipif(not ON_TENSORFLOW, reason="Keras on JAX keeps the largest of a round")
def test_micro_batches_add_up_and_averaged_weights_are_no_obstacle():
    model, data = line(), batches(4)
    found = []
    for optimizer in (
        keras.optimizers.SGD(0.0),
        keras.optimizers.SGD(0.0, gradient_accumulation_steps=4),
        keras.optimizers.SGD(0.0, use_ema=True),
    ):
        pruned = tfc.prune(model, PruneConfig(tfc.ConstantSparsity(0.5, 50), criterion="movement"))
        pruned.compile(optimizer, "mse")
        for x, y in data:
            pruned.train_on_batch(x, y)
        (mask,) = (mask for _, mask in wrapped_layers(pruned)[0].transforms)
        found.append(numpy(mask.gathering.values["movement"]))
    assert (found[0] < 0).any()
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-5)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="on JAX the scale isn't known")
@pytest.mark.parametrize("how", [{}, {"run_eagerly": True}])
def test_a_scaled_loss_leaves_gradients_as_they_are(how):
    gradients = {}
    for policy in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), L.Dense(3, use_bias=False, dtype=policy, name="dense")])
        pruned = tfc.prune(model, PruneConfig(tfc.ConstantSparsity(0.5, 50), criterion=flat_ones_first))
        optimizer = keras.optimizers.SGD(0.0)
        pruned.compile(keras.optimizers.LossScaleOptimizer(optimizer) if "16" in policy else optimizer, "mse", **how)
        for x, y in batches(3):
            pruned.train_on_batch(x, y)
        (mask,) = (mask for _, mask in wrapped_layers(pruned)[0].transforms)
        gradients[policy] = numpy(mask.gathering.values["gradient"])
    np.testing.assert_allclose(gradients["mixed_float16"], gradients["float32"], atol=5e-3)


def test_a_users_function_is_tried_before_any_work():
    def named(name, function, *statistics):
        function.__name__ = name
        return keras.saving.register_keras_serializable("tests", name)(needs(*statistics)(function))

    for function, words in [
        (named("too_few", lambda weights: weights), "too_few.weights, statistics.*fails on"),
        (
            named("forgotten", lambda weights, statistics: abs(statistics.gradient)),
            "marked by tfcompress.pruning.needs",
        ),
        (
            named("narrow", lambda weights, statistics: keras.ops.mean(weights, axis=0)),
            r"narrow, which gives the shape \(3,\)",
        ),
        (named("empty", lambda weights, statistics: weights * float("nan")), "empty, which gives NaN"),
    ]:
        with pytest.raises(ValueError, match=words):
            tfc.prune(line(), PruneConfig(0.5, criterion=function))


@pytest.mark.on_jax
def test_half_precision_gathers_in_full():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), L.Dense(3, use_bias=False, dtype="mixed_float16", name="dense"), L.Activation("linear")]
    )
    pruned = tfc.prune(model, PruneConfig(tfc.ConstantSparsity(0.5, 2, frequency=2), criterion="gradient"))
    pruned.compile(keras.optimizers.SGD(0.0), "mse")
    (mask,) = (mask for _, mask in wrapped_layers(pruned)[0].transforms)
    kernel, expected = numpy(model.layers[0].kernel), np.zeros((4, 3))
    for x, y in batches(3):
        pruned.train_on_batch(x, y)
        expected = DECAY * expected + np.abs(kernel * slope(kernel * numpy(mask.mask), x, y))
    found = gathered(mask, "sensitivity")
    assert found.dtype == "float32"
    if ON_TENSORFLOW:  # on JAX it is that of the scaled loss
        np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-3)
    assert tfc.sparsity(pruned) == 0.5
