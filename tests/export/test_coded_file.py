"""ONNX files that unpack themselves: the same kernels, the same numbers, fewer bytes."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.evaluation.file_constants import count_onnx
from tfcompress.evaluation.inspection import inspect_file
from tfcompress.export.artifact import Artifact
from tfcompress.export.onnx.weights.decoders import GAPS
from tfcompress.export.onnx.weights.gaps import Gaps
from tfcompress.export.plan.planned_weights import digest

OPSETS = (18, 21, 25)


@pytest.fixture(scope="module")
def network():
    """A network with many zeros, and images."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3), name="image")
    h = L.Conv2D(16, 3, padding="same", activation="relu", name="first")(inputs)
    h = L.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(h)
    h = L.Conv2D(32, 3, activation="relu", name="many_zeros")(h)
    h = L.Dense(64, activation="relu", name="nearly_all_zeros")(L.Flatten()(h))
    model = keras.Model(inputs, L.Dense(10, name="classes")(h))
    random = np.random.default_rng(0)
    for name, zeros in (("many_zeros", 0.7), ("nearly_all_zeros", 0.95)):
        kernel = model.get_layer(name).kernel
        kernel.assign(kernel * (random.random(kernel.shape) > zeros))
    for layer in model.layers[1:3] + model.layers[-2:]:
        layer.bias.assign(random.normal(size=layer.bias.shape))
    return model, random.normal(size=(32, 12, 12, 3)).astype("float32")


@pytest.fixture(scope="module")
def quantized(network):
    model, x = network
    four = tfc.QuantizeConfig(tfc.WeightSpec(bits=4))
    return tfc.quantize(model, {"many_zeros|nearly_all_zeros": four, ".*": "int8"}, x)


@pytest.fixture(scope="module")
def artifacts(quantized, network, tmp_path_factory):
    """{"plain", or the opset of a coded file: artifact}."""
    folder, x = tmp_path_factory.mktemp("coded"), network[1]
    made = {"plain": tfc.export(quantized, folder / "plain.onnx", verify=x)}
    for opset in OPSETS:
        how = {"opset": opset, "verify": x}
        made[opset] = tfc.export(quantized, folder / f"coded{opset}.onnx", weights="coded", **how)
    return made


