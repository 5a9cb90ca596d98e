"""`tfc.debug`: which layer of a file computes something else than the model."""

import keras
import numpy as np
import onnx
import pytest
from keras import layers
from onnx import numpy_helper

from tests.evaluation.quantized import make, quantized
from tests.export.models import randomise
from tfcompress.export import export
from tfcompress.export.tflite.flatbuffer import File
from tfcompress.parity.debug import debug
from tfcompress.parity.probing.values import Values
from tfcompress.quantization.quantize import quantize

FILES = ["model.tflite", "model.onnx"]
QUANTIZERS = {
    "image_quantizer",
    "active_quantizer",
    "depthwise_relu_quantizer",
    "sum_quantizer",
    "second_relu_quantizer",
    "logits",
    "side",
}


@pytest.fixture(scope="module", params=FILES)
def exported(request, tmp_path_factory):
    model, x = quantized()
    return model, x[:6], export(model, tmp_path_factory.mktemp("debug") / request.param, names=True).path


def test_the_model_keeps_nothing_of_it(exported):
    model, x, path = exported
    lists = [nodes for layer in model.operations for nodes in (layer._inbound_nodes, layer._outbound_nodes)]
    counts = [len(nodes) for nodes in lists]
    debug(model, path, x)
    assert [len(nodes) for nodes in lists] == counts


def test_every_quantizer_is_found_and_right(exported):
    model, x, path = exported
    report = debug(model, path, x)
    assert {tensor.name for tensor in report.tensors} == QUANTIZERS
    assert report.missing == ()
    assert report.first is None
    assert report.same_outputs
    assert report.samples == len(x)
    for tensor in report.tensors:
        assert tensor.scale > 0
        assert tensor.own_max_steps < 1.01  # rounded otherwise, nothing else
        assert tensor.own_equal > 0.98
        assert tensor.sqnr is None or tensor.sqnr > 25
        assert tensor.float_sqnr is None
    order = [tensor.name for tensor in report.tensors]
    assert order.index("active_quantizer") < order.index("sum_quantizer") < order.index("second_relu_quantizer")


@pytest.mark.parametrize(
    ("layer", "quantizer"),
    [("first", "active_quantizer"), ("depthwise", "depthwise_relu_quantizer"), ("second", "second_relu_quantizer")],
)
def test_a_flipped_weight_is_found_where_it_is(exported, layer, quantizer, tmp_path):
    model, x, path = exported
    broken = tmp_path / path.name
    broken.write_bytes(_flipped(path, quantizer, layer))
    report = debug(model, broken, x)
    assert report.first == quantizer
    assert [tensor.name for tensor in report.tensors if tensor.differs] == [quantizer]  # not what comes after it
    assert report["logits"].own_max_steps < 1.01
    assert f"First layer that differs: {quantizer}" in str(report)


def _flipped(path, quantizer, layer):
    """Return the bytes of a file in which one weight of a kernel has another value."""
    place = ["active_quantizer", "depthwise_relu_quantizer", "second_relu_quantizer"].index(quantizer)
    if path.suffix == ".tflite":
        file = File(path.read_bytes())
        graph = file.graphs[0]
        kernels = [op for op in graph.operators if graph.name(op) in ("CONV_2D", "DEPTHWISE_CONV_2D")]
        buffer = file.model.buffers[graph.tensors[int(kernels[place].inputs[1])].buffer]
        weights = np.asarray(buffer.data, np.uint8).view(np.int8).copy()
        weights[0] = -weights[0] if abs(int(weights[0])) > 60 else 127
        buffer.data = weights.view(np.uint8)
        return file.to_bytes()
    model = onnx.load(path)
    made = {output: node for node in model.graph.node for output in node.output}
    kernels = [node for node in model.graph.node if node.op_type == "Conv"]
    constant = made[kernels[place].input[1]].input[0]
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == constant)
    weights = numpy_helper.to_array(tensor).copy()
    flat = weights.reshape(-1)
    flat[0] = -flat[0] if abs(int(flat[0])) > 60 else 127
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    return model.SerializeToString()


def test_what_quantization_costs_each_layer(exported):
    model, x, path = exported
    float_model, _ = make()
    report = debug(model, path, x, reference=float_model)
    figures = [tensor.float_sqnr for tensor in report.tensors]
    assert all(figure is not None and 15 < figure < 70 for figure in figures)
    assert "float dB" in report.table()


