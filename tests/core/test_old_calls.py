"""Names and places of arguments that have changed go on working, with a warning that says the new call."""

from __future__ import annotations

import dataclasses
import inspect

import keras
import pytest

import tfcompress as tfc
from tfcompress import pruning
from tfcompress.core.old_calls import accepts_old_calls, accepts_old_fields

OLD = {
    "PolynomialDecay": tfc.PolynomialSparsity,
    "CosineDecay": tfc.CosineSparsity,
    "ExponentialDecay": tfc.ExponentialSparsity,
}


@pytest.mark.parametrize("name", OLD)
@pytest.mark.parametrize("module", [tfc, pruning])
def test_old_names_of_schedules_are_the_new_ones(module, name):
    with pytest.warns(DeprecationWarning, match=rf"Expected {module.__name__}\.{OLD[name].__name__}\. Received"):
        kind = getattr(module, name)
    assert kind is OLD[name] and name not in module.__all__


@pytest.mark.parametrize("name", OLD)
def test_saved_schedules_are_found_by_their_old_names(name):
    schedule = OLD[name](0.1, 0.8, 0, 10, frequency=5)
    saved = keras.saving.serialize_keras_object(schedule)
    old = {**saved, "class_name": name, "registered_name": f"tfcompress>{name}"}
    assert saved["registered_name"] == f"tfcompress>{OLD[name].__name__}"
    assert keras.saving.deserialize_keras_object(old) == schedule


def test_names_that_are_none_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = tfc.quantise


def other(data, *, threads=1):
    """Do something else."""
    return "other", data, threads


@accepts_old_calls(
    names={"samples": "data"},
    places=((1, "threads", lambda value: isinstance(value, int)), (2, "each", None)),
    values={"threads": (..., 4)},
    verbs={"each": (other, "other(...)")},
)
def verb(data, layers=None, *, threads=1):
    """Do something."""
    return data, layers, threads


def test_the_signature_is_the_new_one():
    assert list(inspect.signature(verb).parameters) == ["data", "layers", "threads"]
    assert verb.__doc__ == "Do something." and verb.__name__ == "verb"
    assert verb(1, "dense", threads=2) == (1, "dense", 2)


@pytest.mark.parametrize(
    ("args", "kwargs", "found", "said"),
    [
        ((), {"samples": 1}, (1, None, 1), r"argument data= of verb. Received: samples=.*Write data=\."),
        ((1, 3), {}, (1, None, 3), r"Received: 3 as argument 2.*Write threads=3\."),
        ((1,), {"threads": ...}, (1, None, 4), r"Received: threads=Ellipsis.*Write threads=4\."),
        ((1,), {"each": True}, ("other", 1, 1), r"Received: each=True.*Write other\(\.\.\.\)\."),
        ((1,), {"each": False}, (1, None, 1), r"Received: each=False.*Write verb\(\.\.\.\)\."),
        ((1, "dense", False), {}, (1, "dense", 1), r"Received: each=False"),
    ],
)
def test_an_old_call_says_the_new_one(args, kwargs, found, said):
    with pytest.warns(DeprecationWarning, match=said) as caught:
        assert verb(*args, **kwargs) == found
    assert len(caught) == 1 and caught[0].filename == __file__


def test_both_names_at_once_are_refused():
    with pytest.raises(TypeError, match="Expected data= of verb once"):
        verb(data=1, samples=2)
    with pytest.raises(TypeError, match="Expected each to be True or False"):
        verb(1, each=3)


def test_a_field_has_its_old_name_too():
    @accepts_old_fields(targets="allocation")
    @dataclasses.dataclass(frozen=True)
    class Config:
        allocation: str = "uniform"

    with pytest.warns(DeprecationWarning, match="argument allocation= of .*Config. Received: targets="):
        config = Config(targets="other")
    with pytest.warns(DeprecationWarning, match=r"Write \.allocation\."):
        assert config.targets == "other"
    assert dataclasses.replace(config, allocation="third").allocation == "third"
