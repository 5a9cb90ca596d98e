"""The comparison itself: what counts as equal, and what it looks at."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.export import models
from tfcompress.export import ParityError, export
from tfcompress.export.inputs import TensorInfo
from tfcompress.export.signature import read_signature
from tfcompress.export.verify import compare, random_inputs


def one(*values, dtype="float32"):
    return {"out": np.array([values], dtype)}


@pytest.mark.parametrize(("precision", "part"), [("float32", 1e-4), ("float16", 2e-2)])
def test_tolerance_is_a_part_of_the_largest_value(precision, part):
    reference = one(0.001, -50.0)
    result = compare(reference, one(0.001 + 0.9 * part * 50, -50.0), precision)["out"]
    assert result.max_rel == pytest.approx(0.9 * part, rel=1e-2)
    with pytest.raises(ParityError, match=r"expected 0.001 at \(0, 0\), received .*: differs by"):
        compare(reference, one(0.001 + 1.1 * part * 50, -50.0), precision)


def test_all_outputs_that_differ_are_named():
    reference = {"a": np.ones(3), "b": np.ones(3), "c": np.ones(3)}
    with pytest.raises(ParityError, match=r"output 'a'.*output 'c'.*shape \(3,\), received \(2,\)") as raised:
        compare(reference, {"a": np.zeros(3), "b": np.ones(3), "c": np.ones(2)})
    assert "'b'" not in str(raised.value)
    with pytest.raises(ParityError, match=r"Received: \['a'\]"):
        compare(reference, {"a": np.ones(3)})


def test_argmax_agreement():
    reference = {"out": np.array([[1.0, 1.001], [3.0, 1.0]])}
    result = compare(reference, {"out": np.array([[1.0012, 1.001], [3.0, 1.0]])}, "float16")["out"]
    assert result.argmax_agreement == 0.5


def test_equal_nans_are_equal_and_told():
    with pytest.warns(UserWarning, match="itself has 2 entries that are NaN or infinite"):
        result = compare(one(np.nan, np.inf, 1.0), one(np.nan, np.inf, 1.0))["out"]
    assert result.non_finite == 2
    assert result.max_abs == 0


@pytest.mark.parametrize("wrong", [(np.nan, np.nan, 1.0), (np.nan, np.inf, np.nan), (0.0, np.inf, 1.0)])
def test_other_nans_are_not(wrong):
    with pytest.raises(ParityError, match="the Keras model itself gives 2 NaN or infinite entries"):
        compare(one(np.nan, np.inf, 1.0), one(*wrong))


def test_whole_numbers_must_be_the_same():
    assert compare(one(1, 2, dtype="int32"), one(1, 2, dtype="int64"))["out"].max_abs == 0
    with pytest.raises(ParityError, match="50% other ones"):
        compare(one(1, 2, dtype="int32"), one(1, 3, dtype="int32"))


def test_random_inputs_are_sensible():
    specs = {
        "float": TensorInfo((None, 200), "float32"),
        "ids": TensorInfo((None, 200), "int64"),
        "bool": TensorInfo((3, 200), "bool"),
        "text": TensorInfo((None, None), "float32"),
    }
    made = random_inputs(specs, {"text"}, vocabulary=7, free_size=9)
    assert {name: (array.shape, array.dtype.name) for name, array in made.items()} == {
        "float": ((3, 200), "float32"),
        "ids": ((3, 200), "int64"),
        "bool": ((3, 200), "bool"),
        "text": ((3, 9), "float32"),
    }
    assert 0.8 < made["float"].std() < 1.2
    assert sorted(set(made["ids"].ravel())) == list(range(7))
    assert set(made["text"].ravel()) <= set(range(7))
    assert 0 < made["bool"].mean() < 1
    np.testing.assert_array_equal(random_inputs(specs)["float"], random_inputs(specs)["float"])


@pytest.mark.parametrize("file", ["model.tflite", "model.onnx"])
def test_float_inputs_of_an_embedding_get_tokens(file, tmp_path):
    """Standard normals would be negative indices."""
    model = keras.Sequential([keras.Input((6,)), layers.Embedding(5, 3), layers.Embedding(9, 3, name="ids")][:2])
    artifact = export(models.randomise(model), tmp_path / file)
    assert next(iter(artifact.inputs.values())).dtype == "float32"
    assert next(iter(artifact.parity.outputs.values())).max_rel < 1e-6


def test_model_that_no_random_input_suits(tmp_path):
    class Picky(keras.Model):
        def call(self, x):
            return keras.ops.reshape(x, (-1, 7))

    model = Picky()
    model.build((None, 7))
    model._build_shapes_dict = {"input_shape": (None, None)}
    with pytest.raises(ValueError, match=r"(?s)random inputs of {'x': \(2, 32\)}.*verify=x"):
        export(model, tmp_path / "model.onnx")
    artifact = export(model, tmp_path / "model.onnx", verify=np.ones((2, 7)))
    assert artifact.parity.samples == 2


def test_several_arguments_without_shapes_say_what_to_do(tmp_path):
    class Two(keras.Model):
        def call(self, first, second):
            return first + second

    model = Two()
    model(np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="Let `call` take one argument"):
        export(model, tmp_path / "model.onnx")


def test_signature_refuses_strings():
    inputs = keras.Input((1,), dtype="string", name="text")
    model = keras.Model(inputs, keras.layers.StringLookup(vocabulary=["a"])(inputs))
    with pytest.raises(ValueError, match="input 'text', which is string"):
        read_signature(model)
