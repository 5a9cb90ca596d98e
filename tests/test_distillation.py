"""A student learns from a teacher that stays as it is."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.distillation import SoftTargets
from tfcompress.graph.strip import stripped

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def make_teacher(activation=None, units=3, name="teacher"):
    inputs = keras.Input((12,), name="x")
    x = L.BatchNormalization()(L.Dense(16)(inputs))
    x = L.Dropout(0.3)(L.ReLU()(x))
    return keras.Model(inputs, L.Dense(units, activation=activation, name="y")(x), name=name)


def make_data(count=64):
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, count)
    return (np.eye(3)[y].repeat(4, axis=1) + generator.normal(0, 0.5, (count, 12))).astype("float32"), y


def values(model):
    return [np.array(keras.ops.convert_to_numpy(weight)) for weight in model.weights]


def log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def soft(teacher, student, temperature):
    """Hinton's term, from logits."""
    wanted, given = log_softmax(teacher / temperature), log_softmax(student / temperature)
    return temperature**2 * np.sum(np.exp(wanted) * (wanted - given), axis=-1)


def loss_of(distilled, x, y, **how):
    distilled.compile("sgd", LOSS)
    return distilled.evaluate(x, y, verbose=0, batch_size=len(x), return_dict=True, **how)


@pytest.mark.on_jax
@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (4.0, 0.25), (3.0, 0.0), (2.0, 1.0)])
def test_the_loss_is_hintons(temperature, alpha):
    teacher, student = make_teacher(), make_teacher(name="student")
    x, y = make_data()
    theirs, ours = teacher.predict(x, verbose=0), student.predict(x, verbose=0)
    found = loss_of(tfc.distill(student, teacher, temperature, alpha), x, y)
    hard = -np.mean(log_softmax(ours)[np.arange(len(y)), y])
    expected = alpha * soft(theirs, ours, temperature).mean() + (1 - alpha) * hard
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    assert found["distillation_loss"] == pytest.approx(soft(theirs, ours, temperature).mean(), rel=1e-4)


@pytest.mark.on_jax
def test_sample_weights_and_regularizers_count():
    teacher, (x, y) = make_teacher(), make_data()
    inputs = keras.Input((12,))
    student = keras.Model(inputs, L.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))(inputs))
    theirs, ours = teacher.predict(x, verbose=0), student.predict(x, verbose=0)
    weights = np.random.default_rng(1).uniform(0, 2, len(y)).astype("float32")
    found = loss_of(tfc.distill(student, teacher, 2.0, 0.3), x, y, sample_weight=weights)
    hard = -log_softmax(ours)[np.arange(len(y)), y]
    penalty = 0.1 * np.sum(values(student)[0] ** 2)
    expected = np.mean(weights * (0.3 * soft(theirs, ours, 2.0) + 0.7 * hard)) + penalty
    assert found["loss"] == pytest.approx(expected, rel=1e-4)


def test_probabilities_are_worth_their_logits():
    teacher, (x, y) = make_teacher(), make_data()
    sure = keras.Model(teacher.inputs, L.Softmax()(teacher.outputs[0]))
    student = make_teacher(name="student")
    first = loss_of(tfc.distill(student, teacher), x, y)
    second = loss_of(tfc.distill(student, sure), x, y)
    assert second["distillation_loss"] == pytest.approx(first["distillation_loss"], rel=1e-3)
    third = loss_of(tfc.distill(student, sure, from_logits=True), x, y)
    assert abs(third["distillation_loss"] - first["distillation_loss"]) > 0.01
    wrapped = tfc.prune(make_teacher("softmax"), 0.1, layers="y")
    assert [form.student for form in tfc.distill(wrapped, teacher).forms] == [True]


def test_a_single_unit_is_two_classes():
    teacher, student = make_teacher("sigmoid", units=1), make_teacher(units=1, name="student")
    x, y = make_data()
    distilled = tfc.distill(student, teacher, 2.0, 1.0)
    distilled.compile("sgd")
    found = distilled.evaluate(x, y, verbose=0, batch_size=len(x), return_dict=True)
    p = teacher.predict(x, verbose=0).astype("float64")
    theirs, ours = np.log(p / (1 - p)), student.predict(x, verbose=0)
    two = [np.concatenate([np.zeros_like(z), z], axis=-1) for z in (theirs, ours)]
    assert found["loss"] == pytest.approx(soft(*two, 2.0).mean(), rel=1e-3)


@pytest.mark.on_jax
def test_masks_follow_the_schedule_and_the_teacher_stays(tmp_path):
    teacher, (x, y) = make_teacher(), make_data()
    before, trainable = values(teacher), [layer.trainable for layer in teacher.layers]
    schedule = tfc.PolynomialSparsity(0.0, 0.75, begin_step=0, end_step=8, frequency=2)
    student = tfc.prune(teacher, tfc.PruneConfig(schedule, scope="global"))
    distilled = tfc.distill(student, teacher)
    assert distilled.student is student
    distilled.compile(keras.optimizers.Adam(0.01), LOSS, metrics=["accuracy"])
    sparsities = []
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: sparsities.append(tfc.sparsity(stripped(student)))
    )
    history = distilled.fit(
        x, y, epochs=5, batch_size=32, validation_data=(x, y), verbose=0, callbacks=[record]
    ).history
    # Two steps in an epoch: its last update is at its first step, 0, 2, 4, 6, 8.
    np.testing.assert_allclose(sparsities, [float(schedule.sparsity(step)) for step in (0, 2, 4, 6, 8)], atol=0.01)
    assert history["loss"][-1] < history["loss"][0]
    assert {"accuracy", "val_loss", "distillation_loss"} <= set(history)
    for old, new in zip(before, values(teacher), strict=True):
        np.testing.assert_array_equal(old, new)
    assert teacher.trainable
    assert trainable == [layer.trainable for layer in teacher.layers]
    assert any(np.any(old != new) for old, new in zip(before, values(tfc.strip(student)), strict=True))
    # What was trained is saved, from the student and from the trainer alike, and goes on in mid-schedule.
    for saved, path in ((student, tmp_path / "student.keras"), (distilled, tmp_path / "distilled.keras")):
        saved.save(path)
        loaded = tfc.load(path)
        np.testing.assert_allclose(loaded.predict(x, verbose=0), distilled.predict(x, verbose=0), atol=1e-6)
        assert tfc.sparsity(loaded) == pytest.approx(0.75, abs=0.01)


