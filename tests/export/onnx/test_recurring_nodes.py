"""What recurs in a file stands in it once, as a function; what the file computes stays."""

import numpy as np
import onnx
import onnxruntime
import pytest

from tfcompress.export.onnx.functions import DOMAIN
from tfcompress.export.onnx.recurring_nodes import write_once

make, FLOAT = onnx.helper.make_node, onnx.TensorProto.FLOAT


def layers(count, options=({},), relu=True):
    """A file of convolutions whose kernels are unpacked, each with options of its own."""
    random = np.random.default_rng(0)
    nodes, constants, source = [], [], "x"
    for place in range(count):
        kernel = random.integers(-8, 8, (2, 2, 3, 3)).astype(np.int8)
        scale = np.float32(0.02 + 0.01 * place)
        constants += [
            onnx.numpy_helper.from_array(kernel, f"k{place}"),
            onnx.numpy_helper.from_array(scale, f"s{place}"),
        ]
        nodes += [
            make("Cast", [f"k{place}"], [f"c{place}"], to=FLOAT),
            make("Mul", [f"c{place}", f"s{place}"], [f"w{place}"]),
            make("Conv", [source, f"w{place}"], [f"p{place}"], **options[place % len(options)]),
            *([make("Relu", [f"p{place}"], [f"y{place}"])] if relu else []),
        ]
        source = nodes[-1].output[0]
    ends = [onnx.helper.make_tensor_value_info(name, FLOAT, (1, 2, None, None)) for name in ("x", source)]
    graph = onnx.helper.make_graph(nodes, "graph", ends[:1], ends[1:], constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)


def outputs(proto):
    x = np.random.default_rng(1).normal(size=(1, 2, 40, 40)).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def written(proto):
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    write_once(made)
    onnx.checker.check_model(made)
    np.testing.assert_array_equal(outputs(made), outputs(proto))
    return made


@pytest.mark.parametrize("options", [({},), ({"strides": [2, 2]}, {}, {"strides": [1, 2], "pads": [1, 1, 1, 1]})])
def test_a_layer_is_a_function(options):
    """What differs, sizes that some layers have and others haven't, is told to it."""
    proto = layers(4, options)
    made = written(proto)
    assert [[node.op_type for node in function.node] for function in made.functions] == [
        ["Cast", "Mul", "Conv", "Relu"]
    ]
    assert len(made.functions[0].attribute) == len({key for each in options for key in each})
    assert [(node.domain, list(node.output)) for node in made.graph.node] == [(DOMAIN, [f"y{k}"]) for k in range(4)]
    assert made.ByteSize() < proto.ByteSize()


def test_what_layers_make_stays_a_tensor_of_the_file():
    made = written(layers(6, relu=False))
    assert [node.output[0] for node in made.graph.node] == [f"p{place}" for place in range(6)]


def test_different_numbers_are_different_functions():
    """Only lists of numbers are told to a function."""
    made = written(layers(8, ({"group": 1}, {"auto_pad": "SAME_UPPER"})))
    assert len(made.functions) == 2 and {len(function.attribute) for function in made.functions} == {0}


def test_what_there_is_once_is_left_alone():
    proto = layers(1)
    assert written(proto) == proto
