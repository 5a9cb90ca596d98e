"""What is chosen by, what is proved on, and that neither is trained with."""

import keras
import numpy as np
import pytest

from tfcompress.data.dataset import Data
from tfcompress.recipes.record import digest_of_data
from tfcompress.search.named_data import by_names
from tfcompress.search.validation import parts_of


def numbered(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.arange(first, first + count, dtype="float32")[:, None]
    return x, np.arange(count) % 3


def test_a_third_is_chosen_by_and_the_rest_proves():
    parts = parts_of(numbered(0, 30), numbered(100, 90), seed=0)
    assert [len(y) for _, y in (parts.selection, parts.proof)] == [30, 60]
    together = np.sort(np.concatenate([parts.selection[0], parts.proof[0]]).ravel())
    assert together.tolist() == list(range(100, 190))
    assert parts.data.train.samples == 30
    assert parts.data.test.samples == 30
    assert not np.array_equal(parts.selection[0], parts_of(numbered(0, 30), numbered(100, 90), seed=1).selection[0])


def test_a_recipe_is_judged_on_all():
    parts = parts_of(numbered(0, 30), numbered(100, 90), seed=0)
    assert len(parts.whole().proof[1]) == parts.samples == 90


def test_one_hot_targets_become_classes_everywhere():
    x, y = numbered(0, 30)
    held, held_y = numbered(100, 90)
    parts = parts_of((x, np.eye(3)[y]), (held, np.eye(3)[held_y]), seed=0)
    assert parts.data.classes == 3
    assert parts.selection[1].shape == (30,)
    assert parts.proof[1].shape == (60,)


def test_a_dataset_brings_its_test_part():
    data = Data("d", *numbered(0, 30), *numbered(100, 90))
    parts = parts_of(data, None, seed=0)
    assert parts.data.test.samples == 30
    assert parts.data.classes == 3
    assert parts.samples == 90


def augmented(x: np.ndarray, y: np.ndarray, size: int):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(99).batch(size)
    return data.map(lambda x, y: (x + tf.random.uniform(tf.shape(x), 0, 0.5), y))


def test_tf_data_is_read_anew_for_each_epoch():
    (x, y), (held, held_y) = numbered(0, 30), numbered(100, 90)
    parts = parts_of(augmented(x, y, 7), (held, held_y), seed=0)
    train = parts.data.train
    assert (train.samples, parts.data.classes, parts.data.test.samples) == (30, 3, 30)
    batches = iter(train.shuffled(8))
    epochs = [np.concatenate([next(batches)[0] for _ in range(4)]) for _ in range(2)]
    first, second = (np.sort(epoch.ravel()) for epoch in epochs)
    assert np.array_equal(np.floor(first), np.floor(second))
    assert not np.array_equal(first, second)
    assert digest_of_data(parts.data) == digest_of_data(parts_of(augmented(x, y, 7), (held, held_y), seed=0).data)
    assert digest_of_data(parts.data) != digest_of_data(parts_of(augmented(x[1:], y[1:], 7), (held, held_y), 0).data)


WRITTEN = (lambda y: np.eye(3)[y], lambda y: np.array(["a", "b", "c"])[y], lambda y: y[:, None])


@pytest.mark.parametrize("written", WRITTEN)
def test_targets_of_tf_data_and_of_arrays_become_the_same_classes(written):
    (x, y), (held, held_y) = numbered(0, 30), numbered(100, 90)
    parts = parts_of(augmented(x, written(y), 10), (held, written(held_y)), seed=0)
    assert parts.data.classes == 3
    assert np.array_equal(parts.proof[1], (parts.proof[0].astype(int) - 100).ravel() % 3)
    inputs, targets = next(iter(parts.data.train.in_order()()))
    assert np.array_equal(targets, np.floor(inputs).astype(int).ravel() % 3)


def test_what_is_trained_with_is_refused():
    with pytest.raises(ValueError, match=r"isn't trained with.*Received: samples of which 60 of 60 are in data"):
        parts_of(numbered(0, 90), numbered(10, 60), seed=0)
    with pytest.raises(ValueError, match=r"Received: samples of which 4 of 200 are in data, too\. Take them out"):
        parts_of(numbered(0, 104), numbered(100, 200), seed=0)
    parts_of(numbered(0, 102), numbered(100, 200), seed=0)  # 1 %
    repeated = [np.tile(array, (3,) + (1,) * (array.ndim - 1)) for array in numbered(70, 60)]
    with pytest.raises(ValueError, match=r"60 of 180 are in data"):
        parts_of(numbered(0, 90), tuple(repeated), seed=0)
    oversampled = [np.concatenate([array[:50], array]) for array in numbered(0, 90)]
    with pytest.raises(ValueError, match=r"90 of 1,000 are in data, too, where"):
        parts_of(tuple(oversampled), numbered(0, 1000), seed=0)


def test_samples_that_are_alike_by_nature_are_not():
    x = np.array([[0.0], [1.0]] * 50, "float32")
    parts = parts_of((x, np.zeros(100, int)), (x, np.zeros(100, int)), seed=0)
    assert parts.samples == 100  # no copies
    assert set(parts.selection[0].ravel()) == set(parts.proof[0].ravel()) == {0, 1}
    for seed in range(20):
        x = np.random.default_rng(seed).integers(0, 40, (900, 2)).astype("float32")  # a quarter repeats
        parts_of((x[:500], np.zeros(500, int)), (x[500:], np.zeros(400, int)), seed=0)


def test_copies_count_once_and_stay_together():
    x, y = numbered(100, 90)
    again = np.concatenate([x, x, x]), np.concatenate([y, y, y + 1])
    parts = parts_of(numbered(0, 30), again, seed=0)
    assert (parts.samples, parts.copies) == (180, 90)
    assert len(parts.selection[1]) == 60
    assert not np.isin(parts.selection[0], parts.proof[0]).any()


def two_inputs() -> keras.Model:
    inputs = [keras.Input((1,), name="left"), keras.Input((2,), name="right")]
    joined = keras.layers.Concatenate()(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(joined))


@pytest.mark.parametrize("given", ["tuple", "dict"])
def test_several_inputs_have_their_names(given):
    (x, y), (held, held_y) = numbered(0, 30), numbered(100, 90)

    def both(x):
        wide = np.concatenate([x, -x], axis=1)
        return (x, wide) if given == "tuple" else {"right": wide, "left": x}

    model = two_inputs()
    data, validation = (by_names(model, one) for one in ((both(x), np.eye(3)[y]), (both(held), np.eye(3)[held_y])))
    parts = parts_of(data, validation, seed=0)
    assert parts.data.classes == 3
    assert list(parts.data.train.x) == list(parts.proof[0]) == ["left", "right"]
    assert parts.data.train.drawn(8)["right"].shape == (8, 2)
    assert [len(y) for _, y in (parts.selection, parts.proof)] == [30, 60]
    np.testing.assert_array_equal(parts.proof[0]["right"][:, :1], parts.proof[0]["left"])
    batch, targets = parts.data.train.shuffled(4)[0]
    np.testing.assert_array_equal(targets, batch["left"][:, 0] % 3)
    with pytest.raises(ValueError, match=r"inputs \['left', 'right'\].*Received: an array"):
        by_names(model, (x, y))
    with pytest.raises(ValueError, match="Did you mean 'right'"):
        by_names(model, ({"left": x, "rihgt": x}, y))


def two_outputs(keys: bool = True) -> keras.Model:
    x = keras.Input((1,), name="x")
    right, left = (keras.layers.Dense(3, name=name)(x) for name in ("last", "first"))
    return keras.Model(x, {"right": right, "left": left} if keys else [right, left])


def test_targets_of_several_outputs_are_taken_by_name_or_in_the_order_of_the_model():
    (x, y), other = numbered(0, 6), np.zeros(6)
    for given in ({"right": y, "left": other}, [other, y], (other, y)):  # Keras sorts keys
        _, named = by_names(two_outputs(), (x, given))
        assert list(named) == ["left", "right"]
        assert np.array_equal(named["right"], y)
    assert list(by_names(two_outputs(keys=False), (x, [y, other]))[1]) == ["last", "first"]
    assert list(by_names(two_outputs(), [(x, {"right": y, "left": other})] * 2)[1]) == ["left", "right"]
    with pytest.raises(ValueError, match=r"\['left', 'right'\].*those of \['left', 'rihgt'\]\. Did you mean 'right'"):
        by_names(two_outputs(), (x, {"left": y, "rihgt": y}))
    with pytest.raises(ValueError, match=r"outputs \['left', 'right'\].*Received: 3 arrays"):
        by_names(two_outputs(), (x, (y, y, y)))
    with pytest.raises(ValueError, match=r"outputs \['left', 'right'\].*Received: an array"):
        by_names(two_outputs(), (x, y))
    one = keras.Sequential([keras.Input((1,)), keras.layers.Dense(3, name="y")])
    assert by_names(one, (x, {"y": y}))[1] is y


def test_names_in_a_dataset_of_tensorflow_are_looked_at_before_it_is_read():
    tf = pytest.importorskip("tensorflow")
    (x, y), other = numbered(0, 6), np.zeros(6)

    def batches(**targets):
        return tf.data.Dataset.from_tensor_slices((x, targets)).batch(3)

    read = list(by_names(two_outputs(), batches(right=y, left=other), anew=True))
    assert [list(targets) for _, targets in read] == [["left", "right"]] * 2
    assert np.array_equal(np.concatenate([targets["right"] for _, targets in read]), y)
    with pytest.raises(ValueError, match=r"^Expected targets.*'rihgt'\]. Did you mean 'right'\?$"):
        by_names(two_outputs(), batches(left=y, rihgt=y), anew=True)


@pytest.mark.parametrize("batched", [False, True])
def test_each_of_several_targets_becomes_classes_or_numbers(batched):
    (x, y), (held, held_y) = numbered(0, 30), numbered(100, 90)

    def both(x, y):
        return x, {"left": np.array(["a", "b", "c"])[y], "right": np.eye(3)[y], "size": x * 2}

    data, validation = both(x, y), both(held, held_y)
    if batched:
        import tensorflow as tf

        data = tf.data.Dataset.from_tensor_slices(data).shuffle(99).batch(7)
    parts = parts_of(data, validation, seed=0)
    assert parts.data.classes == {"left": 3, "right": 3, "size": None}
    assert parts.data.class_names == {"left": ("a", "b", "c"), "right": None, "size": None}
    assert not parts.data.is_classes
    keras.utils.set_random_seed(0)
    inputs, targets = next(iter(parts.data.train.shuffled(8)))
    expected = np.asarray(inputs).ravel().astype(int) % 3
    assert np.array_equal(targets["left"], expected)
    assert np.array_equal(targets["right"], expected)
    np.testing.assert_allclose(targets["size"], 2 * np.asarray(inputs))
    for kept, named in (parts.selection, parts.proof):
        assert np.array_equal(named["right"], (kept.ravel() - 100) % 3)
        np.testing.assert_allclose(named["size"], 2 * kept)
    assert len(parts.whole().proof[1]["left"]) == parts.samples == 90
    others = both(held, held_y)
    others[1]["right"] = others[1]["right"][::-1]
    assert parts_of(data, others, seed=0).digest != parts.digest


def test_validation_data_with_other_targets_is_refused():
    (x, y), (held, held_y) = numbered(0, 30), numbered(100, 90)
    with pytest.raises(ValueError, match=r"same names in y_train and y_test. Received: \['a'\] and \['b'\]"):
        parts_of((x, {"a": y}), (held, {"b": held_y}), seed=0)
    with pytest.raises(ValueError, match=r"y_train\['a'\].*negative"):
        parts_of((x, {"a": y - 1, "b": y}), (held, {"a": held_y, "b": held_y}), seed=0)


def test_other_validation_data_has_another_digest():
    data, (x, y) = numbered(0, 30), numbered(100, 90)
    digests = [parts_of(data, held, seed=0).digest for held in ((x, y), (x, y[::-1]), (x[::-1], y[::-1]), (x + 1, y))]
    assert len(set(digests)) == 4
    names = np.array(["ape", "bee", "cat"])[y]
    assert parts_of((data[0], names[:30]), (x, names), seed=0).digest not in digests


def test_missing_data_is_said():
    with pytest.raises(ValueError, match="Expected validation: .* Received: validation=None"):
        parts_of(numbered(0, 3), None, seed=0)
    with pytest.raises(ValueError, match="Expected data: .* Received: data=None"):
        parts_of(None, numbered(0, 3), seed=0)
    with pytest.raises(ValueError, match="y beside data|targets"):
        parts_of(numbered(0, 3), numbered(5, 3)[0], seed=0)
