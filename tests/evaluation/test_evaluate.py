"""`tfc.evaluate` on every format."""

import keras
import numpy as np
import pytest
from sklearn import metrics as sk

from tests.evaluation.conftest import save_onnx
from tfcompress import export
from tfcompress.evaluation import Metrics, evaluate


def test_every_format_says_the_same(digits, tflite_file, onnx_file, float16_file):
    logits = digits.model.predict(digits.x, verbose=0)
    expected = sk.confusion_matrix(digits.y, logits.argmax(1))
    keras_file = digits.folder / "model.keras"
    digits.model.save(keras_file)
    for source in (digits.model, keras_file, str(tflite_file), onnx_file, float16_file):
        found = evaluate(source, digits.x, digits.y)
        assert isinstance(found, Metrics)
        np.testing.assert_array_equal(found.confusion_matrix, expected)
        assert found.samples == len(digits.y)
        assert found.accuracy > 0.8


def test_a_quantized_input_takes_real_and_raw_values(digits, int8_file):
    from tfcompress.runtime.integer_io import io_grids
    from tfcompress.runtime.opening import open_runner

    real = evaluate(int8_file, digits.x, digits.y)
    scale, zero_point = io_grids(open_runner(int8_file))["pixels"]
    raw = np.clip(np.rint(digits.x / scale) + zero_point, -128, 127).astype(np.int8)
    assert evaluate(int8_file, raw, digits.y).to_dict() == real.to_dict()
    assert real.accuracy == pytest.approx(evaluate(digits.model, digits.x, digits.y).accuracy, abs=0.02)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_the_batch_size_does_not_matter(digits, onnx_file, batch_size):
    few = digits.x[:50], digits.y[:50]
    assert evaluate(onnx_file, *few, batch_size=batch_size).to_dict() == evaluate(onnx_file, *few).to_dict()
    assert evaluate(digits.model, *few, batch_size=batch_size).samples == 50


def test_a_fixed_batch_is_filled_up():
    inputs = keras.Input(batch_shape=(4, 3))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    x = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
    y = x @ model.get_weights()[0] + 1
    assert evaluate(model, x, y).mse == pytest.approx(1, abs=1e-5)
    assert evaluate(model, x, y).samples == 10


def two_outputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    both = keras.layers.Concatenate()([a, b])
    value = keras.layers.Dense(1, name="value")(both)
    kind = keras.layers.Dense(4, activation="softmax", name="kind")(both)
    return keras.Model([a, b], [value, kind])


@pytest.mark.parametrize("as_dict", [True, False])
def test_several_inputs_and_outputs(as_dict):
    model = two_outputs()
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(20, 3)), rng.normal(size=(20, 2))]
    y = [rng.normal(size=20), rng.integers(0, 4, 20)]
    value, kind = model.predict(x, verbose=0)
    found = evaluate(
        model,
        {"b": x[1], "a": x[0]} if as_dict else x,
        {"kind": y[1], "value": y[0]} if as_dict else y,
        class_names=["p", "q", "r", "s"],
    )
    assert found.task == "multi_output"
    assert found["value"].mse == pytest.approx(sk.mean_squared_error(y[0], value), rel=1e-5)
    assert found["kind"].accuracy == sk.accuracy_score(y[1], kind.argmax(1))
    assert [entry.name for entry in found["kind"].classes] == ["p", "q", "r", "s"]
    assert found.to_dict()["outputs"].keys() == {"value", "kind"}
    assert "value: MSE" in str(found)
    assert "kind" in found.table()
    with pytest.raises(KeyError, match="Expected one of the outputs"):
        found["nothing"]


def test_a_dict_of_outputs_keeps_its_names():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, {"left": keras.layers.Dense(1)(inputs), "right": keras.layers.Dense(1)(inputs)})
    found = evaluate(model, np.ones((3, 2)), {"left": np.zeros(3), "right": np.zeros(3)}, task="regression")
    assert set(found.outputs) == {"left", "right"}


def test_a_subclassed_model():
    class Twice(keras.Model):
        def call(self, x):
            return 2 * x

    model = Twice()
    model(np.ones((1, 1), "float32"))
    x = np.arange(6, dtype="float32")[:, None]
    assert evaluate(model, x, 2 * x + 0.5).mse == pytest.approx(0.25)


