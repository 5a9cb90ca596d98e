"""Integer ONNX models: what runs in integers, and how far that is from Keras, one kind of layer at a time."""

import collections
import json
import pathlib
import tempfile

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers, ops

from tests.export.planning import onnx_of
from tfcompress.export.onnx.to_onnx import to_onnx
from tfcompress.quantization.numerics.constant_range import FixedQuantizer
from tfcompress.tracing.trace import trace

SIGMOID, TANH = (0.0, 255 / 256), (-1.0, 127 / 128)


def session(proto, save=None):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if save:
        options.optimized_model_filepath = str(save)
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def operators(proto):
    """Count the operators that ONNX Runtime runs, after all of its optimizations."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "optimized.onnx"
        session(proto, path)
        return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


def run(proto, data):
    runner = session(proto)
    data = data if isinstance(data, list) else [data]
    return runner.run(None, {value.name: array for value, array in zip(runner.get_inputs(), data, strict=True)})


def on_grid(values, axes):
    """Round to the symmetric grid of 8 bits, one for each index of `axes`."""
    others = tuple(axis for axis in range(values.ndim) if axis not in {axis % values.ndim for axis in axes})
    scale = np.abs(values).max(axis=others, keepdims=True) / np.float32(127)
    return (np.rint(values / scale) * scale).astype("float32")


def bake(model, seed=0):
    """Give every weight a random value, kernels on the grid."""
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        for weight in layer._trainable_variables:
            values = random.normal(0, 0.3, weight.shape).astype("float32")
            if "kernel" in weight.path or "embeddings" in weight.path:
                axes = (-1,)
                if isinstance(layer, layers.DepthwiseConv2D | layers.DepthwiseConv1D):
                    axes = (-2, -1)
                elif isinstance(layer, layers.Conv2DTranspose):
                    axes = (-2,)
                values = on_grid(values, axes)
            weight.assign(values)
    return model


def quantized(build, data, bits=8):
    """Make a model of quantizers whose ranges are those of `data` in the float model.

    Args:
        build: takes `q(tensor, range=None)`, which puts a quantizer on a tensor, and returns a model.
        data: of its inputs.
        bits: of the activations.
    """
    seen = []

    def look(x, fixed=None):
        seen.append(x)
        return x

    plain = bake(build(look))
    values = keras.Model(plain.inputs, seen).predict(data, verbose=0)
    values = iter(values if isinstance(values, list) else [values])
    count = iter(range(1000))

    def put(x, fixed=None):
        here = next(values)
        low, high = fixed or (min(0.0, float(here.min())), max(0.0, float(here.max())))
        if bits == 16:
            low, high = -max(-low, high), max(-low, high)
        return FixedQuantizer(low, high, bits, bits == 16, name=f"quantizer_{next(count)}_")(x)

    return bake(build(put))


def steps(model, proto, data, bits=8):
    """Return the differences from Keras in steps of the outputs' grids, all outputs in one array."""
    reference = model.predict(data, verbose=0)
    reference = reference if isinstance(reference, list) else [reference]
    found = []
    for tensor, expected, actual in zip(model.outputs, reference, run(proto, data), strict=True):
        assert expected.shape == actual.shape
        layer = tensor._keras_history.operation
        known = isinstance(layer, FixedQuantizer)
        width = layer.maximum - layer.minimum if known else float(expected.max() - expected.min())
        found.append(np.abs(expected - actual).ravel() / (width / (2**bits - 1)))
    return np.concatenate(found)


def images(n=16, channels=3):
    return np.random.default_rng(1).uniform(-1, 1, (n, 12, 12, channels)).astype("float32")


def sequences():
    return np.random.default_rng(2).normal(0, 1, (16, 10, 16)).astype("float32")


def vectors():
    return np.random.default_rng(3).normal(0, 1, (32, 20)).astype("float32")


def image():
    return keras.Input((12, 12, 3), name="image")


def sequence():
    return keras.Input((10, 16), name="sequence")


def convolutions(q):
    inputs = image()
    x = q(layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(q(inputs)))
    x = q(layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(x)))
    return keras.Model(inputs, q(layers.Conv2D(6, 1, use_bias=False, name="head")(x)))


