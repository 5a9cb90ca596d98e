"""Losses of one output and of several, and training by them."""

import keras
import numpy as np
import pytest
from keras import layers as L

from tfcompress import distill, prune
from tfcompress.pipeline import Data, check_fits, default_model, fit
from tfcompress.pipeline.losses import Losses, by_output, loss_for

X = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")
CLASSES = {"b": (X[:, 0] > 0).astype(int), "a": (X[:, 1] > 0).astype(int) + (X[:, 2] > 0)}
MIXED = {"b": CLASSES["b"], "a": X[:, :1] * 2}


def data(y) -> Data:
    return Data("made", X, y, X, y)


def model(kind: type, width: int = 3, last: str = "linear") -> keras.Model:
    """Return a model whose outputs are a dict, or a list with the same names."""
    keras.utils.set_random_seed(0)
    x = keras.Input((4,))
    names = ("p", "q") if kind is dict else ("b", "a")
    made = L.Dense(2, activation=last, name=names[0])(x), L.Dense(width, name=names[1])(x)
    return keras.Model(x, {"b": made[0], "a": made[1]} if kind is dict else list(made))


def test_each_output_has_the_loss_that_its_targets_ask_for():
    first, second = loss_for(model(dict, 1, "softmax"), data(MIXED)).each  # in the order of the keys
    assert isinstance(first, keras.losses.MeanSquaredError)
    assert isinstance(second, keras.losses.SparseCategoricalCrossentropy)
    assert not second.from_logits
    assert all(loss.from_logits for loss in loss_for(model(list), data(CLASSES)).each)


def test_compiled_losses_count_with_their_weights():
    made = model(dict)
    made.compile("sgd", {"a": "categorical_crossentropy", "b": "mae"}, loss_weights={"a": 3.0})
    losses = loss_for(made, data({"b": X[:, :2], "a": CLASSES["a"]}))
    assert isinstance(losses.each[0], keras.losses.SparseCategoricalCrossentropy)
    assert losses.each[0].from_logits
    assert losses.each[1] == "mae"
    assert losses.weights == (3.0, 1.0)
    made.compile("sgd", "mse")
    assert loss_for(made, data(MIXED)).each == ("mse", "mse")
    assert by_output(made, {"q": "mae"}, "loss") == ["mae", None]  # by layers
    with pytest.raises(ValueError, match=r"each of the outputs \['a', 'b'\]"):
        by_output(made, ["mse"] * 3, "loss")


@pytest.mark.parametrize("kind", [dict, list])
@pytest.mark.parametrize("streamed", [False, True])
def test_several_outputs_are_trained(kind, streamed):
    made, given = model(kind, 1), data(MIXED)
    if streamed:
        import tensorflow as tf

        from tfcompress.search.validation import parts_of

        given = parts_of(tf.data.Dataset.from_tensor_slices((X, MIXED)).batch(16), (X + 9, MIXED), 0).data
    check_fits(made, given)
    fit(made, given, loss_for(made, given), epochs=8, batch_size=8, learning_rate=0.05)
    said = made.predict(X, verbose=0)
    said = said if kind is dict else dict(zip(("b", "a"), said, strict=True))
    assert (said["b"].argmax(1) == MIXED["b"]).mean() > 0.9
    assert np.mean((said["a"] - MIXED["a"]) ** 2) < 0.5 * MIXED["a"].var()


def test_an_output_of_weight_0_learns_nothing():
    made = model(list)
    losses = Losses(loss_for(made, data(CLASSES)).each, (0.0, 1.0))
    before = [made.get_layer(name).kernel.numpy() for name in ("b", "a")]
    fit(made, data(CLASSES), losses, epochs=1, batch_size=16, learning_rate=0.01)
    moved = [np.abs(made.get_layer(name).kernel.numpy() - old).max() for name, old in zip("ba", before, strict=True)]
    assert moved[0] == 0 < moved[1]


@pytest.mark.parametrize("kind", [dict, list])
def test_several_outputs_learn_from_a_teacher(kind):
    teacher, given = model(kind), data(CLASSES)
    taught = distill(prune(teacher, 0.5), teacher, alpha=0.9)
    before = [weight.numpy() for weight in taught.student.trainable_variables]
    fit(taught, given, Losses(loss_for(teacher, given).each, (1.0, 2.0)), epochs=1, batch_size=16, learning_rate=0.01)
    after = [weight.numpy() for weight in taught.student.trainable_variables]
    assert all(np.abs(new - old).max() > 0 for new, old in zip(after, before, strict=True))


def test_data_for_other_outputs_is_refused():
    with pytest.raises(ValueError, match=r"outputs \['a', 'b'\].*Received: those of \['b', 'c'\]"):
        check_fits(model(dict), data({"b": CLASSES["b"], "c": CLASSES["a"]}))
    with pytest.raises(ValueError, match=r"classes of output 'a' from 0 to 1.*Received: 2"):
        check_fits(model(dict, 2), data(CLASSES))
    with pytest.raises(ValueError, match=r"targets of output 'a' of shape \(3,\).*Received: \(1,\)"):
        check_fits(model(dict), data(MIXED))
    with pytest.raises(ValueError, match=r"outputs \['y'\].*Received: those of \['b', 'a'\]"):
        check_fits(keras.Sequential([keras.Input((4,)), L.Dense(3, name="y")]), data(CLASSES))
    with pytest.raises(ValueError, match="one target, to make a small model"):
        default_model(data(CLASSES))
