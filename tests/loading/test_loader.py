"""`tfc.load`: files of Keras 3, and of Keras 2 as tf_keras writes them."""

import json
import os
import shutil
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest

from tfcompress.loading import keras2 as keras2_module
from tfcompress.loading import load

FORMATS = {"model.h5": "h5", "saved_model": "tf", "model.keras": "keras"}


@pytest.fixture(autouse=True)
def seeded():
    """Seeds as everywhere; the session isn't cleared, which would collect garbage for 0.3 s before each test."""
    keras.utils.set_random_seed(1234)


@pytest.fixture(scope="module")
def tk():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tf_keras
    return tf_keras


def randomize(legacy):
    """Give every weight a value of its own, variances too."""
    rng = np.random.default_rng(0)
    legacy.set_weights([w + np.abs(rng.normal(0, 0.1, w.shape)) for w in legacy.get_weights()])
    return legacy


def save(legacy, folder, name):
    file = folder / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        legacy.save(file, save_format=FORMATS.get(name, "h5"))
    return file


def assert_same(model, legacy, *inputs):
    assert isinstance(model, keras.Model)
    assert model.__class__.__module__.startswith("keras.")
    ours = model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = legacy.predict(list(inputs) if len(inputs) > 1 else inputs[0], verbose=0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def image(shape=(4, 8, 8, 3)):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def mobile(tk):
    """What fails in plain Keras 3: `groups` of depthwise, kernel arguments of separable convolutions."""
    layers = tk.layers
    x = inputs = tk.Input((8, 8, 3), name="image")
    for stride in (2, 1):
        x = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU(6.0)(x)
    x = layers.SeparableConv2D(4, 3, padding="same", name="block/separable")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return randomize(tk.Model(inputs, layers.Dense(3, activation="softmax", name="class")(x)))


@pytest.mark.parametrize("name", FORMATS)
def test_a_mobile_net_of_keras2(tk, tmp_path, name):
    legacy = mobile(tk)
    file = save(legacy, tmp_path, name)
    model = load(file)
    assert_same(model, legacy, image())
    for ours, theirs in zip(model.get_weights(), legacy.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [tensor.name for tensor in model.inputs] == ["image"]
    assert model.output_names == ["class"]
    model.compile("sgd", "mse")  # it is a Keras 3 model: it trains, saves, loads
    model.fit(image(), np.zeros((4, 3)), verbose=0)
    model.save(tmp_path / "again.keras")
    np.testing.assert_array_equal(load(tmp_path / "again.keras").get_weights()[0], model.get_weights()[0])


def test_hard_sigmoid_means_what_it_meant(tk, tmp_path):
    """Keras 3 loads this file without a word, and computes something else."""
    layers = tk.layers
    legacy = tk.Sequential([layers.Input((4,)), layers.Dense(2, activation="hard_sigmoid")])
    file = save(randomize(legacy), tmp_path, "model.h5")
    x = image((3, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = keras.models.load_model(file, compile=False)
        assert np.abs(plain.predict(x, verbose=0) - legacy.predict(x, verbose=0)).max() > 1e-3
    assert_same(load(file), legacy, x)
    load(file).save(tmp_path / "new.keras")
    assert_same(load(tmp_path / "new.keras"), legacy, x)


def attention(tk):
    x = tk.Input((5, 4))
    y = tk.layers.MultiHeadAttention(2, 3)(x, value=x)
    return tk.Model(x, tk.layers.Attention()([y, x])), [image((2, 5, 4))]


def inner_models(tk):
    x = tk.Input((4,))
    sequential = tk.Sequential([tk.layers.Input((4,)), tk.layers.Dense(4, activation="relu")], name="sequential")
    y = tk.Input((4,))
    functional = tk.Model(y, tk.layers.Dense(4)(y), name="functional")
    twice = functional(sequential(sequential(functional(x))))
    return tk.Model(x, tk.layers.Dense(2)(twice)), [image((2, 4))]


def inner_model_last(tk):
    x, y = tk.Input((4,)), tk.Input((4,))
    functional = tk.Model(y, tk.layers.Dense(4, activation="tanh")(y), name="functional")
    return tk.Model(x, functional(functional(x))), [image((2, 4))]


def operations(tk):
    x = tk.Input((4,))
    y = tk.layers.Dense(4)(x)
    return tk.Model(x, (tk.layers.ReLU(6.0)(y + 3.0) * (1 / 6) - 0.5) * y), [image((2, 4))]


def sequence_to_sequence(tk):
    a, b = tk.Input((5, 4)), tk.Input((3, 4))
    _, *state = tk.layers.LSTM(3, return_state=True)(a)
    return tk.Model([a, b], tk.layers.GRU(3)(b, initial_state=state[0])), [image((2, 5, 4)), image((2, 3, 4))]


def words(tk):
    layers = [tk.layers.Embedding(11, 4, input_length=6, mask_zero=True), tk.layers.Bidirectional(tk.layers.GRU(3))]
    model = tk.Sequential(layers)
    return model, [np.random.default_rng(0).integers(0, 11, (3, 6)).astype("float32")]


def old_lstm(tk):
    cell = tk.layers.LSTM(5, recurrent_activation="hard_sigmoid")
    return tk.Sequential([tk.layers.Input((6, 4)), cell, tk.layers.Activation("hard_sigmoid")]), [image((3, 6, 4))]


def augmented(tk):
    layers = tk.layers
    steps = [layers.RandomFlip(), layers.RandomRotation(0.1), layers.Rescaling(0.1), layers.SpatialDropout2D(0.2)]
    more = [layers.ThresholdedReLU(0.05), layers.Conv2D(2, 3), layers.Flatten()]
    return tk.Sequential([layers.Input((8, 8, 3)), *steps, *more]), [image()]


def any_size(tk):
    layers = tk.layers
    steps = [layers.Conv2D(2, 3, strides=2), layers.Conv2D(2, 3, strides=2), layers.GlobalMaxPooling2D()]
    return tk.Sequential([layers.Input((None, None, 3)), *steps]), [image((2, 20, 30, 3))]


ARCHITECTURES = [
    attention,
    inner_models,
    inner_model_last,
    operations,
    sequence_to_sequence,
    words,
    old_lstm,
    augmented,
    any_size,
]


@pytest.mark.parametrize("make", ARCHITECTURES, ids=lambda make: make.__name__)
def test_h5_of_keras2(tk, tmp_path, make):
    legacy, inputs = make(tk)
    randomize(legacy)
    assert_same(load(save(legacy, tmp_path, "model.h5")), legacy, *inputs)


def test_a_mixed_precision_model(tk, tmp_path):
    x = tk.Input((4,))
    dense = tk.layers.Dense(4, dtype=tk.mixed_precision.Policy("mixed_float16"))
    legacy = tk.Model(x, tk.layers.Dense(2, dtype="float32")(dense(x)))
    model = load(save(legacy, tmp_path, "model.h5"))
    assert model.layers[1].compute_dtype == "float16"
    np.testing.assert_array_equal(model.get_weights()[0], legacy.get_weights()[0])


def test_another_result_is_never_silent(tk, tmp_path, monkeypatch):
    """Weights that went astray on the way: the comparison with Keras 2 sees it."""
    file = save(mobile(tk), tmp_path, "model.h5")
    read = keras2_module.read

    def astray(*args, **kwargs):
        model = read(*args, **kwargs)
        weights = model.get_weights()
        weights[-1] = weights[-1] + np.array([0.01, 0, 0])
        model.set_weights(weights)
        return model

    monkeypatch.setattr(keras2_module, "read", astray)
    with pytest.raises(ValueError, match="Expected Keras 3 to compute what Keras 2 does"):
        load(file)


def test_the_environment_stays(tk, tmp_path, monkeypatch):
    file = save(mobile(tk), tmp_path, "model.h5")
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    load(file)
    assert "TF_USE_LEGACY_KERAS" not in os.environ
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0")
    load(file)
    assert os.environ["TF_USE_LEGACY_KERAS"] == "0"
    assert keras.__version__.startswith("3")


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".hdf5"])
def test_files_of_keras3(tmp_path, suffix):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.DepthwiseConv2D(3)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    model.compile("adam", "mse")
    file = tmp_path / f"model{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(file)
    again = load(str(file))
    np.testing.assert_array_equal(again.predict(image(), verbose=0), model.predict(image(), verbose=0))
    assert again.compiled == (suffix == ".keras")


def test_a_loss_that_is_not_known(tmp_path):
    def strange(y, p):
        return keras.ops.mean(keras.ops.abs(y - p))

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", strange)
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="Compile it before training"):
        again = load(tmp_path / "model.keras")
    assert not again.compiled
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize("name", FORMATS)
def test_code_of_keras2_is_refused(tk, tmp_path, name):
    x = tk.Input((4,))
    inner = tk.Sequential([tk.layers.Input((4,)), tk.layers.Lambda(lambda t: t * 3, name="thrice")])
    legacy = tk.Model(x, tk.layers.Dense(2)(inner(x)))
    file = save(legacy, tmp_path, name)
    with pytest.raises(ValueError, match=f"{name}', where 'thrice' would run code.*unsafe=True"):
        load(file)
    assert_same(load(file, unsafe=True), legacy, image((2, 4)))


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_code_of_keras3_is_refused(tmp_path, name):
    thrice = keras.layers.Lambda(lambda t: t * 3, output_shape=(4,), name="thrice")
    model = keras.Sequential([keras.Input((4,)), thrice])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(tmp_path / name)
    with pytest.raises(ValueError, match="where 'thrice' would run code.*unsafe=True"):
        load(tmp_path / name)
    x = image((2, 4))
    np.testing.assert_allclose(load(tmp_path / name, unsafe=True).predict(x, verbose=0), 3 * x)


def test_what_is_not_there_or_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.keras"):
        load(tmp_path / "missing.keras")
    for suffix in (".tflite", ".onnx"):
        with pytest.raises(ValueError, match=r"is a result and can't be trained.*tfc.evaluate"):
            load(tmp_path / f"model{suffix}")
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Expected a file that ends in \.keras, \.h5, \.hdf5, or a SavedModel"):
        load(tmp_path / "model.pt")
    with pytest.raises(ValueError, match="holds no saved_model.pb"):
        load(tmp_path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_broken_files(tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(40)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(file)
    whole = file.read_bytes()
    for content in (b"", b"not a model", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"model{suffix}"):
            load(file)


def test_a_broken_archive(tmp_path):
    file = tmp_path / "model.keras"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", "{")
        archive.writestr("metadata.json", "{}")
    with pytest.raises(ValueError, match="broken or something else"):
        load(file)


def test_weights_alone(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match="holds weights alone.*load_weights"):
        load(tmp_path / "model.weights.h5")


def test_layers_that_nobody_registered(tmp_path):
    class Mine(keras.layers.Layer):
        def call(self, x):
            return x

    keras.Sequential([keras.Input((2,)), Mine()]).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="Mine.*register_keras_serializable"):
        load(tmp_path / "model.keras")


def test_saved_models_without_layers(tk, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.export(tmp_path / "exported", verbose=False)
    with pytest.raises(ValueError, match="holds no keras_metadata.pb.*Save the model again as .keras"):
        load(tmp_path / "exported")

    class Subclassed(tk.Model):
        def __init__(self):
            super().__init__()
            self.dense = tk.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    legacy = Subclassed()
    legacy(np.ones((1, 3), "float32"))
    with pytest.raises(ValueError, match="layers can't be recovered"):
        load(save(legacy, tmp_path, "saved_model"))


def test_layers_that_keras3_has_no_more(tk, tmp_path):
    legacy = tk.Sequential([tk.layers.Input((8, 4)), tk.layers.LocallyConnected1D(2, 3)])
    with pytest.raises(ValueError, match="LocallyConnected1D.*replaced where the model is made"):
        load(save(legacy, tmp_path, "model.h5"))


def test_what_keras2_can_not_check_is_said(tk, tmp_path):
    """A layer that is registered with Keras 3 alone."""

    @keras.saving.register_keras_serializable(package="test_loading")
    class Half(keras.layers.Layer):
        def call(self, x):
            return x / 2

    legacy = tk.Sequential([tk.layers.Input((4,)), tk.layers.Dense(2), tk.layers.ReLU(name="half")])
    file = save(legacy, tmp_path, "model.h5")
    with h5py.File(file, "r+") as stored:
        config = json.loads(stored.attrs["model_config"])
        config["config"]["layers"][-1].update(class_name="test_loading>Half", config={"name": "half"})
        stored.attrs["model_config"] = json.dumps(config)
    with pytest.warns(UserWarning, match="not compared with Keras 2"):
        model = load(file)
    x = image((2, 4))
    np.testing.assert_allclose(model.predict(x, verbose=0), (x @ model.get_weights()[0]) / 2, rtol=1e-4, atol=1e-6)


def test_the_file_is_only_read(tk, tmp_path):
    file = save(mobile(tk), tmp_path, "model.h5")
    before = file.read_bytes()
    file.chmod(0o444)
    load(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    shutil.rmtree(tmp_path)