@pytest.mark.on_jax
def test_a_quantized_student_learns_in_mixed_precision():
    teacher, (x, y) = make_teacher(), make_data()
    inputs = keras.Input((12,))
    z = L.Dense(16, activation="relu", dtype="mixed_bfloat16")(inputs)
    student = tfc.quantize(keras.Model(inputs, L.Dense(3, dtype="mixed_bfloat16")(z)), "int8", x)
    distilled = tfc.distill(student, teacher, alpha=0.9)
    distilled.compile(keras.optimizers.Adam(0.01), LOSS)
    losses = distilled.fit(x, y, epochs=8, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_the_teacher_alone_needs_no_labels():
    teacher, (x, _) = make_teacher(), make_data()
    student = make_teacher(name="student")
    distilled = tfc.distill(student, teacher, alpha=1.0)
    distilled.compile(keras.optimizers.Adam(0.02))
    losses = distilled.fit(x, epochs=20, verbose=0).history["distillation_loss"]
    assert losses[-1] < losses[0] / 2
    with pytest.raises(ValueError, match="loss on the labels"):
        tfc.distill(student, teacher).compile("sgd")


@pytest.mark.on_jax
def test_several_outputs():
    def model(name):
        inputs = keras.Input((12,))
        return keras.Model(inputs, {"a": L.Dense(3)(inputs), "b": L.Dense(2, activation="softmax")(inputs)}, name=name)

    teacher, student, (x, y) = model("teacher"), model("student"), make_data()
    theirs, ours = teacher.predict(x, verbose=0), student.predict(x, verbose=0)
    distilled = tfc.distill(student, teacher, 2.0, 1.0)
    distilled.compile("sgd")
    found = distilled.evaluate(x, y, verbose=0, batch_size=len(x), return_dict=True)
    expected = soft(theirs["a"], ours["a"], 2.0).mean() + soft(np.log(theirs["b"]), np.log(ours["b"]), 2.0).mean()
    assert found["loss"] == pytest.approx(expected, rel=1e-4)


def test_what_does_not_fit_is_refused():
    teacher, student = make_teacher(), make_teacher(name="student")
    for arguments, message in [
        ({"temperature": 0}, "above 0"),
        ({"temperature": float("inf")}, "above 0"),
        ({"temperature": "3"}, "temperature='3'"),
        ({"alpha": -0.1}, r"\[0, 1\]"),
        ({"alpha": True}, "alpha=True"),
    ]:
        with pytest.raises(ValueError, match=message):
            tfc.distill(student, teacher, **arguments)
    with pytest.raises(
        ValueError, match=r"outputs of the teacher's shapes, \[\(None, 3\)\]. Received: \[\(None, 4\)\]"
    ):
        tfc.distill(make_teacher(units=4), teacher)
    with pytest.raises(ValueError, match="inputs of the teacher's shapes"):
        tfc.distill(keras.Sequential([keras.Input((5,)), L.Dense(3)]), teacher)
    with pytest.raises(ValueError, match="weights of its own"):
        tfc.distill(teacher, teacher)
    with pytest.raises(ValueError, match="shares 2 of them"):
        tfc.distill(keras.Sequential([keras.Input((16,)), teacher.layers[-1]]), teacher)
    with pytest.raises(TypeError, match="keras.Model"):
        tfc.distill("student.keras", teacher)
    with pytest.raises(ValueError, match="built teacher"):
        tfc.distill(student, keras.Sequential([L.Dense(3)]))

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(3)

        def call(self, x):
            return self.dense(x)

    subclassed = Subclassed()
    subclassed(make_data()[0])
    with pytest.raises(ValueError, match="from_logits=True or False"):
        tfc.distill(student, subclassed)
    found = loss_of(tfc.distill(student, subclassed, 1.0, 1.0, from_logits=True), *make_data())
    x, _ = make_data()
    expected = soft(subclassed.predict(x, verbose=0), student.predict(x, verbose=0), 1.0).mean()
    assert found["loss"] == pytest.approx(expected, rel=1e-4)


def test_the_loss_keeps_its_size_at_high_temperatures():
    # Hinton et al. (2015), 2.1: for high T it is half the mean square of the logits' difference, each centred.
    teacher, student = np.random.default_rng(0).normal(size=(2, 50, 4)).astype("float32")
    difference = teacher - student
    difference -= difference.mean(axis=-1, keepdims=True)
    assert float(SoftTargets(30.0)(teacher, student)) == pytest.approx(np.mean(difference**2) / 2, rel=0.02)
