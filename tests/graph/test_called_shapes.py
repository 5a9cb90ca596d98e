"""Subclassed models: the shapes and dtypes that they were called with are one and the same for every verb."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.check import but_rare
from tfcompress.graph import rebuild
from tfcompress.graph.inputs.symbolic import called_dtypes, recorded_shapes


@keras.saving.register_keras_serializable("tests")
class BuildsItself(keras.Model):
    """As many write it: `build` has the shape."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = L.Conv2D(4, 3)
        self.head = L.Dense(2)

    def build(self, input_shape=(None, 12, 12, 3)):
        self.conv.build(input_shape)
        self.head.build((None, 4))
        self.built = True

    def call(self, x):
        return self.head(ops.mean(self.conv(x), (1, 2)))


@keras.saving.register_keras_serializable("tests")
class BuildsWithoutShape(BuildsItself):
    def build(self, input_shape=None):
        super().build((None, 12, 12, 3))


@keras.saving.register_keras_serializable("tests")
class Table(L.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=(9, 4), name="table")

    def call(self, x):
        return ops.take(self.table, x, axis=0)


@keras.saving.register_keras_serializable("tests")
class Takes(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = self.make()
        self.head = L.Dense(2)

    def make(self):
        return Table()

    def call(self, x):
        return self.head(ops.mean(self.table(x), 1))


@keras.saving.register_keras_serializable("tests")
class Embeds(Takes):
    def make(self):
        return L.Embedding(7, 4)


@keras.saving.register_keras_serializable("tests")
class IdsAndNumbers(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = Table()
        self.head = L.Dense(2)

    def call(self, x):
        return self.head(ops.concatenate([ops.mean(self.table(x["ids"]), 1), x["numbers"]], -1))


@keras.saving.register_keras_serializable("tests")
class IdsAndLengths(keras.Model):
    """Takes what stands last in each sequence: a length is no larger than a sequence is long, an id may be."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = L.Embedding(40, 4)
        self.head = L.Dense(2)

    def call(self, x):
        last = ops.take_along_axis(self.table(x["ids"]), ops.reshape(x["lengths"] - 1, (-1, 1, 1)), 1)
        return self.head(ops.squeeze(last, 1))


@keras.saving.register_keras_serializable("tests")
class Nested(keras.Model):
    """Takes dicts in a dict, two of them with the same key, and holds what only training uses, never called."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = L.Embedding(7, 4)
        self.augmentation = keras.Sequential([L.RandomFlip(), L.Dense(3)])
        self.head = L.Dense(2)

    def call(self, x):
        words = self.table(x["text"]["ids"]) * ops.expand_dims(x["text"]["mask"], -1)
        return self.head(ops.concatenate([ops.mean(words, 1), x["image"]["mask"]], -1))


def ids():
    return np.random.default_rng(0).integers(0, 7, (20, 5)).astype("int32")


def called(model, x):
    model(keras.tree.map_structure(lambda part: part[:1], x))
    return model


def images():
    return np.random.default_rng(0).normal(size=(20, 12, 12, 3)).astype("float32")


def built(model):
    model.build()
    return model


def numbers():
    return {"ids": ids(), "numbers": np.ones((20, 3), "float32")}


def nested():
    numbers = np.random.default_rng(0).normal(size=(20, 5)).astype("float32")
    return {"text": {"ids": ids(), "mask": np.abs(numbers)}, "image": {"mask": numbers}}


MODELS = {
    "build called": (lambda: built(BuildsItself()), images, ["float32"]),
    "build and call": (lambda: called(BuildsItself(), images()), images, ["float32"]),
    "build with a shape": (lambda: called(BuildsWithoutShape(), images()), images, ["float32"]),
    "embedding": (lambda: called(Embeds(), ids()), ids, ["int32"]),
    "take": (lambda: called(Takes(), ids()), ids, ["int32"]),
    "ids and numbers": (lambda: called(IdsAndNumbers(), numbers()), numbers, ["int32", "float32"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_is_opened_as_it_was_called(name):
    make, data, dtypes = MODELS[name]
    model, x = make(), data()
    expected = np.asarray(model(x))
    assert called_dtypes(model) == dtypes
    opened = rebuild(model)
    assert [each.dtype for each in opened.inputs] == dtypes
    np.testing.assert_allclose(opened(x), expected, atol=1e-5)


@pytest.mark.parametrize("name", but_rare(MODELS, ("build and call", "build with a shape", "take")))
def test_every_verb_takes_it(name, tmp_path):
    make, data, dtypes = MODELS[name]
    model, x = make(), data()
    expected = np.asarray(model(x))
    tfc.prune(model, 0.5)
    quantized = tfc.quantize(model, "int8", x)
    assert [opened.dtype for opened in quantized.inputs] == dtypes
    for source, file in ((model, "m.onnx"), (quantized, "m.tflite")):
        artifact = tfc.export(source, tmp_path / file)
        assert sorted(info.dtype for info in artifact.inputs.values()) == sorted(dtypes)
        found = tfc.verify(source, artifact.path, x)
        assert found.samples == 20
        assert tfc.debug(source, artifact.path, x).samples == 20
        if source is model:
            assert found.outputs[0].max_rel < 1e-4
            np.testing.assert_allclose(artifact.predict(x), expected, atol=1e-4)
    assert tfc.benchmark(model, runs=1, warmup=1).runs == 1


@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called")  # Keras', of what is never called
def test_dicts_in_a_dict(tmp_path):
    x = nested()
    model = called(Nested(), x)
    expected = np.asarray(model(x))
    quantized = tfc.quantize(model, "int8_weights", x)
    assert [opened.name for opened in quantized.inputs] == ["image_mask", "text_ids", "text_mask"]
    artifact = tfc.export(model, tmp_path / "m.onnx", verify=x)
    np.testing.assert_allclose(artifact.predict(x), expected, atol=1e-5)
    assert tfc.verify(model, artifact.path, x).outputs[0].max_rel < 1e-5
    for judged in (model, artifact.path):
        assert tfc.evaluate(judged, x, expected, task="regression").mse < 1e-9
        assert tfc.benchmark(judged, runs=1, warmup=1).runs == 1


def test_a_loaded_model_takes_the_same(tmp_path):
    model = called(Embeds(), ids())
    model.save(tmp_path / "model.keras")
    loaded = tfc.load(tmp_path / "model.keras")
    assert called_dtypes(loaded) == ["int32"]
    artifact = tfc.export(loaded, tmp_path / "model.onnx")
    assert tfc.verify(loaded, artifact.path, ids()).outputs[0].max_rel < 1e-5


def test_what_the_user_says_counts(tmp_path):
    model = built(BuildsWithoutShape())
    assert tfc.export(model, tmp_path / "a.onnx", input_shapes=(12, 12, 3)).inputs["x"].shape == (None, 12, 12, 3)
    model = called(Takes(), ids())
    for dtypes in ("int64", ["int64"], {"x": "int64"}):
        artifact = tfc.export(model, tmp_path / "b.onnx", input_dtypes=dtypes, overwrite=True)
        assert artifact.inputs["x"].dtype == "int64"
    quantized = tfc.quantize(model, "int8_weights", input_dtypes="int64")
    pruned = tfc.prune(model, 0.5, input_dtypes="int64")
    assert quantized.inputs[0].dtype == pruned.inputs[0].dtype == "int64"
    for wrong in ("number", {"y": "int32"}, ["int32", "int32"]):
        with pytest.raises(ValueError, match="Expected input_dtypes"):
            tfc.export(model, tmp_path / "c.onnx", input_dtypes=wrong)


def test_lengths_beside_ids(tmp_path):
    x = {"ids": ids(), "lengths": np.random.default_rng(0).integers(1, 6, 20).astype("int32")}
    model = called(IdsAndLengths(), x)
    assert called_dtypes(model) == ["int32", "int32"]
    quantized = tfc.quantize(tfc.prune(model, 0.5), "int8", x)
    for file in ("m.tflite", "m.onnx"):
        assert tfc.export(quantized, tmp_path / file, verify=x).parity is not None


def test_floats_stay_floats_beside_a_table():
    """What is rounded or thresholded isn't looked up."""

    class Thresholds(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = L.Dense(1)

        def call(self, x):
            return self.head(ops.cast(x > 0.5, "float32"))

    model = called(Thresholds(), np.ones((2, 4), "float32"))
    assert called_dtypes(model) == ["float32"]
    assert recorded_shapes(model) == {"input_shape": (1, 4)}


class Around(keras.Model):
    """Holds a model, and calls itself built, so that Keras records no shapes."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.built = True

    def call(self, inputs):
        return 2.0 * self.inner(inputs)


@pytest.mark.parametrize("structure", ["one", "list", "dict"])
def test_a_model_around_a_graph_that_recorded_no_shapes(structure):
    x = [np.random.default_rng(0).normal(size=(4, size)).astype("float32") for size in (3, 2)]
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    out = L.Dense(2)(a if structure == "one" else L.Concatenate()([a, b]))
    given, x = {"one": (a, x[0]), "list": ([a, b], x), "dict": ({"a": a, "b": b}, dict(zip("ab", x, strict=True)))}[
        structure
    ]
    model = Around(keras.Model(given, out))
    copy = rebuild(model)
    np.testing.assert_allclose(np.asarray(copy(x)), np.asarray(model(x)), rtol=1e-6)
