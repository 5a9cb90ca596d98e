"""What of a file is neither weight nor bias: small, and none of it missing to whoever reads it."""

import contextlib
import io

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.export.tiny import interpreter
from tfcompress.core.tensorflow_private import GraphBytes, convert_graph
from tfcompress.evaluation.file_constants import bytes_by_dtype
from tfcompress.export.plan.deployment import deploy
from tfcompress.export.tflite.flatbuffer import File, operators
from tfcompress.tracing.frozen_graph import frozen
from tfcompress.tracing.trace import trace

MOST = 0.6
"""Of the bytes of the container that TensorFlow's converter makes of the same graph."""


@pytest.fixture(scope="module")
def quantized():
    """Two residual blocks and a classifier, as ResNet-8 has three of."""
    keras.utils.set_random_seed(0)

    def convolution(x, filters, size, stride):
        return L.BatchNormalization()(L.Conv2D(filters, size, stride, padding="same", use_bias=False)(x))

    inputs = keras.Input((8, 8, 3), name="image")
    h = L.ReLU()(convolution(inputs, 8, 3, 1))
    for filters, stride in ((8, 1), (16, 2)):
        before = h if stride == 1 else convolution(h, filters, 1, stride)
        h = convolution(L.ReLU()(convolution(h, filters, 3, stride)), filters, 3, 1)
        h = L.ReLU()(L.Add()([before, h]))
    model = keras.Model(inputs, L.Dense(10, name="scores")(L.GlobalAveragePooling2D()(h)), name="residual")
    return tfc.quantize(model, "int8", np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32"))


@pytest.fixture(scope="module")
def artifacts(quantized, tmp_path_factory):
    folder = tmp_path_factory.mktemp("container")
    return [tfc.export(quantized, folder / f"{names}.tflite", names=names, verify=not names) for names in (False, True)]


def container(path):
    return path.stat().st_size - sum(bytes_by_dtype(path)[kind] for kind in ("int8", "int32"))


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
def test_at_most_so_much_of_the_converter_s(quantized, artifacts, tmp_path):
    import tensorflow as tf

    def integers(converter):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]  # of fake-quantizers integers, without calibration

    traced = trace(deploy(quantized, "tflite").model, 1)
    concrete = traced.concrete
    outputs = [concrete.structured_outputs[name] for name in traced.outputs]
    theirs = tmp_path / "theirs.tflite"
    graph = GraphBytes(frozen(concrete, 1))
    theirs.write_bytes(convert_graph(concrete, graph, concrete.inputs[:1], outputs, integers))
    assert bytes_by_dtype(theirs)["int8"] == bytes_by_dtype(artifacts[0].path)["int8"]
    assert container(artifacts[0].path) <= MOST * container(theirs)
    assert container(artifacts[0].path) < container(artifacts[1].path) < container(theirs)


def test_names_of_the_ends_stay(artifacts):
    lean, named = artifacts
    graph = File(lean.path.read_bytes()).graphs[0]
    ends = {int(index) for index in (*graph.graph.inputs, *graph.graph.outputs)}
    assert all(bool(graph.tensor_name(index)) == (index in ends) for index in range(len(graph.tensors)))
    reader = interpreter(lean.path.read_bytes())
    assert reader.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["scores"]}}
    names = File(named.path.read_bytes()).graphs[0]
    assert lean.tensor_names == tuple(map(names.tensor_name, range(len(names.tensors)))) and not named.tensor_names


def test_both_compute_the_same(artifacts):
    x = np.random.default_rng(1).normal(size=(8, 8, 8, 3)).astype("float32")
    lean, named = (artifact.predict(x) for artifact in artifacts)
    assert np.array_equal(lean, named)


def test_other_readers_take_it(artifacts, tmp_path):
    import tensorflow as tf

    lean, named = artifacts
    assert operators(lean.path.read_bytes()) == operators(named.path.read_bytes())
    opened = tfc.Artifact.open(lean.path)
    assert opened.operators.integer == named.operators.integer and opened.inputs == lean.inputs
    with contextlib.redirect_stdout(io.StringIO()) as said:
        tf.lite.experimental.Analyzer.analyze(model_path=str(lean.path))
    assert "CONV_2D" in said.getvalue()


def test_debug_knows_the_tensors(tmp_path):
    x = np.random.default_rng(2).normal(size=(4, 3)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), L.Dense(4, activation="relu"), L.Dense(2)])
    quantized = tfc.quantize(model, "int8", x)
    artifact = tfc.export(quantized, tmp_path / "m.tflite", verify=False)
    known, told = tfc.debug(quantized, artifact, x), tfc.debug(quantized, artifact.path, x)
    assert all(one.tensor for one in known.tensors) and "names=True" not in str(known)
    assert not all(one.tensor for one in told.tensors) and "names=True" in str(told)
    assert known.first is None and told.first is None and not known.missing and not told.missing


def test_names_is_a_flag(quantized, tmp_path):
    with pytest.raises(TypeError, match="Expected names to be True or False"):
        tfc.export(quantized, tmp_path / "m.tflite", names="no")