def residual(q):
    inputs = image()
    x = q(layers.Conv2D(8, 3, padding="same", activation="relu")(q(inputs)))
    x = q(layers.Add()([x, q(layers.Conv2D(8, 3, padding="same")(x))]))
    x = q(layers.GlobalAveragePooling2D()(x))
    x = q(layers.Dense(6, activation="relu")(x))
    return keras.Model(inputs, q(layers.Softmax()(q(layers.Dense(4)(x))), SIGMOID))


def padded(q):
    inputs = image()
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(q(inputs))
    x = q(layers.Conv2D(6, 3, strides=2, activation="relu")(x))
    x = layers.ZeroPadding2D(1)(x)
    x = layers.MaxPooling2D(3, 2)(x)
    return keras.Model(inputs, q(layers.Conv2D(4, 1)(x)))


def negative_padded_pool(q):
    """Zeros count among negative values: these pads can't become the pool's."""
    inputs = image()
    x = q(layers.Conv2D(6, 3)(q(inputs)))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    return keras.Model(inputs, q(layers.Conv2D(4, 1)(x)))


def pools(q):
    inputs = image()
    x = q(layers.Conv2D(6, 3)(q(inputs)))
    x = layers.MaxPooling2D(2, padding="same")(x)
    x = q(layers.AveragePooling2D(3, 2, padding="same")(x))
    return keras.Model(inputs, q(layers.Dense(5)(layers.Flatten()(x))))


def branches(q):
    inputs = image()
    x = q(inputs)
    a = q(layers.Conv2D(6, 3, padding="same", activation="relu")(x))
    b = q(layers.Conv2D(6, 3, padding="same")(x))
    x = q(layers.Concatenate()([q(layers.Multiply()([a, b])), b]))
    return keras.Model(inputs, q(layers.Conv2D(4, 1)(x)))


def squeezed_and_excited(q):
    inputs = image()
    x = q(layers.Conv2D(6, 3)(q(inputs)))
    x = q(layers.Multiply()([x, q(layers.Activation("sigmoid")(x), SIGMOID)]))
    s = q(layers.GlobalAveragePooling2D(keepdims=True)(x))
    s = q(layers.Activation("sigmoid")(q(layers.Conv2D(6, 1)(s))), SIGMOID)
    return keras.Model(inputs, q(layers.Multiply()([x, s])))


def hard_swish(q):
    inputs = image()
    x = q(layers.Conv2D(6, 3)(q(inputs)))
    s = q(q(x + 3.0, (0.0, 6.0)) * (1 / 6))
    x = q(layers.Multiply()([x, s]))
    return keras.Model(inputs, q(layers.Conv2D(4, 1)(q(x * -0.5))))


def leaky(q):
    inputs = image()
    x = q(layers.LeakyReLU(negative_slope=0.2)(q(layers.Conv2D(6, 3)(q(inputs)))))
    return keras.Model(inputs, q(layers.Conv2D(4, 1)(x)))


def moved(q):
    inputs = image()
    x = q(layers.Conv2D(8, 3, padding="same", activation="relu")(q(inputs)))
    x = q(layers.Concatenate()([x[..., 4:], x[..., :4]]))
    x = layers.UpSampling2D(2)(layers.Cropping2D(1)(x))
    return keras.Model(inputs, q(layers.Conv2D(4, 3)(x)))


def dilated_and_grouped(q):
    inputs = image()
    x = q(layers.Conv2D(8, 3, padding="same", dilation_rate=2, activation="relu")(q(inputs)))
    return keras.Model(inputs, q(layers.Conv2D(8, 3, groups=4, padding="same")(x)))


def one_dimensional(q):
    inputs = sequence()
    x = q(layers.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="relu")(q(inputs)))
    x = q(layers.DepthwiseConv1D(3, padding="same")(x))
    x = layers.MaxPooling1D(2)(x)
    return keras.Model(inputs, q(layers.Dense(3)(q(layers.GlobalAveragePooling1D()(x)))))


def global_maximum(q):
    inputs = sequence()
    x = layers.GlobalMaxPooling1D()(q(layers.Conv1D(8, 3)(q(inputs))))
    return keras.Model(inputs, q(layers.Dense(3)(x)))