def test_the_text(digits, onnx_file):
    names = [f"[b]{i}[/b]" for i in range(10)]
    found = evaluate(onnx_file, digits.x, digits.y, class_names=names)
    low, high = (f"{100 * end:.2f}" for end in found.interval)
    said = f"accuracy {100 * found.accuracy:.2f} % [{low}, {high}], macro F1 {found.macro_f1:.4f}"
    assert str(found).startswith(said)
    table = found.table()
    assert "[b]3[/b]" in table
    assert f"{found.classes[3].f1:.3f}" in table
    assert max(map(len, table.splitlines())) <= 100


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((5, 8, 8), "float32"), r"Expected input 'pixels' to have shape \('batch', 64\). Received: shape"),
        (np.zeros((5, 63), "float32"), r"Received: shape \(1, 63\)"),
        (np.array([["a"] * 64] * 5), "Expected real numbers for input 'pixels'. Received: dtype <U1"),
        (np.zeros((0, 64), "float32"), "at least one sample"),
        ([np.zeros((5, 64)), np.zeros((5, 64))], "Expected"),
        ({"pixel": np.zeros((5, 64)), "other": np.zeros((5, 64))}, "Expected one array for each of the inputs"),
        ({"pixel": np.zeros((5, 64))}, r"Received: \['pixel'\]. Did you mean 'pixels'"),
        (np.float32(1), "first dimension counts the samples"),
    ],
)
def test_inputs_that_do_not_fit(digits, tflite_file, onnx_file, x, message):
    for source in (digits.model, tflite_file, onnx_file):
        with pytest.raises(ValueError, match=message):
            evaluate(source, x, digits.y[:5])


def test_floats_are_not_indices():
    model = keras.Sequential([keras.Input((3,), dtype="int32"), keras.layers.Embedding(5, 1), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="to be int32. Received: dtype float64"):
        evaluate(model, np.zeros((2, 3)), np.zeros((2, 3)))


def test_other_numbers_of_labels(digits, onnx_file):
    with pytest.raises(ValueError, match="one row of y per sample of x, 6. Received: 5 rows"):
        evaluate(onnx_file, digits.x[:6], digits.y[:5])
    with pytest.raises(ValueError, match="Expected one array for each output"):
        evaluate(two_outputs(), [np.zeros((2, 3)), np.zeros((2, 2))], np.zeros(2))


def test_nan_is_refused(digits):
    model = keras.models.clone_model(digits.model)
    weights = digits.model.get_weights()
    weights[2][0, 3] = np.nan
    model.set_weights(weights)
    with pytest.raises(ValueError, match="Expected numbers in output 'digit' of model .* Received: NaN for sample 0"):
        evaluate(model, digits.x, digits.y)
    inputs = keras.Input((2,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    x = np.ones((50, 2), "float32")
    x[40, 1] = np.nan
    with pytest.raises(ValueError, match="finite numbers in input 'x'. Received: NaN in row 40, column 1"):
        evaluate(model, x, np.zeros(50))


def test_a_model_that_mixes_samples_is_refused(tmp_path):
    from onnx import helper

    file = tmp_path / "mean.onnx"
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=1)
    save_onnx(file, [node], {"axes": np.array([0])}, {"x": ["n", 2]}, {"y": [1, 2]})
    with pytest.raises(ValueError, match="Expected 5 rows in output 'y'"):
        evaluate(file, np.zeros((5, 2), "float32"), np.zeros((5, 2)))


def test_what_is_no_model(tmp_path, digits):
    with pytest.raises(FileNotFoundError):
        evaluate(tmp_path / "missing.tflite", digits.x, digits.y)
    with pytest.raises(ValueError, match="Expected a Keras model or a path"):
        evaluate(42, digits.x, digits.y)
    with pytest.raises(ValueError, match="Expected a built model"):
        evaluate(keras.Sequential([keras.layers.Dense(2)]), digits.x, digits.y)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="broken.onnx"):
        evaluate(broken, digits.x, digits.y)


def test_options_are_checked(digits):
    with pytest.raises(ValueError, match="Expected task"):
        evaluate(digits.model, digits.x, digits.y, task="ranking")
    with pytest.raises(ValueError, match="Expected batch_size"):
        evaluate(digits.model, digits.x, digits.y, batch_size=0)


def test_classes_are_named_by_output_and_targets_listed_in_the_order_of_the_model(tmp_path):
    x = keras.Input((2,))
    made = {name: keras.layers.Dense(2, name=f"of_{name}")(x) for name in ("right", "left")}
    model = keras.Model(x, made)
    for name, sign in (("right", 1.0), ("left", -1.0)):
        model.get_layer(f"of_{name}").set_weights([sign * np.eye(2), np.zeros(2)])
    rows = np.eye(2).repeat(3, 0)
    y = {"right": np.array(list("xxxyyy")), "left": np.array(list("sssrrr"))}
    names = {"right": ["x", "y"], "left": ["r", "s"]}
    found = evaluate(model, rows, y, class_names=names)
    assert found["right"].accuracy == found["left"].accuracy == 1
    assert [one.name for one in found["left"].classes] == ["r", "s"]
    listed = [np.array([1, 1, 1, 0, 0, 0]), np.array([0, 0, 0, 1, 1, 1])]  # keys are sorted, as in Keras and in files
    for source in (model, export(model, tmp_path / "two.tflite").path):
        assert {name: evaluate(source, rows, listed)[name].accuracy for name in y} == {"right": 1, "left": 1}
    with pytest.raises(ValueError, match=r"class_names to name outputs.*Did you mean 'left'"):
        evaluate(model, rows, listed, class_names={"lefd": ["r", "s"]})
