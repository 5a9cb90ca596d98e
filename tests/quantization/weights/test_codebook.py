"""Codebooks: nearest entries, gradients, exactly as many values as entries, and the tables that they start with."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from tfcompress.core.wrapper import CompressedLayer
from tfcompress.quantization.encoding import Table
from tfcompress.quantization.numerics import lookup
from tfcompress.quantization.numerics.lookup import counted, nearest, without_empty
from tfcompress.quantization.weights.codebook import Clusters
from tfcompress.quantization.weights.kmeans import k_means
from tfcompress.quantization.weights.levels import LEVELS, ScaledLevels, additive_power_of_two, scale_of
from tfcompress.quantization.weights.starts import STARTS, start

RANDOM = np.random.default_rng(0)


def numpy(x):
    return np.asarray(ops.convert_to_numpy(x))


def traced(function):
    """Return a function of tensors, traced on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function)


def wrapped(codebook, kernel):
    """Return a dense layer with a kernel, in a wrapper with a codebook."""
    layer = keras.layers.Dense(kernel.shape[1], use_bias=False)
    layer.build((None, kernel.shape[0]))
    layer.kernel.assign(kernel)
    wrapper = CompressedLayer(layer, [(0, codebook)])
    wrapper.build()
    return wrapper


@pytest.mark.on_jax
@pytest.mark.parametrize("rows", [1, 3])
def test_places_are_those_of_the_nearest_entries(rows, monkeypatch):
    values = RANDOM.normal(size=(rows, 200)).astype("float32")
    entries = np.sort(RANDOM.normal(size=(rows, 7)).astype("float32"), axis=1)
    given = ops.convert_to_tensor(values), ops.convert_to_tensor(entries)
    places = numpy(nearest(*given))
    for least in (0, 10**9):  # compiled by XLA where it is traced, and not
        monkeypatch.setattr(lookup, "LEAST_COMPILED", least)
        same, found = map(numpy, traced(lookup.nearest_with_entries)(*given))
        np.testing.assert_array_equal(same, places)
        np.testing.assert_array_equal(found, np.take_along_axis(entries, places, axis=1))
    np.testing.assert_array_equal(places, np.abs(values[:, :, None] - entries[:, None]).argmin(axis=2))
    wanted = [np.bincount(row, minlength=7) for row in places]
    np.testing.assert_array_equal(numpy(counted(ops.convert_to_tensor(places), 7)), wanted)


@pytest.mark.on_jax
@pytest.mark.parametrize("entries", [[0, 0, 0, 0], [5, 6, 7, 8], [-9, 0, 1, 9], [-0.2, -0.1, 0.0, 9]])
def test_each_entry_gets_a_value(entries):
    values = np.float32([[-1, -1, 0, 0.5, 0.5, 2, 3]])
    places, found, _ = map(numpy, without_empty(ops.array(values), ops.array(np.float32([entries]))))
    decoded = found[0][places[0]]
    assert len(set(places[0])) == len(set(decoded)) == 4
    assert (np.diff(found[0]) > 0).all()
    assert all(len(set(places[0][values[0] == value])) == 1 for value in values[0])
    order = np.argsort(values[0], kind="stable")
    assert (np.diff(places[0][order]) >= 0).all()


def test_fewer_different_values_than_entries_are_kept_as_they_are():
    values = np.float32([[3, 1, 1, 2]])
    places, entries, _ = map(numpy, without_empty(ops.array(values), ops.array(np.float32([[0, 1, 7, 8, 9]]))))
    np.testing.assert_array_equal(entries[0][places[0]], values[0])


