"""Data, default models and losses of the main job."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from sklearn.datasets import load_wine

from tfcompress import PolynomialSparsity, evaluate, export, prune, quantize
from tfcompress.data.sources.source import Request
from tfcompress.data.sources.table import open_dataset
from tfcompress.pipeline import Data, check_fits, default_model, digits, fit, read_npz
from tfcompress.pipeline.losses import loss_for
from tfcompress.pipeline.pruning_configs import rising_schedule
from tfcompress.recipes.compress_job import recipe_of


def data(shape=(6,), classes=3, dtype="float32"):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20, *shape)).astype(dtype)
    y = generator.integers(0, classes, 20) if classes else generator.normal(size=20)
    return Data("made", x[:15], y[:15], x[15:], y[15:])


@pytest.mark.parametrize("shape", [(6,), (5, 5), (8, 8, 3), (2, 3, 4, 5)])
def test_default_model_fits_its_data(shape):
    given = data(shape, classes=4)
    model = default_model(given)
    check_fits(model, given)
    assert model.output_shape == (None, int(given.y_train.max()) + 1 if given.classes is None else given.classes)


def test_the_model_for_a_table_brings_its_columns_to_one_size(tmp_path):
    """Without that, scikit-learn's wine comes to 50 % here: columns reach from 0.1 to 1,680."""
    wine = load_wine()
    towns = np.where(np.arange(178) % 45, "big", "small")
    rows = [[*x, town, wine.target_names[y]] for x, town, y in zip(wine.data, towns, wine.target, strict=True)]
    rows = [[*"abcdefghijklm", "town", "kind"], *rows]
    (tmp_path / "wine.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    given = open_dataset(str(tmp_path / "wine.csv"), Request(label="kind"))
    keras.utils.set_random_seed(0)
    model = default_model(given)
    first = model.get_layer("normalization")(given.train.first(1000))
    np.testing.assert_allclose(np.mean(first[:, :13], axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.std(first[:, :13], axis=0), 1, atol=1e-4)
    assert set(np.unique(first[:, 13:])) == {0, 1}  # categories, of which one is rare
    pruned = prune(model, PolynomialSparsity(0.0, 0.5, begin_step=5, end_step=30, frequency=5))
    fit(pruned, given, loss_for(model, given), epochs=10, batch_size=32, learning_rate=2e-3)
    with pytest.warns(UserWarning, match="'normalization' stays float"):
        quantized = quantize(pruned, "int8", data=given.train.drawn(256))
    for kind in ("tflite", "onnx"):
        assert evaluate(export(quantized, tmp_path / f"wine.{kind}"), given.test.in_order()).accuracy > 0.94


def test_the_model_for_images_learns_in_few_steps():
    """With Keras' momentum of batch normalization it comes to 28 % here, as pixels are 0 to 1."""
    given = digits()
    keras.utils.set_random_seed(0)
    model = default_model(given)
    fit(model, given, loss_for(model, given), epochs=2, batch_size=64, learning_rate=2e-3)
    assert evaluate(model, given.x_test, given.y_test).accuracy > 0.9


def test_the_model_for_sound_brings_it_to_one_loudness():
    wave = np.random.default_rng(0).normal(3e-4, 1e-3, (10, 1100, 1)).astype("float32")
    given = Data("waves", wave[:6], np.arange(6) % 2, wave[6:], np.arange(4) % 2)
    model = default_model(given)
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model)).layers[1].variance == (
        model.layers[1].variance
    )
    made = model.layers[1](given.x_train)
    np.testing.assert_allclose([np.mean(made), np.std(made)], [0, 1], atol=1e-3)


def test_data_that_does_not_fit_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((6,)), L.Dense(3)])
    with pytest.raises(ValueError, match=r"samples of shape \(6,\). Received: \(5,\)"):
        check_fits(model, data((5,)))
    with pytest.raises(ValueError, match="classes from 0 to 2.*Received: 4"):
        check_fits(model, data(classes=5))
    two = keras.Model(model.inputs, [model.outputs[0], model.outputs[0] + 1.0])
    with pytest.raises(ValueError, match="one input and one output"):
        check_fits(two, data())
    with pytest.raises(ValueError, match="finite numbers in x_train"):
        Data("d", np.full((2, 3), np.nan), np.zeros(2, int), np.zeros((2, 3)), np.zeros(2, int))
    with pytest.raises(ValueError, match="at least two classes"):
        default_model(data(classes=1))
    with pytest.raises(ValueError, match="one shape"):
        Data("d", np.zeros((2, 3)), np.zeros(2, int), np.zeros((2, 4)), np.zeros(2, int))
    np.savez(tmp_path / "part.npz", x_train=np.zeros(3))
    with pytest.raises(ValueError, match="y_train, x_test, y_test missing"):
        read_npz(tmp_path / "part.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="Expected an .npz file"):
        read_npz(tmp_path / "text.npz")


def test_digits_are_split_evenly():
    given = digits()
    assert given.x_train.shape == (1347, 8, 8, 1)
    assert np.ptp(np.bincount(given.y_test)) <= 3
    assert 0 <= given.x_test.min() < given.x_test.max() <= 1


def test_loss_follows_the_last_layer_and_the_targets():
    inputs = keras.Input((6,))
    logits, sure = L.Dense(3)(inputs), L.Dense(3, activation="softmax")(inputs)
    assert loss_for(keras.Model(inputs, logits), data()).get_config()["from_logits"] is True
    assert loss_for(keras.Model(inputs, sure), data()).get_config()["from_logits"] is False
    assert loss_for(keras.Model(inputs, L.Softmax()(logits)), data()).get_config()["from_logits"] is False
    binary = loss_for(keras.Model(inputs, L.Dense(1, activation="sigmoid")(inputs)), data(classes=2))
    assert isinstance(binary, keras.losses.BinaryCrossentropy)
    assert isinstance(loss_for(keras.Model(inputs, L.Dense(1)(inputs)), data(classes=0)), keras.losses.MeanSquaredError)
    compiled = keras.Model(inputs, logits)
    compiled.compile("sgd", "mae")
    assert loss_for(compiled, data()) == "mae"


@pytest.mark.parametrize("steps", [1, 3, 40, 430, 10_000])
def test_the_schedule_ends_in_time(steps):
    schedule = rising_schedule(0.8, steps)
    assert 0 < schedule.end_step <= max(steps, 1)
    assert (schedule.end_step - schedule.begin_step) % schedule.frequency == 0


def test_bad_arguments_of_the_main_job_are_refused():
    for arguments in ({"finetune_epochs": 0}, {"sparsity": 1.0}, {"batch_size": 0}, {"qat_epochs": -1}):
        with pytest.raises(ValueError, match="Expected"):
            recipe_of(trained=False, **arguments)