@pytest.mark.parametrize("file", FILES)
def test_float_models_are_compared_layer_by_layer(file, tmp_path):
    model, x = make()
    report = debug(model, export(model, tmp_path / file).path, x[:3])
    assert report.first is None
    names = [tensor.name for tensor in report.tensors]
    assert sorted(names) == sorted(layer.name for layer in model.layers[1:])
    assert {"active", "depthwise", "second", "logits", "side"}.isdisjoint(report.missing)
    assert "first" in report.missing  # a part of what follows it, in both formats
    assert report["first"].sqnr is None
    assert "not in the file" in report.table()
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    other.get_layer("second").bias.assign_add([0.0, 1.0, 0.0, 0.0])
    assert debug(other, report.path, x[:3]).first == "second"


@pytest.mark.parametrize("config", ["int8_weights", "dynamic_int8"])
def test_float_activations(config, tmp_path):
    model, x = quantized(config)
    for file in FILES:
        report = debug(model, export(model, tmp_path / file).path, x[:3])
        assert report.first is None
        assert {"active", "depthwise_relu", "second_relu", "logits", "side"}.isdisjoint(report.missing)
        assert "first" in report.missing  # batch normalization is folded into it


@pytest.mark.parametrize("config", ["int8_weights", "dynamic_int8"])
def test_one_dimension(config, tmp_path):
    """In a file such a convolution has an axis of length 1, the channels in front, or an input in another shape."""
    sound = keras.Input((20, 6), name="sound")
    x = layers.Conv1D(6, 3, padding="same", use_bias=False, name="conv")(sound)
    x = layers.ReLU(name="active")(layers.BatchNormalization(name="norm")(x))
    x = layers.SeparableConv1D(4, 3, activation="relu", name="separable")(x)
    x = layers.GlobalAveragePooling1D(name="mean")(x)
    float_model = keras.Model(sound, layers.Dense(3, name="logits")(x))
    randomise(float_model)
    model = quantize(float_model, config)
    paths = [export(model, tmp_path / file, names=True).path for file in FILES]
    data = np.random.default_rng(3).normal(size=(6, 20, 6)).astype("float32")
    for path in paths:
        report = debug(model, path, data)
        assert report.first is None
        assert {"active", "separable_depthwise", "separable_relu", "mean", "logits"}.isdisjoint(report.missing)
        assert all(tensor.own_max_abs < 0.05 for tensor in report.tensors if tensor.tensor)
    kernel = model.get_layer("separable_depthwise").layer.kernel
    kernel.assign(kernel * np.array([1, 1, -1], "float32").reshape(3, 1, 1))
    for path in paths:
        assert debug(model, path, data).first == "separable_depthwise"


def test_integer_inputs_and_fixed_batches(tmp_path):
    model, x = quantized()
    path = export(model, tmp_path / "model.tflite", inference_io="uint8", batch_size=4).path
    report = debug(model, path, x[:6])  # the last batch is filled up
    assert report.samples == 6
    assert report.first is None and report.missing == ()


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integers_at_the_borders_of_onnx(dtype, tmp_path):
    model, x = quantized()
    report = debug(model, export(model, tmp_path / "model.onnx", inference_io=dtype).path, x[:6])
    assert report.first is None and report.missing == ()
    assert report.same_outputs
    assert all(tensor.own_max_steps < 1.01 for tensor in report.tensors)


def test_shared_layers_and_several_inputs(tmp_path):
    left, right = keras.Input((5,), name="left"), keras.Input((5,), name="right")
    shared = layers.Dense(4, activation="tanh", name="shared")
    model = keras.Model([left, right], layers.Dense(2, name="out")(layers.Concatenate()([shared(left), shared(right)])))
    x = np.random.default_rng(0).normal(size=(2, 6, 5))
    for file in FILES:
        report = debug(model, export(model, tmp_path / file).path, {"left": x[0], "right": x[1]})
        assert report.first is None and report.missing == ()
        assert len(report.tensors) == 4


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
def test_values_that_are_not_finite_are_as_far_away_as_can_be(wrong):
    values = Values(None)
    values.add(np.array([1.0, 2.0]), np.array([1.0, wrong]))
    assert (values.sqnr, values.share) == (-np.inf, 0.5)


