"""Arrays as data, of one output and of several."""

import numpy as np
import pytest

from tfcompress.data.dataset import Data

X = np.arange(12.0).reshape(6, 2)
WHOLE = np.arange(6) % 3


def test_inputs_and_targets_have_their_names():
    y = {"text": np.array(list("abcabc")), "hot": np.eye(3)[WHOLE], "size": X[:, 0] / 7}
    data = Data("d", {"left": X, "right": X + 1}, y, {"left": X, "right": X}, y, class_names={"hot": ("u", "v", "w")})
    assert data.classes == {"text": 3, "hot": 3, "size": None}
    assert data.class_names == {"text": ("a", "b", "c"), "hot": ("u", "v", "w"), "size": None}
    assert data.y_train["text"].tolist() == data.y_test["hot"].tolist() == WHOLE.tolist()
    x, targets = data.train.shuffled(4)[0]
    np.testing.assert_array_equal(x["left"] + 1, x["right"])
    np.testing.assert_array_equal(targets["size"], x["left"][:, 0] / 7)
    assert [target.classes for target in data.targets(["size", "hot", "text"])] == [None, 3, 3]
    assert data.targets(["size", "hot", "text"])[0].info.shape == (None,)


def test_one_target_fits_an_output_of_any_name():
    data = Data("d", X, WHOLE, X, WHOLE)
    assert data.targets(["whatever"])[0].classes == 3
    assert data.is_classes
    with pytest.raises(ValueError, match=r"outputs \['a', 'b'\].*Received: one"):
        data.targets(["a", "b"])


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ValueError, match=r"x_train of shape \(6, 2\) and y_train\['b'\] of shape \(5,\)"):
        Data("d", X, {"a": WHOLE, "b": WHOLE[1:]}, X, {"a": WHOLE, "b": WHOLE})
    with pytest.raises(ValueError, match=r"finite numbers in y_test\['b'\]"):
        Data("d", X, {"a": WHOLE, "b": X[:, 0]}, X, {"a": WHOLE, "b": np.full(6, np.nan)})
    with pytest.raises(ValueError, match=r"same names in x_train and x_test. Received: \['a'\] and \['b'\]"):
        Data("d", {"a": X}, WHOLE, {"b": X}, WHOLE)
    with pytest.raises(ValueError, match=r"outputs \['a', 'c'\].*those of \['a', 'b'\]"):
        Data("d", X, {"a": WHOLE, "b": WHOLE}, X, {"a": WHOLE, "b": WHOLE}).targets(["a", "c"])


def test_names_of_classes_are_of_a_target():
    y, names = {"kind": WHOLE, "other": WHOLE}, ("u", "v", "w")
    for given, message in (
        (names, r"by names of targets, \['kind', 'other'\]. Received: \('u', 'v', 'w'\)"),
        ({"knid": names}, "Received: names of \\['knid'\\]. Did you mean 'kind'"),
    ):
        with pytest.raises(ValueError, match=message):
            Data("d", X, y, X, y, class_names=given)
    with pytest.raises(ValueError, match=r"the names of one target's classes. Received: names of \['kind'\]"):
        Data("d", X, WHOLE, X, WHOLE, class_names={"kind": names})
    assert Data("d", X, WHOLE, X, WHOLE, class_names=names).class_names == names
