"""One small trained classifier in every format, with its data."""

import dataclasses
import pathlib
import warnings

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits


@dataclasses.dataclass
class Digits:
    """Half of sklearn's digits, held back, and a model that was trained on the other half."""

    x: np.ndarray
    y: np.ndarray
    model: keras.Model
    folder: pathlib.Path

    @property
    def kernels(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self.model.weights]


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    keras.utils.set_random_seed(0)
    data = load_digits()
    x, y = (data.data / 16).astype("float32"), data.target
    inputs = keras.Input((64,), name="pixels")
    hidden = keras.layers.Dense(24, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(10, name="digit")(hidden))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x[:900], y[:900], epochs=5, batch_size=64, verbose=0)
    first, *rest = model.get_weights()
    first[np.abs(first) < 0.05] = 0  # so that the numbers of non-zeros say something
    model.set_weights([first, *rest])
    return Digits(x[900:], y[900:], model, tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def tflite_file(digits):
    return _convert(digits, "float32.tflite")


@pytest.fixture(scope="session")
def float16_file(digits):
    import tensorflow as tf

    return _convert(digits, "float16.tflite", tf.float16)


@pytest.fixture(scope="session")
def int8_file(digits):
    """Full integer, with int8 inputs and outputs."""
    import tensorflow as tf

    return _convert(digits, "int8.tflite", tf.int8)


def _convert(digits, name, dtype=None):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(digits.model)
    if dtype is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if dtype == tf.float16:
        converter.target_spec.supported_types = [tf.float16]
    if dtype == tf.int8:
        converter.representative_dataset = lambda: ([row[None]] for row in digits.x[:100])
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = converter.convert()
    file = digits.folder / name
    file.write_bytes(content)
    return file


@pytest.fixture(scope="session")
def onnx_file(digits):
    """The same network, written node by node."""
    w1, b1, w2, b2 = digits.kernels
    nodes = [
        helper.make_node("Gemm", ["pixels", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Reshape", ["active", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2", "b2"], ["digit"]),
    ]
    constants = {"w1": w1, "b1": b1, "w2": w2, "b2": b2, "shape": np.array([-1, 24])}
    file = digits.folder / "float32.onnx"
    save_onnx(file, nodes, constants, {"pixels": ["batch", 64]}, {"digit": ["batch", 10]})
    return file


def save_onnx(file, nodes, constants, inputs, outputs):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)


@pytest.fixture(autouse=True)
def seeded():
    """Seeds as everywhere; the session isn't cleared, which would collect garbage for 0.3 s before each test."""
    keras.utils.set_random_seed(1234)