@pytest.mark.parametrize("gradient", ["sum", "mean"])
@pytest.mark.parametrize(("axis", "tables"), [(None, 1), (1, 6), (1, 2), (0, 4)])
def test_gradients_pass_to_weights_and_entries(gradient, axis, tables):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("a tape is TensorFlow's")
    kernel = RANDOM.normal(size=(4, 6)).astype("float32")
    codebook = Clusters(3, axis=axis, tables=tables, gradient=gradient)
    wrapper = wrapped(codebook, kernel)
    table = np.sort(RANDOM.normal(size=(tables, 3)).astype("float32"))[:, ::-1]
    codebook.start(table)
    upstream = RANDOM.normal(size=(4, 6)).astype("float32")
    with tf.GradientTape() as tape:
        value = ops.convert_to_tensor(wrapper.layer.kernel.value)
        tape.watch(value)
        loss = ops.sum(codebook.apply_in_training(value) * upstream)
    of_value, of_table = tape.gradient(loss, [value, codebook.entries.value])
    np.testing.assert_array_equal(of_value, upstream)
    own = np.zeros((4, 6), int)
    if axis is not None:
        own += (np.arange((4, 6)[axis]) * tables // (4, 6)[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
    place = np.abs(kernel[..., None] - table[own]).argmin(axis=-1)
    for row in range(tables):
        for entry in range(3):
            found = upstream[(own == row) & (place == entry)]
            wanted = found.sum() / (max(len(found), 1) if gradient == "mean" else 1)
            assert np.asarray(of_table)[row, entry] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.on_jax
@pytest.mark.parametrize(("axis", "tables"), [(None, 1), (1, 6), (1, 2)])
@pytest.mark.parametrize("zero", [False, True])
def test_a_table_encodes_what_it_applies(axis, tables, zero):
    kernel = np.where(RANDOM.uniform(size=(40, 6)) < 0.3, 0, RANDOM.normal(size=(40, 6))).astype("float32")
    codebook = Clusters(5, zero=zero, axis=axis, tables=tables)
    wrapper = wrapped(codebook, kernel)
    codebook.start(np.full((tables, 5 - zero), 9, "float32"))  # all but one are empty
    applied, encoded = numpy(wrapper.transformed()[0]), wrapper.encoded()[0]
    assert isinstance(encoded, Table) and encoded.indices.dtype == np.uint8
    np.testing.assert_array_equal(encoded.decode(), applied)
    for part in np.split(applied, tables, axis=1):
        assert len(np.unique(part)) == 5
    if zero:
        assert (applied[kernel == 0] == 0).all()


def test_entries_that_no_weight_is_near_come_back_in_training():
    wrapper = wrapped(Clusters(4, zero=True), np.float32([[-1, -1, 0, 1, 2, 3]]))
    codebook = wrapper.transforms[0][1]
    codebook.start(np.float32([[50, -1, 51]]))
    seen = numpy(wrapper.transformed()[0])
    wrapper.update()
    np.testing.assert_array_equal(numpy(wrapper.transformed(training=True)[0]), seen)
    np.testing.assert_array_equal(numpy(codebook.entries.value), [[50, -1, 51]])
    codebook.start(np.float32([[50, -1, 51]]))
    wrapper.update()  # not at every step
    np.testing.assert_array_equal(numpy(codebook.shift.value), np.zeros((1, 3)))


@pytest.mark.parametrize("count", [3, 7, 15, 255])
@pytest.mark.parametrize("name", LEVELS)
def test_levels(name, count):
    levels = LEVELS[name](count)
    assert len(np.unique(levels)) == count and levels[-1] == 1
    np.testing.assert_allclose(levels, -levels[::-1], atol=1e-15)
    assert 0 in levels
    if name == "power_of_two":
        assert set(np.log2(levels[levels > 0]) % 1) == {0}


def test_sums_of_powers_of_two_have_one_for_each_term():
    steps = additive_power_of_two(31)[15:] * (1 + 0.5)
    assert all(bin(int(value * 32)).count("1") <= 2 for value in steps)


def test_the_scale_has_the_least_squared_error():
    values, levels = RANDOM.normal(size=500), LEVELS["uniform"](15)

    def error(scale):
        return np.square(values - scale * levels[np.abs(values[:, None] / scale - levels).argmin(axis=1)]).sum()

    best = scale_of(values, levels)
    assert error(best) <= min(error(scale) for scale in np.linspace(0.5, 4, 100)) * 1.01
    with np.errstate(all="raise"):  # of a channel that was pruned
        assert scale_of(np.zeros(4), levels) == 0


def test_a_scale_is_trained_and_saved(tmp_path):
    kernel = RANDOM.normal(size=(6, 4)).astype("float32")
    wrapper = wrapped(ScaledLevels(7, "power_of_two"), kernel)
    model = keras.Sequential([keras.Input((6,)), wrapper])
    wrapper.transforms[0][1].start(np.float32([[2.0]]))
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 6)), np.ones((4, 4)), verbose=0)
    scale = float(wrapper.transforms[0][1].scale.value[0, 0])
    assert scale != 2.0
    seen = np.unique(np.abs(numpy(wrapper.transformed()[0])))
    assert set(seen) <= {np.float32(scale * level) for level in (0, 0.25, 0.5, 1)}
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(numpy(loaded.layers[-1].transformed()[0]), numpy(wrapper.transformed()[0]))


def test_k_means_is_exact_and_groups_what_is_too_much(monkeypatch):
    from tfcompress.quantization.weights import kmeans

    values = np.concatenate([RANDOM.normal(size=40), RANDOM.normal(size=25) + 9])
    assert k_means(values, 2) == pytest.approx([values[:40].mean(), values[40:].mean()])
    monkeypatch.setattr(kmeans, "MOST_CELLS", 26)
    assert k_means(values, 2) == pytest.approx([values[:40].mean(), values[40:].mean()])


@pytest.mark.parametrize("init", STARTS)
@pytest.mark.parametrize("zero", [False, True])
def test_starts_have_their_count_whatever_the_values(init, zero):
    for values in ([0, 0, 1], [-2, -1, -1, 3], [5, 6], RANDOM.normal(size=100)):
        found = start(np.float32(values), 6, init, zero=zero, seed=1)
        assert found.shape == (6,) and found.dtype == np.float32 and np.isfinite(found).all()