def shared(q):
    left, right = keras.Input((20,), name="left"), keras.Input((20,), name="right")
    dense = layers.Dense(9, activation="relu")
    x = q(layers.Add()([q(dense(q(left))), q(dense(q(right)))]))
    return keras.Model([left, right], [q(layers.Dense(3)(x)), q(layers.Dense(2)(x))])


def attention(q):
    inputs = sequence()
    x = q(inputs)

    def project(x):
        return ops.reshape(q(layers.Dense(16)(ops.reshape(x, (-1, 16)))), (-1, 10, 16))

    def heads(x):
        return ops.transpose(ops.reshape(x, (-1, 10, 2, 8)), (0, 2, 1, 3))

    query, key, value = (heads(project(x)) for _ in range(3))
    scores = q(q(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))) * 0.35)
    mixed = q(ops.matmul(q(ops.softmax(scores), SIGMOID), value))
    mixed = project(ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, 10, 16)))
    return keras.Model(inputs, q(layers.Add()([x, mixed])))


def embedding(q):
    inputs = keras.Input((6,), dtype="int32", name="ids")
    x = q(layers.Embedding(50, 16)(inputs))
    return keras.Model(inputs, q(layers.Dense(3)(q(layers.GlobalAveragePooling1D()(x)))))


def volume(q):
    inputs = keras.Input((6, 6, 6, 2), name="volume")
    x = q(layers.GlobalAveragePooling3D()(q(layers.Conv3D(4, 3, activation="relu")(q(inputs)))))
    return keras.Model(inputs, q(layers.Dense(3)(x)))


