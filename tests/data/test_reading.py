"""Data as people have it, in all verbs that take any; and what is no data."""

import weakref
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

import tfcompress as tfc
from tests.check import but_rare
from tfcompress.data.array_checks import array_of, check_finite, one_hot_classes
from tfcompress.data.reading import collected, inputs_of
from tfcompress.pipeline import read_npz
from tfcompress.pipeline.losses import loss_for

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int64") + (X[:, 1] > 0)


class OnlyArray:
    """Has `__array__` and no more, as a column of many a table."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return (len(self.y) + 15) // 16

    def __getitem__(self, index):
        part = slice(16 * index, 16 * index + 16)
        return keras.tree.map_structure(lambda x: x[part], (self.x, self.y))


def classifier(outputs=3, activation="softmax"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), name="x")
    return keras.Model(inputs, L.Dense(outputs, activation=activation, name="y")(inputs))


def both(x, y):
    """The same data in every form that `fit` takes."""
    return {
        "tf.data": lambda: tf.data.Dataset.from_tensor_slices((x, y)).batch(7),
        "PyDataset": lambda: Batches(x, y),
        "generator": lambda: (Batches(x, y)[i] for i in range(3)),
        "function": lambda: lambda: (Batches(x, y)[i] for i in range(3)),
        "pair": lambda: (x, y),
        "list": lambda: [Batches(x, y)[i] for i in range(3)],
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return [tfc.export(classifier(), folder / name).path for name in ("m.tflite", "m.onnx")]


@pytest.mark.parametrize("form", both(X, Y))
def test_evaluate_and_compare_take_what_fit_takes(form, files):
    expected = tfc.evaluate(classifier(), X, Y)
    for source in (classifier(), *files):
        found = tfc.evaluate(source, both(X, Y)[form]())
        assert found.samples == 40
        assert found.to_dict()["accuracy"] == pytest.approx(expected.accuracy)
    report = tfc.compare({"a": classifier(), "b": files[1]}, both(X, Y)[form](), latency=False)
    assert report["b"].metrics.accuracy == pytest.approx(expected.accuracy)


INPUTS = {
    "array": lambda: X,
    "arrays": lambda: [X[:16], X[16:]],
    "inputs": lambda: tf.data.Dataset.from_tensor_slices(X).batch(7),
    "inputs, once": lambda: iter([X[:16], X[16:]]),
    "with weights": lambda: (X, Y, np.ones(40)),
}
"""What verbs take besides that look at inputs alone."""


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    model = tfc.quantize(classifier(), "int8", X)
    return model, tfc.export(model, tmp_path_factory.mktemp("quantized") / "m.onnx").path


# All verbs read by `inputs_of`, which other tests give every form.
@pytest.mark.parametrize(
    "form", but_rare({**both(X, Y), **INPUTS}, ("PyDataset", "function", "pair", "list", "arrays"))
)
def test_verbs_of_inputs_take_what_fit_takes(form, files, quantized, tmp_path):
    make, (integer, file) = {**both(X, Y), **INPUTS}[form], quantized
    for path in files:
        assert tfc.verify(classifier(), path, make()).samples == 40
    assert tfc.benchmark(classifier(), make(), runs=1, warmup=1, batch_size=3).batch_size == 3
    assert tfc.export(classifier(), tmp_path / "m.onnx", verify=make()).parity is not None
    assert tfc.debug(integer, file, make()).samples == 40
    assert tfc.check_float16(classifier(), make()).samples == 40
    weights = integer.get_weights()
    tfc.calibrate(integer, make())
    for one, other in zip(weights, integer.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)  # one set of data gives one range


@pytest.mark.parametrize("form", but_rare(both(X, Y), ("function", "pair", "list")))
def test_verbs_of_inputs_and_targets_take_what_fit_takes(form):
    make, how = both(X, Y)[form], {"sparsities": (0.5,), "progress": False}
    assert tfc.sensitivity(classifier(), make(), **how) == tfc.sensitivity(classifier(), (X, Y), **how)
    how = {"criterion": "gradient", "loss": "sparse_categorical_crossentropy"}
    assert tfc.sparsity(tfc.prune_once(classifier(), 0.5, make(), **how)) == 0.5


def test_dicts_of_batches():
    inputs = {name: keras.Input((4,), name=name) for name in "ab"}
    model = keras.Model(inputs, L.Dense(3)(inputs["a"] - inputs["b"]))
    x = {"a": X, "b": X[::-1]}
    expected = tfc.evaluate(model, x, Y).accuracy
    for form, make in both(x, Y).items():
        assert tfc.evaluate(model, make()).accuracy == expected, form


def test_what_only_has_an_array(files):
    only = OnlyArray(X)
    expected = tfc.evaluate(classifier(), X, Y).accuracy
    for source in (classifier(), *files):
        assert tfc.evaluate(source, only, OnlyArray(Y)).accuracy == pytest.approx(expected)
    assert tfc.verify(classifier(), files[0], only).samples == 40
    assert tfc.benchmark(files[0], data=only, runs=1, warmup=1).runs == 1
    quantized = tfc.quantize(classifier(), "int8", only)
    tfc.calibrate(quantized, [OnlyArray(X[:16]), (OnlyArray(X[16:]), OnlyArray(Y[16:]))])
    tfc.prune_once(
        classifier(), 0.5, (only, OnlyArray(Y)), criterion="gradient", loss="sparse_categorical_crossentropy"
    )


def test_lists_of_lists_are_samples(files):
    quantized = tfc.quantize(classifier(), "int8", X)
    for rows in (X.tolist(), tuple(map(tuple, X.tolist())), memoryview(X)):
        assert tfc.verify(classifier(), files[0], rows).samples == 40
        assert tfc.evaluate(classifier(), rows, Y.tolist()).samples == 40
    found = tfc.quantize(classifier(), "int8", X.tolist())
    for one, other in zip(found.get_weights(), quantized.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    inputs = [keras.Input((4,)), keras.Input((4,))]
    two = keras.Model(inputs, L.Dense(3)(inputs[0] - inputs[1]))
    tfc.quantize(two, "int8", [X.tolist(), X[::-1].tolist()])
    with pytest.raises(ValueError, match="rows may be of different lengths"):
        tfc.quantize(classifier(), "int8", [[1.0, 2.0, 3.0, 4.0], [1.0]])


def test_labels_of_every_kind():
    names = np.array(["ant", "bee", "cat"])
    expected = tfc.evaluate(classifier(), X, Y)
    for y in (
        Y,
        Y[:, None],
        np.eye(3)[Y],
        np.eye(3, dtype=bool)[Y],
        Y.astype("float32"),
        names[Y],
        names[Y].astype(object),
    ):
        assert tfc.evaluate(classifier(), X, y).accuracy == expected.accuracy
    named = tfc.evaluate(classifier(), X, names[::-1][Y], class_names=["cat", "bee", "ant"])
    assert named.accuracy == expected.accuracy
    assert [entry.name for entry in named.classes] == ["cat", "bee", "ant"]
    binary = tfc.evaluate(classifier(1, "sigmoid"), X, Y > 0)
    for y in (
        (Y > 0).astype(int),
        np.array(["no", "yes"])[(Y > 0).astype(int)],
        (Y > 0)[:, None],
        np.eye(2)[(Y > 0).astype(int)],
    ):
        assert tfc.evaluate(classifier(1, "sigmoid"), X, y).accuracy == binary.accuracy
    with pytest.raises(ValueError, match="'dog' in y, which is none of"):
        tfc.evaluate(classifier(), X, np.array(["dog"] * 40), class_names=list(names))
    with pytest.raises(ValueError, match="3 classes of the output by name.*Give class_names"):
        tfc.evaluate(classifier(), X, np.array(["dog"] * 40))


def test_one_hot_for_a_loss_of_classes():
    arguments = {"criterion": "gradient", "loss": "sparse_categorical_crossentropy"}
    sparse, dense = (tfc.prune_once(classifier(), 0.5, (X, y), **arguments) for y in (Y, np.eye(3)[Y]))
    np.testing.assert_array_equal(sparse.layers[1].kernel, dense.layers[1].kernel)


def spoiled(value, row=5, column=2):
    x = X.copy()
    x[row, column] = value
    return x


BAD = {
    "NaN": (lambda: spoiled(np.nan), "NaN in row 5, column 2"),
    "infinity": (lambda: spoiled(np.inf), "infinity in row 5, column 2"),
    "all NaN": (lambda: np.full_like(X, np.nan), "NaN in row 0, column 0"),
    "complex": (lambda: X.astype("complex64"), "complex"),
    "text": (lambda: X.astype(str), "dtype <U"),
    "ragged": (lambda: [list(row[: 1 + place % 4]) for place, row in enumerate(X)], "different lengths"),
    "ragged tensor": (lambda: tf.ragged.constant([[1.0], [2.0, 3.0]]), "RaggedTensor"),
    "objects": (lambda: np.array([{} for _ in range(40)], dtype=object), "dtype object.*type dict"),
    "dates": (lambda: np.zeros((40, 4), "datetime64[D]"), "datetime64"),
    "too large": (lambda: X.astype("float64") + 1e39, "infinity in float32, in row 0, column 0"),
    "masked": (lambda: np.ma.masked_greater(X, 0), "masked array with .* of 160 values masked"),
    "number": (lambda: 3.0, r"scalar|shape|data of type float"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_data_is_refused_as_inputs(name, files, tmp_path):
    make, message = BAD[name]
    verbs = {
        "evaluate": lambda x: tfc.evaluate(classifier(), x, Y),
        "evaluate file": lambda x: tfc.evaluate(files[0], x, Y),
        "compare": lambda x: tfc.compare({"a": classifier()}, x, Y, latency=False),
        "verify": lambda x: tfc.verify(classifier(), files[1], x),
        "benchmark": lambda x: tfc.benchmark(classifier(), data=x, runs=1),
        "export": lambda x: tfc.export(classifier(), tmp_path / "m.onnx", verify=x),
        "debug": lambda x: tfc.debug(classifier(), files[0], x),
        "quantize": lambda x: tfc.quantize(classifier(), "int8", x),
        "check_float16": lambda x: tfc.check_float16(classifier(), x),
    }
    for verb, call in verbs.items():
        with pytest.raises(ValueError, match=f"(?s)Expected.*{'' if 'ragged' in name else message}"):
            call(make())
            pytest.fail(verb)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("name", [name for name in BAD if name not in ("text", "number", "ragged tensor")])
def test_what_is_no_data_is_refused_as_targets(name):
    make = BAD[name][0]
    for call in (
        lambda y: tfc.evaluate(classifier(4), X, y),
        lambda y: tfc.compare({"a": classifier(4)}, X, y, latency=False),
        lambda y: tfc.prune_once(classifier(4), 0.5, (X, y), criterion="gradient", loss="mse"),
    ):
        with pytest.raises(ValueError, match="Expected"):
            call(make())


def test_messages_say_where():
    x = np.ones((10, 3, 5), "float32")
    x[7, 2, 4] = -np.inf
    with pytest.raises(ValueError, match=r"infinity in row 7, column 4 \(1 of 150 values isn't finite\)"):
        check_finite(x, "x")
    x[..., 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN in row 0, column 1 \(31 of 150 .*; no value of column 1 is"):
        check_finite(x, "x")
    with pytest.raises(ValueError, match="NaN in row 1 "):
        check_finite(np.array([0, np.nan]), "y")
    assert array_of(tf.constant([1, 2], "bfloat16"), "x").shape == (2,)


def test_batches_without_targets_or_none():
    with pytest.raises(ValueError, match="Give the targets too"):
        collected([X, X])
    with pytest.raises(ValueError, match="at least one batch"):
        collected(iter(()))
    with pytest.warns(UserWarning, match="weights are left out"):
        collected([(X, Y, np.ones(40))])
    assert [part.shape for part in inputs_of([(X, Y), (X[:3], Y[:3])])] == [(40, 4), (3, 4)]
    assert one_hot_classes(np.eye(2) * 2) is None


def write(path, **changes):
    arrays = {"x_train": X[:30], "y_train": Y[:30], "x_test": X[30:], "y_test": Y[30:], **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_files_with_labels_of_every_kind(tmp_path):
    names = np.array(["ant", "bee", "cat"])
    for form in (lambda y: np.eye(3)[y], lambda y: y[:, None], lambda y: names[y], lambda y: np.eye(3, dtype=bool)[y]):
        data = read_npz(write(tmp_path / "data.npz", y_train=form(Y[:30]), y_test=form(Y[30:])))
        assert data.classes == 3
        np.testing.assert_array_equal(data.y_test, Y[30:])
    flags = read_npz(write(tmp_path / "data.npz", y_train=Y[:30] > 0, y_test=Y[30:] > 0))
    assert flags.classes == 2
    model = classifier()
    model.compile("sgd", "categorical_crossentropy")
    assert isinstance(loss_for(model, data), keras.losses.SparseCategoricalCrossentropy)
    assert loss_for(model, data).from_logits is False


@pytest.mark.parametrize("what", ["x_train", "y_train", "x_test", "y_test"])
def test_files_with_what_is_no_data(what, tmp_path):
    for spoil in (np.nan, np.inf):
        values = np.full((30 if "train" in what else 10, 4), 0.5)
        values[2, 1] = spoil
        with pytest.raises(ValueError, match=f"{what}.*row 2, column 1"):
            read_npz(write(tmp_path / "data.npz", **{what: values}))
    for wrong in (np.ones(30) * 1j, np.float32(3), np.array([{}], dtype=object)):
        with pytest.raises(ValueError, match="Expected"):
            read_npz(write(tmp_path / "data.npz", **{what: wrong}))


def test_every_flipped_bit_is_found_or_harmless(tmp_path):
    path = write(tmp_path / "data.npz")
    content = path.read_bytes()
    for at in range(0, len(content), 37):
        path.write_bytes(content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])
        try:
            read_npz(path)
        except ValueError as error:
            assert str(error).startswith("Expected"), error
    for length in (0, 10, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="Expected an .npz"):
            read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", "no array")
    with pytest.raises(ValueError, match="Expected"):
        read_npz(path)


def test_batches_that_were_judged_are_let_go():
    alive = []

    def batches():
        for start in range(0, len(X), 4):
            x = X[start : start + 4].copy()
            alive.append(weakref.ref(x))
            assert sum(one() is not None for one in alive) <= 3
            yield x, Y[start : start + 4]

    model = classifier()
    report = tfc.compare({"a": model, "b": model}, batches, latency=False)
    assert report["b"].metrics.accuracy == tfc.evaluate(model, X, Y).accuracy
    assert len(alive) == -(-len(X) // 4)
