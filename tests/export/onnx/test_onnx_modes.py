"""The other schemes in ONNX: weights alone, dynamic ranges, 16 bits, integer inputs and outputs, newer opsets."""

import json

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from tests.check import in_turn
from tests.export import models
from tests.export.onnx.test_onnx_int8 import (
    attention,
    bake,
    branches,
    convolutions,
    embedding,
    fallbacks,
    images,
    inputs_of,
    negative_padded_pool,
    on_grid,
    one_dimensional,
    operators,
    pools,
    quantized,
    residual,
    run,
    shared,
    steps,
    transposed,
)
from tests.export.planning import onnx_of
from tfcompress.export.onnx.to_onnx import to_onnx
from tfcompress.export.plan.scheme import Scheme
from tfcompress.tracing.trace import trace

WEIGHTS, DYNAMIC = Scheme(None), Scheme("dynamic")


def plain(build):
    return bake(build(lambda x, fixed=None: x))


def large_floats(graph):
    found = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += large_floats(attribute.g)
    return [tensor for tensor in found if np.prod(tensor.dims) > 512]


@pytest.mark.parametrize("build", [convolutions, transposed, attention, embedding, fallbacks, one_dimensional])
def test_weights_alone_change_nothing(build):
    model, data = plain(build), inputs_of(build)
    stored, full = onnx_of(model, scheme=WEIGHTS), to_onnx(trace(model, None))
    assert operators(stored) == operators(full)
    for expected, actual in zip(run(full, data), run(stored, data), strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert not large_floats(stored.graph)


@pytest.mark.parametrize("recurrent", [layers.LSTM, layers.GRU])
def test_weights_alone_of_recurrent_layers(recurrent):
    """A GRU is a Loop, whose weights stand in a graph of their own."""
    inputs = keras.Input((3, 64), name="x")
    model = bake(keras.Model(inputs, recurrent(64)(inputs)))
    stored, full = onnx_of(model, scheme=WEIGHTS), to_onnx(trace(model, None))
    assert stored.ByteSize() < 0.4 * full.ByteSize()
    assert not large_floats(stored.graph)
    data = np.random.default_rng(0).normal(0, 1, (2, 3, 64)).astype("float32")
    np.testing.assert_array_equal(run(stored, data)[0], run(full, data)[0])


def test_weights_off_the_grid_are_left_as_they_are():
    model = models.randomise(plain(convolutions))
    stored, full = onnx_of(model, scheme=WEIGHTS), to_onnx(trace(model, None))
    assert [node.op_type for node in stored.graph.node] == [node.op_type for node in full.graph.node]
    assert [tensor.raw_data for tensor in stored.graph.initializer] == [
        tensor.raw_data for tensor in full.graph.initializer
    ]


@pytest.mark.parametrize("batch", [None, 1])  # of which tf2onnx makes a Gemm
def test_dynamic_products_are_one_operator(batch):
    data = [x[:batch] for x in inputs_of(shared)]
    model = plain(shared)
    proto = onnx_of(model, batch, scheme=DYNAMIC)
    found = operators(proto)
    # The last two read one tensor, which is quantized once.
    assert found["DynamicQuantizeMatMul"] == 2 and found["MatMulIntegerToFloat"] == 2
    assert found["DynamicQuantizeLinear"] == 1
    assert not found["MatMul"] and not found["Gemm"]
    for expected, actual in zip(model.predict(data, verbose=0), run(proto, data), strict=True):
        assert 0 < np.abs(expected - actual).max() < 0.02 * np.abs(expected).max()


def test_dynamic_convolutions_are_stored_in_8_bits_and_stay_float():
    inputs = keras.Input((8, 8, 16), name="image")
    model = bake(keras.Model(inputs, layers.Dense(4)(layers.Flatten()(layers.Conv2D(16, 3)(inputs)))))
    proto = onnx_of(model, scheme=DYNAMIC)
    assert not large_floats(proto.graph)
    found = operators(proto)
    assert found["Conv"] == 1 and found["DynamicQuantizeMatMul"] == 1
    data = np.random.default_rng(0).normal(0, 1, (4, 8, 8, 16)).astype("float32")
    expected = model.predict(data, verbose=0)
    assert np.abs(expected - run(proto, data)[0]).max() < 0.02 * np.abs(expected).max()


def test_dynamic_one_grid_for_a_whole_kernel():
    inputs = keras.Input((20,), name="x")
    model = keras.Model(inputs, layers.Dense(8)(inputs))
    kernel = on_grid(np.random.default_rng(0).normal(0, 0.3, (20, 8)).astype("float32"), ())
    model.layers[1].set_weights([kernel, np.ones(8)])
    proto = onnx_of(model, scheme=DYNAMIC, per_channel=False)
    assert operators(proto)["DynamicQuantizeMatMul"] == 1
    data = np.random.default_rng(0).normal(0, 1, (4, 20)).astype("float32")
    np.testing.assert_allclose(run(proto, data)[0], model.predict(data, verbose=0), atol=0.05)


@pytest.mark.parametrize(
    "build", [convolutions, residual, pools, branches, negative_padded_pool, one_dimensional, attention, embedding]
)
def test_activations_of_16_bits(build):
    data = inputs_of(build)
    model = quantized(build, data, bits=16)
    proto = onnx_of(model, scheme=Scheme("static", activation_bits=16))
    assert proto.opset_import[0].version == 21
    zeros = [tensor for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.UINT16]
    assert zeros and not large_floats(proto.graph)
    # ONNX Runtime must not quantize weights and products again, as it does if it isn't kept from it.
    assert not {"MatMulNBits", "QLinearConv", "QGemm"} & set(operators(proto))
    difference = steps(model, proto, data, bits=16)
    assert difference.max() < 8
    assert (difference < 0.5).mean() > 0.8


@pytest.mark.parametrize(
    ("build", "dtype"), in_turn([convolutions, residual, shared, attention, embedding], ["uint8", "int8"])
)
def test_integer_inputs_and_outputs(build, dtype):
    data = inputs_of(build)
    model = quantized(build, data)
    data = data if isinstance(data, list) else [data]
    full, small = onnx_of(model), onnx_of(model, inference_io=dtype)
    (grids,) = [json.loads(entry.value) for entry in small.metadata_props if entry.key == "tfcompress.inference_io"]
    limits = np.iinfo(dtype)
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    feed = []
    for value, given in zip(small.graph.input, data, strict=True):
        array = given
        if array.dtype == np.float32:
            assert value.type.tensor_type.elem_type == element
            grid = grids[value.name]
            steps = np.rint(array / np.float32(grid["scale"])) + grid["zero_point"]
            array = np.clip(steps, limits.min, limits.max).astype(dtype)
        feed.append(array)
    for value, expected, actual in zip(small.graph.output, run(full, data), run(small, feed), strict=True):
        assert actual.dtype == dtype and value.type.tensor_type.elem_type == element
        grid = grids[value.name]
        floats = (actual.astype("float32") - grid["zero_point"]) * np.float32(grid["scale"])
        np.testing.assert_array_equal(floats, expected)


def test_uint8_ends_cost_nothing():
    proto = onnx_of(quantized(convolutions, images()), inference_io="uint8")
    assert operators(proto) == {"QLinearConv": 3}


@pytest.mark.parametrize(("opset", "build"), in_turn([13, 18, 19, 20, 21], [residual, attention]))
def test_opsets(build, opset):
    data = inputs_of(build)
    model = quantized(build, data)
    proto = onnx_of(model, opset=opset)
    assert {entry.domain: entry.version for entry in proto.opset_import}[""] == opset
    np.testing.assert_array_equal(run(proto, data)[0], run(onnx_of(model), data)[0])


def test_opset_of_a_float_model():
    data = images()
    traced = trace(models.cnn(), None)
    proto = to_onnx(traced, opset=21)
    assert {entry.domain: entry.version for entry in proto.opset_import}[""] == 21
    np.testing.assert_allclose(run(proto, data)[0], run(to_onnx(traced), data)[0], atol=1e-6)