def transposed(q):
    inputs = image()
    x = q(layers.Conv2D(6, 3, activation="relu")(q(inputs)))
    x = q(layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")(x))
    return keras.Model(inputs, q(layers.Conv2D(4, 1)(x)))


def fallbacks(q):
    inputs = sequence()
    x = q(layers.LayerNormalization()(q(inputs)))
    x = q(layers.Activation("elu")(q(layers.Conv1D(8, 3)(x))))
    return keras.Model(inputs, q(layers.Dense(3)(q(layers.LSTM(8)(x)))))


def inputs_of(build):
    if build in (one_dimensional, global_maximum, attention, fallbacks):
        return sequences()
    if build is shared:
        return [vectors(), vectors()[::-1].copy()]
    if build is embedding:
        return np.random.default_rng(4).integers(0, 50, (16, 6)).astype("int32")
    return np.random.default_rng(5).normal(0, 1, (4, 6, 6, 6, 2)).astype("float32") if build is volume else images()


ENDS = {"QuantizeLinear": 1, "DequantizeLinear": 1}

WHOLE = {
    convolutions: {**ENDS, "QLinearConv": 3},
    residual: {
        **ENDS,
        "QLinearConv": 2,
        "QLinearAdd": 1,
        "QLinearGlobalAveragePool": 1,
        "QGemm": 2,
        "QLinearSoftmax": 1,
    },
    padded: {**ENDS, "QLinearConv": 2, "NhwcMaxPool": 1},
    negative_padded_pool: {**ENDS, "QLinearConv": 2, "NhwcMaxPool": 1, "Pad": 1},
    pools: {**ENDS, "QLinearConv": 1, "NhwcMaxPool": 1, "QLinearAveragePool": 1, "QGemm": 1},
    branches: {**ENDS, "QLinearConv": 3, "QLinearMul": 1, "QLinearConcat": 1},
    squeezed_and_excited: {
        **ENDS,
        "QLinearConv": 2,
        "QLinearMul": 2,
        "QLinearSigmoid": 2,
        "QLinearGlobalAveragePool": 1,
    },
    hard_swish: {**ENDS, "QLinearConv": 2, "QLinearAdd": 1, "QLinearMul": 3},
    leaky: {**ENDS, "QLinearConv": 2, "QLinearLeakyRelu": 1},
    moved: {**ENDS, "QLinearConv": 2, "QLinearConcat": 1},
    dilated_and_grouped: {**ENDS, "QLinearConv": 2},
    one_dimensional: {**ENDS, "QLinearConv": 2, "MaxPool": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1},
    global_maximum: {**ENDS, "QLinearConv": 1, "ReduceMax": 1, "QGemm": 1},
    shared: {"QuantizeLinear": 2, "DequantizeLinear": 2, "QGemm": 4, "QLinearAdd": 1},
    attention: {
        **ENDS,
        "QGemm": 4,
        "QLinearMatMul": 2,
        "QLinearMul": 1,
        "QLinearSoftmax": 1,
        "QLinearAdd": 1,
    },
    embedding: {"DequantizeLinear": 1, "Gather": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1},
    volume: {**ENDS, "QLinearConv": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1},
}
"""What ONNX Runtime runs of models that are integers from end to end."""

MOVES = {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Tile", "Identity"}
INDICES = {"Cast", "Less", "Where", "Add"}
"""Of whole numbers, the indices of an Embedding."""


@pytest.mark.parametrize("build", WHOLE, ids=lambda build: build.__name__)
def test_runs_in_integers_from_end_to_end(build):
    data = inputs_of(build)
    model = quantized(build, data)
    proto = onnx_of(model)
    found = operators(proto)
    ignored = MOVES | (INDICES if build is embedding else set())
    assert {name: count for name, count in found.items() if name not in ignored} == WHOLE[build]
    difference = steps(model, proto, data)
    assert difference.max() < 2.01
    assert (difference < 0.5).mean() > 0.95


@pytest.mark.parametrize(
    ("build", "float_parts"),
    [(transposed, {"ConvTranspose": 1}), (fallbacks, {"Elu": 1, "LSTM": 1})],
    ids=["transposed", "fallbacks"],
)
def test_what_has_no_integer_kernel_is_float_between_integers(build, float_parts):
    data = inputs_of(build)
    model = quantized(build, data)
    proto = onnx_of(model)
    found = operators(proto)
    assert {name: found[name] for name in float_parts} == float_parts
    assert not {"Conv", "FusedConv", "Gemm", "MatMul"} & set(found)
    assert found["QLinearConv"] + found["QGemm"] == 2
    difference = steps(model, proto, data)
    assert difference.max() < 2.01
    assert (difference < 0.5).mean() > 0.95


@pytest.mark.parametrize("build", [convolutions, residual, pools, one_dimensional])
def test_fixed_batch(build):
    data = inputs_of(build)[:2]
    model = quantized(build, data)
    proto = onnx_of(model, 2)
    assert steps(model, proto, data).max() < 1.01
    assert not {"Conv", "FusedConv", "Gemm", "MatMul", "Shape"} & set(operators(proto))


def test_weights_are_the_integers_and_biases_are_32_bits():
    model = quantized(convolutions, images())
    proto = onnx_of(model)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    kernels = [value for value in constants.values() if value.dtype == np.int8 and value.ndim == 4]
    assert sorted(value.shape for value in kernels) == [(6, 8, 1, 1), (8, 1, 3, 3), (8, 3, 3, 3)]
    (first,) = [value for value in kernels if value.shape == (8, 3, 3, 3)]
    kernel = model.layers[2].kernel.numpy()
    np.testing.assert_array_equal(first, np.rint(kernel * 127 / np.abs(kernel).max((0, 1, 2))).transpose(3, 2, 0, 1))
    assert np.abs(first).max() == 127
    assert sum(value.dtype == np.int32 and value.shape == (8,) for value in constants.values()) >= 2
    assert not [name for name, value in constants.items() if value.dtype == np.float32 and value.ndim > 1]


def test_one_grid_for_a_whole_kernel():
    data = vectors()
    inputs = keras.Input((20,), name="x")
    x = FixedQuantizer(-4, 4, name="first")(inputs)
    model = keras.Model(inputs, FixedQuantizer(-9, 9, name="last")(layers.Dense(8)(x)))
    dense = model.layers[2]
    dense.set_weights([on_grid(np.random.default_rng(0).normal(0, 0.3, (20, 8)).astype("float32"), ()), np.ones(8)])
    proto = onnx_of(model, per_channel=False)
    (kernel,) = [tensor for tensor in proto.graph.initializer if tuple(tensor.dims) == (20, 8)]
    assert kernel.data_type == onnx.TensorProto.INT8
    assert operators(proto)["QGemm"] == 1
    assert steps(model, proto, data).max() < 1.01


def test_a_shared_kernel_is_stored_once():
    proto = onnx_of(quantized(shared, inputs_of(shared)))
    assert sum(tuple(tensor.dims) == (20, 9) for tensor in proto.graph.initializer) == 1


def test_file_is_a_quarter():
    inputs = keras.Input((256,), name="x")
    x = FixedQuantizer(-4, 4, name="first")(inputs)
    model = bake(keras.Model(inputs, FixedQuantizer(-9, 9, name="last")(layers.Dense(256)(x))))
    ratio = onnx_of(model).ByteSize() / to_onnx(trace(model, None)).ByteSize()
    assert 0.25 < ratio < 0.3


def test_dead_channel_and_a_bias_beyond_32_bits():
    inputs = keras.Input((8,), name="x")
    x = FixedQuantizer(-1, 1, name="first")(inputs)
    model = keras.Model(inputs, FixedQuantizer(-9, 9, name="last")(layers.Dense(4)(x)))
    kernel = np.random.default_rng(0).normal(0, 0.3, (8, 4)).astype("float32")
    kernel[:, 1] = 0
    kernel[:, 2] *= 1e-12
    grid = np.abs(kernel).max(0, keepdims=True) / np.float32(127)
    kernel = (np.rint(kernel / np.where(grid > 0, grid, 1)) * grid).astype("float32")
    model.layers[2].set_weights([kernel, np.array([1.0, -5.3, 7.7, 0.0], "float32")])
    proto = onnx_of(model)
    data = np.random.default_rng(1).uniform(-1, 1, (64, 8)).astype("float32")
    assert operators(proto)["QGemm"] == 1
    assert steps(model, proto, data).max() < 1.01


def test_a_kernel_off_the_grid_stays_float_and_exact():
    """ONNX Runtime would quantize it by itself, with scales of its own."""
    inputs = image()
    x = FixedQuantizer(-1, 1, name="first")(inputs)
    x = FixedQuantizer(0, 2, name="middle")(layers.Conv2D(4, 3, activation="relu")(x))
    x = FixedQuantizer(-3, 3, name="last")(layers.Dense(6)(layers.Flatten()(x)))
    model = keras.Model(inputs, x)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(0, 0.2, weight.shape))
    proto = onnx_of(model)
    found = operators(proto)
    assert not found["QLinearConv"] and not found["QGemm"] and not found["MatMulNBits"]
    difference = steps(model, proto, images())
    assert difference.max() < 1.01
    assert (difference < 0.5).mean() > 0.98


def test_relu_stays_where_the_range_does_not_imply_it():
    inputs = keras.Input((8,), name="x")
    x = FixedQuantizer(-1, 1, name="first")(layers.ReLU()(FixedQuantizer(-2, 2, name="zeroth")(inputs)))
    model = keras.Model(inputs, x)
    data = np.random.default_rng(0).normal(0, 1, (9, 8)).astype("float32")
    proto = onnx_of(model)
    assert steps(model, proto, data).max() < 0.01


def test_tensors_are_named_after_the_layers_that_quantize_them():
    model = quantized(residual, images())
    proto = onnx_of(model)
    (entry,) = [json.loads(entry.value) for entry in proto.metadata_props if entry.key == "tfcompress.quantizers"]
    quantizers = [layer.name for layer in model.layers if isinstance(layer, FixedQuantizer)]
    assert sorted(entry) == sorted(quantizers)
    made = {name: node for node in proto.graph.node for name in node.output}
    assert all(tensor in made for tensor in entry.values())
    # The last is an output of the model, and has its name; here they are one.
    assert entry[quantizers[-1]] == proto.graph.output[0].name
    assert made[entry[quantizers[3]]].op_type == "DequantizeLinear"


def test_narrow_and_few_bits():
    inputs = keras.Input((8,), name="x")
    x = FixedQuantizer(-1, 1, bits=4, name="few")(inputs)
    x = FixedQuantizer(-3, 3, narrow=True, name="narrow")(layers.Dense(4)(x))
    model = bake(keras.Model(inputs, x))
    data = np.random.default_rng(0).normal(0, 0.6, (64, 8)).astype("float32")
    proto = onnx_of(model)
    difference = steps(model, proto, data)
    assert difference.max() < 1.01
    assert (difference < 0.5).mean() > 0.95
