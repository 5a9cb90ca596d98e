"""Targets as data: those of the package, a user's own, what is refused."""

import pytest

import tfcompress as tfc
from tfcompress.npu.accelerators import accelerators
from tfcompress.runtime import opening
from tfcompress.targets import OperatorSet, target


def test_all_of_the_package_are_whole():
    found = [tfc.targets.get(name) for name in tfc.targets.names()]
    assert {"android", "microcontroller", "server-cpu", "server-gpu", "web"} < {one.name for one in found}
    assert [one.name for one in found] == list(tfc.targets.names())
    assert all(one.about and tfc.Target.from_dict(one.to_dict()) == one for one in found)
    npus = [one for one in found if one.accelerator is not None]
    assert {one.accelerator for one in npus} == set(accelerators())
    assert all(one.accelerator == one.name and one.integers_only for one in npus)


def test_runtimes_are_those_that_there_are():
    assert {name: runner.format for name, runner in opening.RUNTIMES.items()} == target.RUNTIMES


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_your_own(tmp_path, suffix):
    mine = tfc.targets.get("microcontroller").replace(name="mine", integer_io="uint8")
    path = mine.save(tmp_path / f"mine{suffix}")
    assert tfc.targets.get(path) == tfc.targets.get(str(path)) == mine
    assert tfc.targets.get(mine) is mine
    assert mine.runtimes_of("onnx") == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"formats": ["tflite"]}, "Expected a target: {'name'"),
        ({"name": "a b"}, "letters, digits"),
        ({"name": "a", "formats": ["tfilte"]}, "Did you mean 'tflite'"),
        ({"name": "a", "formats": []}, "formats to be a list with an entry"),
        ({"name": "a", "formats": ["onnx"]}, "a runtime that proves .onnx files.*Add 'onnxruntime'"),
        ({"name": "a", "runtime": ["tflm"]}, "fields of a target.*Did you mean 'runtimes'"),
        ({"name": "a", "weight_bits": [1]}, "weight_bits"),
        ({"name": "a", "fixed_sizes": "no"}, "a target.*fixed_sizes"),
        ({"name": "a", "batch": 0}, "batch to be an integer"),
        ({"name": "a", "operators": "mine"}, "operators to be one of"),
        ({"name": "a", "arithmetic": "float"}, "arithmetic to be one of"),
    ],
)
def test_what_is_none(values, message):
    with pytest.raises(ValueError, match=message):
        tfc.Target.from_dict(values)


def test_names_and_files_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"one of 'android', .*Did you mean 'microcontroller'"):
        tfc.targets.get("micro-controller")
    with pytest.raises(FileNotFoundError, match=r"mine.yaml, which isn't there"):
        tfc.targets.get(tmp_path / "mine.yaml")
    with pytest.raises(ValueError, match="Received: 3"):
        tfc.targets.get(3)


def test_ways_round_are_of_operators_that_are_missing():
    known = OperatorSet.get("tflm")
    assert set(known.layers.values()) <= set(known.ways)
    assert set(known.missing(known.ways)) == set(known.ways) - set(known.one_scale)


@pytest.mark.parametrize("name", ["SELECT", "SELECT_V2"])
def test_the_operators_that_are_kept_are_there(name):
    pytest.importorskip("tflite_micro")
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    from benchmarks.tflm_operators import is_known

    assert is_known(getattr(BuiltinOperator, name)) == (name in OperatorSet.get("tflm").operators)
