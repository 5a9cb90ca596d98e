"""ONNX models: what is in the file, and that tf2onnx's errors are heard."""

import collections

import keras
import numpy as np
import onnx
import pytest
from keras import layers, ops

from tests.export import models
from tests.export.tflite.test_to_tflite import mixed
from tfcompress.export import export
from tfcompress.export.onnx.to_onnx import to_onnx
from tfcompress.tracing.trace import trace


def operators(proto):
    return collections.Counter(node.op_type for node in proto.graph.node)


def dims(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_header():
    proto = to_onnx(trace(models.two_in_two_out(), None))
    assert proto.producer_name == "tfcompress"
    assert {entry.domain: entry.version for entry in proto.opset_import}[""] == 18
    assert [(value.name, dims(value)) for value in proto.graph.input] == [
        ("zebra", ["batch", 6]),
        ("ant", ["batch", 4]),
    ]
    assert [(value.name, dims(value)) for value in proto.graph.output] == [
        ("yak", ["batch", 3]),
        ("bee", ["batch", 2]),
    ]
    assert not proto.graph.value_info


def test_fixed_and_free_dimensions():
    model = keras.Sequential([keras.Input((None, 3), name="steps"), layers.LSTM(4, return_sequences=True, name="o")])
    proto = to_onnx(trace(model, None))
    assert dims(proto.graph.input[0]) == ["batch", "steps_1", 3]
    assert dims(proto.graph.output[0])[::2] == ["batch", 4]
    assert dims(to_onnx(trace(model, 2)).graph.input[0])[0] == 2


def test_captured_constants_are_no_inputs():
    proto = to_onnx(trace(models.captured_constant(), 1))
    assert [value.name for value in proto.graph.input] == ["image"]


def test_lstm_is_the_lstm_operator():
    assert operators(to_onnx(trace(models.lstm(), None)))["LSTM"] == 1


def test_exact_gelu_is_erf():
    assert operators(to_onnx(trace(models.exact_gelu(), None)))["Erf"] == 1


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [(10, 7), (24, 6)])
def test_images_have_the_size_that_they_are_resized_to(size, interpolation, tmp_path):
    model = keras.Sequential([keras.Input((12, 12, 2), name="x"), layers.Resizing(*size, interpolation, name="y")])
    parity = export(model, tmp_path / "model.onnx", batch_size=None).parity
    assert parity.outputs["y"].max_rel < 1e-5


def test_mixed_precision_needs_no_other_operators():
    plain = operators(to_onnx(trace(models.attention(), None)))
    keras.utils.clear_session()
    assert operators(to_onnx(trace(mixed(models.attention), None))) == plain


def test_float16_stores_large_weights_alone():
    model = models.randomise(keras.Sequential([keras.Input((64,)), layers.Dense(32), layers.Dense(8, name="y")]))
    proto = to_onnx(trace(model, None), precision="float16")
    stored = {tuple(tensor.dims): tensor.data_type for tensor in proto.graph.initializer}
    assert stored[64, 32] == onnx.TensorProto.FLOAT16
    assert stored[8,] == onnx.TensorProto.FLOAT
    assert operators(proto)["Cast"] == 2
    (kernel,) = [tensor for tensor in proto.graph.initializer if tuple(tensor.dims) == (64, 32)]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(kernel), model.layers[0].kernel.numpy().astype("float16"))


def test_float16_reaches_the_weights_in_loops(tmp_path):
    def make():
        return models.randomise(keras.Sequential([keras.Input((3, 16)), layers.GRU(64)]))

    full = export(make(), tmp_path / "full.onnx")
    half = export(make(), tmp_path / "half.onnx", precision="float16")
    assert half.nbytes < 0.6 * full.nbytes


def test_operator_that_tf2onnx_lacks_is_named(tmp_path):
    model = keras.Sequential([keras.Input((3, 3)), layers.Lambda(lambda x: ops.qr(x)[1])])
    with pytest.raises(ValueError, match=r"\bQr\b.* is not supported"):
        export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("handler", ["logs", "raises"])
def test_errors_that_tf2onnx_swallows_are_raised(handler, tmp_path, monkeypatch):
    import logging

    from tfcompress.export.onnx.handlers import HANDLERS

    def fail(context, node, name, args):
        if handler == "raises":
            raise KeyError("handler broke")
        logging.getLogger("tf2onnx.tfonnx").error("handler broke")

    monkeypatch.setitem(HANDLERS, "Erfc", (fail, []))
    with pytest.raises(ValueError, match=r"tf2onnx can convert.*(handler broke|Failed to convert node)"):
        export(models.exact_gelu(), tmp_path / "model.onnx", verify=False)
    assert not list(tmp_path.iterdir())


def test_an_optimizer_that_fails_is_passed_over(monkeypatch):
    from tf2onnx.optimizer.merge_duplicated_nodes_optimizer import MergeDuplicatedNodesOptimizer

    def fail(self, graph, iteration):
        raise RuntimeError

    expected = to_onnx(trace(models.cnn(), 1))
    monkeypatch.setattr(MergeDuplicatedNodesOptimizer, "optimize", fail)
    proto = to_onnx(trace(models.cnn(), 1))
    assert [value.name for value in proto.graph.output] == [value.name for value in expected.graph.output]
    assert operators(proto)["Conv"] == 2


def test_grouped_convolutions_under_normalization_in_a_model_of_several_outputs(tmp_path):
    inputs = keras.Input((5, 5, 4))
    first = layers.BatchNormalization()(layers.Conv2D(4, 3, groups=4, padding="same", use_bias=False)(inputs))
    second = layers.BatchNormalization()(
        layers.Conv2D(4, 3, groups=2, padding="same", use_bias=False)(layers.ReLU()(first))
    )
    model = keras.Model(inputs, [first, second, inputs * 2])
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 4)).astype("float32")
    artifact = export(model, tmp_path / "model.onnx", verify=x)
    for received, expected in zip(artifact.predict(x).values(), model(x), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)
