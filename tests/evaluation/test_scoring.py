"""Metrics against matrices made by hand and against scikit-learn on the raw numbers."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from tfcompress.evaluation.scoring import MAX_ROC_POINTS, infer_task, score

RNG = np.random.default_rng(0)


def test_a_confusion_matrix_made_by_hand():
    y = np.array([0, 0, 0, 1, 1, 2])
    scores = np.eye(3)[[0, 0, 1, 1, 0, 2]]
    found = score(y, scores, class_names=["cat", "dog", "owl"])
    assert found.task == "multiclass"
    assert found.confusion_matrix.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert found.accuracy == pytest.approx(4 / 6)
    cat, dog, owl = found.classes
    assert (cat.name, cat.support) == ("cat", 3)
    assert (cat.precision, cat.recall, cat.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (dog.precision, dog.recall, dog.f1) == pytest.approx((1 / 2, 1 / 2, 1 / 2))
    assert owl.f1 == 1
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_multiclass_equals_sklearn(kind):
    y = RNG.integers(0, 4, 300)
    logits = 3 * np.eye(4)[y] + RNG.normal(size=(300, 4)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = score(y, logits if kind == "logits" else probabilities)
    assert found.roc_auc == pytest.approx(sk.roc_auc_score(y, probabilities, multi_class="ovr", average="macro"))
    assert found.macro_f1 == pytest.approx(sk.f1_score(y, logits.argmax(1), average="macro"))
    assert found.accuracy == sk.accuracy_score(y, logits.argmax(1))


def test_logits_can_be_declared():
    y = RNG.integers(0, 3, 200)
    scores = RNG.random((200, 3))  # could be either
    softmax = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    as_logits = sk.roc_auc_score(y, softmax, multi_class="ovr")
    as_they_are = np.mean([sk.roc_auc_score(y == k, scores[:, k]) for k in range(3)])
    assert score(y, scores, from_logits=True).roc_auc == pytest.approx(as_logits)
    assert score(y, scores, from_logits=False).roc_auc == pytest.approx(as_they_are)
    assert as_logits != pytest.approx(as_they_are)


def test_an_int8_softmax_counts_as_probabilities():
    y = RNG.integers(0, 10, 100)
    raw = RNG.dirichlet(np.ones(10), 100)
    rounded = np.round(raw * 256) / 256
    by_hand = np.mean([sk.roc_auc_score(y == k, rounded[:, k]) for k in range(10)])
    assert score(y, rounded).roc_auc == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_binary_equals_sklearn(kind):
    y = RNG.integers(0, 2, 200)
    logits = 2.0 * y - 0.7 + RNG.normal(size=200)
    found = score(y, (logits if kind == "logits" else 1 / (1 + np.exp(-logits)))[:, None])
    assert found.task == "binary"
    assert found.accuracy == sk.accuracy_score(y, logits > 0)
    assert found.roc_auc == pytest.approx(sk.roc_auc_score(y, logits))
    assert found.confusion_matrix.tolist() == sk.confusion_matrix(y, logits > 0).tolist()
    assert found.classes[1].precision == pytest.approx(sk.precision_score(y, logits > 0))
    assert found.classes[0].recall == pytest.approx(sk.recall_score(y, logits > 0, pos_label=0))


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3), (50, 2, 3)])
def test_regression_equals_sklearn(shape):
    y, scores = RNG.normal(size=(2, *shape))
    found = score(y, scores)
    flat = y.reshape(50, -1), scores.reshape(50, -1)
    assert found.task == "regression"
    assert found.mse == pytest.approx(np.mean((y - scores) ** 2))
    assert found.mae == pytest.approx(np.mean(np.abs(y - scores)))
    assert found.r2 == pytest.approx(sk.r2_score(*flat))


@pytest.mark.parametrize(
    ("y", "shape", "task"),
    [
        (np.array([0, 1, 2]), (3, 4), "multiclass"),
        (np.array([[0], [1], [2]]), (3, 4), "multiclass"),
        (np.array([0.0, 1.0, 2.0]), (3, 4), "multiclass"),
        (np.eye(3), (3, 3), "multiclass"),
        (np.array([0, 1]), (2, 2), "multiclass"),
        (np.zeros((2, 5, 5), int), (2, 5, 5, 3), "multiclass"),
        (np.array([0, 1, 1]), (3, 1), "binary"),
        (np.array([True, False]), (2,), "binary"),
        (np.array([0, 1, 2]), (3, 1), "regression"),
        (np.array([[0.5, 1.0]]), (1, 2), "regression"),
    ],
)
def test_the_task_follows_from_the_shapes(y, shape, task):
    assert infer_task(y, np.zeros(shape)) == task


def test_the_task_can_be_chosen():
    y, scores = np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.4, 0.2])
    assert score(y, scores).accuracy == 0.75
    assert score(y, scores, task="regression").mse == pytest.approx(np.mean((y - scores) ** 2))


def test_one_hot_and_numbers_are_the_same():
    y = RNG.integers(0, 5, 60)
    scores = RNG.normal(size=(60, 5))
    assert score(np.eye(5)[y], scores).to_dict() == score(y, scores).to_dict()


def test_segmentation_counts_pixels():
    y = RNG.integers(0, 3, (4, 5, 6))
    scores = RNG.normal(size=(4, 5, 6, 3))
    found = score(y, scores)
    assert found.samples == 120
    assert found.accuracy == pytest.approx((scores.argmax(-1) == y).mean())


def test_a_class_that_y_does_not_hold():
    y = np.array([0, 1, 0, 1])
    scores = np.array([[5.0, 1, 0], [0, 5, 1], [1, 5, 0], [0, 5, 2]])
    found = score(y, scores)
    assert math.isnan(found.classes[2].roc_auc)
    assert found.classes[2].support == 0
    defined = [found.classes[k].roc_auc for k in (0, 1)]
    assert found.roc_auc == pytest.approx(np.mean(defined))
    assert found.macro_f1 == pytest.approx(sk.f1_score(y, scores.argmax(1), average="macro"))
    assert list(found.roc_curves) == ["0", "1"]
    assert found.to_dict()["classes"][2]["roc_auc"] is None


def test_a_single_class_has_no_curve():
    found = score(np.zeros(3, int), np.array([0.1, 0.2, 0.8]))
    assert found.accuracy == pytest.approx(2 / 3)
    assert math.isnan(found.roc_auc)
    assert "ROC-AUC -" in str(found)


def test_a_single_sample_has_no_r2():
    assert math.isnan(score(np.array([1.5]), np.array([2.0])).r2)


def test_curves_are_thinned_and_keep_their_ends():
    y = RNG.integers(0, 2, 20_000)
    (false_rate, true_rate) = score(y, RNG.random(20_000)).roc_curves["1"]
    assert len(false_rate) <= MAX_ROC_POINTS
    assert (false_rate[0], true_rate[0], false_rate[-1], true_rate[-1]) == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("y", "scores", "options", "message"),
    [
        (np.array([1, 2, 3]), np.zeros((3, 3)), {}, "Expected classes 0..2 in y. Received: values from 1 to 3"),
        (np.array([0, -1]), np.zeros((2, 3)), {}, "Number the classes from 0"),
        (np.array(["a", "b", "c"]), np.zeros((3, 2)), {}, "the 2 classes of the output by name. Received: 3 in y"),
        (np.array([1j, 0]), np.zeros((2, 2)), {}, "Expected real numbers for y. Received: dtype complex128"),
        (np.array([0.0, np.nan]), np.zeros(2), {}, "Expected finite numbers in y"),
        (np.array([[1, 1], [0, 1]]), np.zeros((2, 2)), {}, "one-hot rows"),
        (np.zeros((3, 2)), np.zeros((3, 1)), {"task": "regression"}, "output's shape"),
        (np.array([0, 1]), np.zeros((2, 1)), {"task": "multiclass"}, "C > 1"),
        (np.array([0, 1]), np.zeros((2, 3)), {"task": "binary"}, "task='binary'"),
        (np.array([0, 5]), np.zeros(2), {"task": "binary"}, "Expected classes 0..1"),
        (np.array([-1, 1, 1]), np.zeros((3, 1)), {}, r"Expected classes 0 and 1 in y. Received: -1 and 1"),
        (np.array([0, 1]), np.zeros((2, 3)), {"class_names": ["a"]}, "Expected 3 class_names"),
    ],
)
def test_what_does_not_fit_is_refused(y, scores, options, message):
    with pytest.raises(ValueError, match=message):
        score(y, scores, **options)