def test_report(exported, tmp_path):
    model, x, path = exported
    report = debug(model, path, x)
    document = report.to_dict()
    assert document["first"] is None and len(document["tensors"]) == len(QUANTIZERS)
    assert report["sum_quantizer"].layer == "sum"
    with pytest.raises(KeyError, match="sum_quantizer"):
        report["nothing"]
    assert max(map(len, report.table(110).splitlines())) <= 110
    picture = report.plot(tmp_path / "debug.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileExistsError, match="overwrite"):
        report.plot(picture)
    with pytest.raises(ValueError, match=r"\.png"):
        report.plot(tmp_path / "debug.txt")


def test_a_hundred_tensors_make_a_tall_picture(exported, tmp_path):
    import dataclasses

    import matplotlib.image

    model, x, path = exported
    report = debug(model, path, x[:1])
    small = matplotlib.image.imread(report.plot(tmp_path / "small.png"))
    many = dataclasses.replace(report, tensors=report.tensors * 15)
    large = matplotlib.image.imread(many.plot(tmp_path / "large.png"))
    assert large.shape[0] / len(many.tensors) > 20  # pixels for each name
    assert large.shape[0] > 5 * small.shape[0]


def test_bad_arguments(exported, tmp_path):
    model, x, path = exported
    with pytest.raises(TypeError, match="keras.Model"):
        debug("model", path, x)
    with pytest.raises(TypeError, match="keras.Model"):
        debug(model, path, x, reference="model")
    with pytest.raises(FileNotFoundError, match="missing"):
        debug(model, tmp_path / "missing.onnx", x)
    with pytest.raises(ValueError, match="Received: None"):
        debug(model, path, None)
    with pytest.raises(ValueError, match="threshold"):
        debug(model, path, x, threshold=0)
    with pytest.raises(ValueError, match="shape"):
        debug(model, path, x[:, 1:])
    other = keras.Sequential([keras.Input((3,), name="image"), layers.Dense(2)])
    with pytest.raises(ValueError, match="exported from this model"):
        debug(other, path, np.zeros((2, 3)))


def masked_attention():
    ids = keras.Input((8,), dtype="int32", name="ids")
    wide = keras.initializers.RandomNormal(stddev=1.5)
    x = layers.Embedding(20, 8, mask_zero=True, embeddings_initializer=wide)(ids)
    x = layers.Dense(8, activation="relu")(x)
    x = layers.MultiHeadAttention(2, 4, kernel_initializer=wide, name="attention")(x, x)
    return keras.Model(ids, layers.Dense(3)(layers.LSTM(4)(x)))


def masked_both_ways():
    ids = keras.Input((8,), dtype="int32", name="ids")
    x = layers.Embedding(20, 8, mask_zero=True, embeddings_initializer="random_normal")(ids)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(layers.Dense(6, activation="tanh")(x))
    return keras.Model(ids, layers.Dense(3)(layers.Attention()([x, x])))


def transformer():
    ids = keras.Input((8,), dtype="int32", name="ids")
    x = layers.LayerNormalization()(layers.Embedding(20, 8, embeddings_initializer="random_normal")(ids))
    x = layers.LayerNormalization()(x + layers.Dense(8)(layers.Dense(8, activation="relu")(x)))
    return keras.Model(ids, layers.Dense(3)(layers.LayerNormalization()(x + layers.Dense(8, name="mul")(x))))


@pytest.mark.parametrize(
    ("build", "recipe", "suffixes"),
    [
        (masked_attention, "int8", [".tflite", ".onnx"]),
        (masked_attention, None, [".tflite"]),
        (masked_both_ways, None, [".tflite"]),
        (transformer, None, [".tflite", ".onnx"]),
    ],
)
def test_masks_and_names_within_layers(build, recipe, suffixes, tmp_path):
    keras.utils.set_random_seed(0)
    model = build()
    random = np.random.default_rng(0)
    ids = random.integers(1, 20, (16, 8)) * (np.arange(8) < random.integers(2, 9, (16, 1)))
    model = model if recipe is None else quantize(model, recipe, ids)
    for suffix in suffixes:
        report = debug(model, export(model, tmp_path / f"model{suffix}").path, ids[:6])
        assert report.first is None, str(report)
        matched = [tensor for tensor in report.tensors if tensor.tensor is not None]
        assert all(tensor.own_max_steps is None or tensor.own_max_steps < 1.01 for tensor in matched)
        assert all(tensor.sqnr is None or tensor.sqnr > 20 for tensor in matched)
        assert len(report.missing) <= 1