def outputs(artifact, x, level="ORT_ENABLE_ALL", optimized=None):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    if optimized:
        options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(str(artifact.path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": x})[0]


def kernels(path):
    """Return what ONNX Runtime runs, in its order, each with the integers of its weights."""
    graph = onnx.load(path).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {name: digest(value) for name, value in constants.items() if value.ndim > 1}
    return [(node.op_type, *(weights[name] for name in node.input if name in weights)) for node in graph.node]


@pytest.mark.parametrize("opset", OPSETS)
def test_the_same_kernels_and_numbers(artifacts, network, opset, tmp_path):
    expected = outputs(artifacts["plain"], network[1], optimized=tmp_path / "plain.onnx")
    received = outputs(artifacts[opset], network[1], optimized=tmp_path / "coded.onnx")
    np.testing.assert_array_equal(received, expected)
    plain = kernels(tmp_path / "plain.onnx")
    assert kernels(tmp_path / "coded.onnx") == plain
    assert {"QLinearConv", "QGemm"} <= {kind for kind, *_ in plain}


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC"])
def test_the_same_numbers_with_fewer_optimizations(artifacts, network, level):
    expected, received = (outputs(artifacts[name], network[1], level) for name in ("plain", 18))
    np.testing.assert_array_equal(received, expected)


def test_what_is_known_of_the_file(artifacts):
    plain, coded = artifacts["plain"], artifacts[18]
    assert not plain.weights
    forms = {one.layer: one.form for one in coded.weights}
    assert forms["many_zeros"] in ("1-bit mask, 4-bit codes", "gaps with 1-bit remainders, 4-bit codes")
    assert forms["nearly_all_zeros"].endswith("-bit remainders, 4-bit codes")
    assert list(forms) == ["first", "depthwise", "many_zeros", "nearly_all_zeros", "classes_linear"]
    assert sum(one.plain_bytes - one.nbytes for one in coded.weights) > 0.8 * (plain.nbytes - coded.nbytes) > 0
    assert "bytes that unpack themselves when the file is loaded" in str(coded)
    assert coded.precision == plain.precision == Artifact.open(coded.path).precision == "int8"
    again = Artifact.open(coded.path).operators
    assert again.integer == plain.operators.integer and again.kinds == plain.operators.kinds
    assert count_onnx(coded.path) == count_onnx(plain.path)
    assert coded.nbytes < 0.35 * plain.nbytes
    said = "stored in fewer bits and unpacked when the file is loaded"
    assert [said in str(inspect_file(one.path)) for one in (plain, coded)] == [False, True]


def test_newer_opsets_have_narrow_types(artifacts):
    kinds = {
        opset: {tensor.data_type for tensor in onnx.load(artifacts[opset].path).graph.initializer} for opset in OPSETS
    }
    assert onnx.TensorProto.INT4 not in kinds[18]
    assert all(onnx.load(artifacts[opset].path).opset_import[0].version == opset for opset in OPSETS)


def test_names_are_short_and_nothing_is_stored_twice(artifacts):
    proto = onnx.load(artifacts[18].path)
    ends = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    names = {name for node in proto.graph.node for name in (*node.input, *node.output)}
    assert all(len(name) <= 2 for name in names - ends)
    assert not any(node.name for node in proto.graph.node)
    values = [(x.data_type, tuple(x.dims), x.raw_data) for x in proto.graph.initializer]
    assert len(set(values)) == len(values)
    called = {made.name for made in proto.functions}
    assert called == {
        node.op_type for node in (*proto.graph.node, *(x for f in proto.functions for x in f.node)) if node.domain
    }
    assert GAPS in called
    bodies = [[node.op_type for node in made.node] for made in proto.functions]
    assert ["QuantizeLinear", "DequantizeLinear"] in bodies


def test_what_is_inside_can_be_looked_at(artifacts, quantized, network, tmp_path):
    """The artifact knows the names that its file lost; with names=True the file has them."""
    named = tfc.export(quantized, tmp_path / "m.onnx", weights="coded", names=True, verify=False)
    assert named.nbytes > artifacts[18].nbytes and not named.tensor_names
    x = network[1][:2]
    plain, *others = (tfc.debug(quantized, artifact, x) for artifact in (artifacts["plain"], artifacts[18], named))
    assert len(plain.tensors) > 5
    for other in others:
        assert [one.name for one in other.tensors] == [one.name for one in plain.tensors]


@pytest.mark.parametrize("recipe", ["int8_weights", "dynamic_int8"])
def test_weights_of_other_recipes(recipe, network, tmp_path):
    model, x = network
    made = tfc.quantize(model, recipe)
    plain, coded = (tfc.export(made, tmp_path / f"{how}.onnx", weights=how, verify=False) for how in ("plain", "coded"))
    assert coded.nbytes < 0.6 * plain.nbytes
    # Convolutions are products, too, and float in ONNX.
    assert ("only products of matrices are rounded" in str(plain)) == (recipe == "dynamic_int8")
    np.testing.assert_array_equal(outputs(coded, x), outputs(plain, x))


def test_in_a_second_file(quantized, network, artifacts, tmp_path):
    coded = tfc.export(quantized, tmp_path / "m.onnx", weights="coded", external_data=True, verify=False)
    assert coded.data_files
    np.testing.assert_array_equal(outputs(coded, network[1]), outputs(artifacts["plain"], network[1]))
    assert Artifact.open(coded.path).precision == "int8"


def test_auto_is_plain_where_nothing_is_gained(quantized, network, artifacts, tmp_path):
    model = network[0]
    assert tfc.export(quantized, tmp_path / "a.onnx", weights="auto", verify=False).nbytes == artifacts[18].nbytes
    for given, suffix in ((model, "onnx"), (quantized, "tflite")):
        made = tfc.export(given, tmp_path / f"b.{suffix}", weights="auto", verify=False)
        assert not made.weights and not made.notes


def test_a_file_without_a_weight_that_is_coded_says_so(tmp_path):
    """Weights too few for a decoder: the file is smaller by its names alone."""
    small = tfc.quantize(keras.Sequential([keras.Input((6,)), L.Dense(3)]), "dynamic_int8")
    plain, coded = (tfc.export(small, tmp_path / f"{how}.onnx", weights=how) for how in ("plain", "coded"))
    assert [one.form for one in coded.weights] == ["int8"] and coded.nbytes < plain.nbytes
    assert "as int8, which no other form makes less" in str(coded) and "unpack" not in str(coded)
    assert "unpacked" not in str(inspect_file(coded.path))


def test_a_weight_of_few_bits_that_no_form_makes_smaller_says_so(tmp_path):
    small = tfc.quantize(keras.Sequential([keras.Input((8,)), L.Dense(9)]), "int4_weights")
    made = tfc.export(small, tmp_path / "m.onnx", weights="coded", verify=False)
    assert [(one.type, one.why) for one in made.operators.narrow] == [("int8", "no other form makes the file smaller")]


@pytest.mark.parametrize(
    ("given", "suffix", "message"),
    [
        ({"weights": "coded"}, "tflite", "Only ONNX Runtime computes a file's constants .* export to .onnx"),
        ({"weights": "small"}, "onnx", "Expected weights to be one of .*'plain', 'coded', 'auto'"),
        ({"weights": "coded", "opset": 17}, "onnx", "Expected opset to be one of"),
    ],
)
def test_bad_input(given, suffix, message, quantized, tmp_path):
    with pytest.raises(ValueError, match=message):
        tfc.export(quantized, tmp_path / f"m.{suffix}", **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("recipe", [None, "float16"])
def test_a_model_without_integers(recipe, network, tmp_path):
    model = tfc.quantize(network[0], recipe) if recipe else network[0]
    with pytest.raises(ValueError, match="Expected a model with weights of integers .* Quantize it first"):
        tfc.export(model, tmp_path / "m.onnx", weights="coded")


def test_a_file_that_decodes_to_something_else_is_refused(quantized, monkeypatch, tmp_path):
    right = Gaps.encode

    def wrong(self, weight):
        parts = dict(right(self, weight))
        parts["codes"] = parts["codes"] ^ 1
        return parts

    monkeypatch.setattr(Gaps, "encode", wrong)
    with pytest.raises(ValueError, match="Expected a coded file that decodes to the plain one"):
        tfc.export(quantized, tmp_path / "m.onnx", weights="coded", verify=False)
    assert not list(tmp_path.iterdir())
