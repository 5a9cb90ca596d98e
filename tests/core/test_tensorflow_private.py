"""TensorFlow's private names, one test each: they still are what `tensorflow_private` takes them for."""

from __future__ import annotations

import tempfile

import pytest
import tensorflow as tf

from tests.private_names import Cases
from tfcompress.core import tensorflow_private as private

TENSORFLOW = Cases(private, "TensorFlow", tf.__version__, seen="2.21.0")
case = TENSORFLOW.case


def traced(function, *shapes):
    return tf.function(function).get_concrete_function(*(tf.TensorSpec(shape) for shape in shapes))


@case("is_tf_function", "with_other_function")
def functions_of_tensorflow():
    function = tf.function(lambda x: x + 1, reduce_retracing=True)
    assert private.is_tf_function(function) and not private.is_tf_function(len)
    other = private.with_other_function(function, lambda x: x + 2)
    assert private.is_tf_function(other) and float(other(tf.constant(1.0))) == 3


@case()
def public_names():
    assert "math.add" in private.public_names(tf.math.add)
    assert private.public_names(len) == ()


@case()
def function_in():
    inner = tf.function(lambda x: x * 2)
    graph = traced(lambda x: inner(x) + 0, (2,)).graph
    (name,) = (op.get_attr("f").name for op in graph.get_operations() if "Call" in op.type)
    assert "Mul" in {op.type for op in private.function_in(graph, name).get_operations()}


@case("set_input")
def changes_of_a_graph():
    graph = traced(lambda x, y: tf.nn.relu(x), (2,), (2,)).graph
    (relu,) = (op for op in graph.get_operations() if op.type == "Relu")
    private.set_input(relu, 0, graph.inputs[1])
    assert relu.inputs[0] is graph.inputs[1]


@case("body_of", "set_body")
def bodies_of_loops():
    concrete = traced(lambda x: tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), [0, x])[1], (2,))
    (loop,) = (op for op in concrete.graph.get_operations() if op.type.endswith("While"))
    body = private.body_of(loop, [x.shape for x in loop.outputs], loop.get_attr("body").name)
    assert "Mul" in {op.type for op in body.get_operations()}
    body.name = "another"
    private.set_body(loop, "body", body)
    assert "another" in loop.get_attr("body").name


@case()
def body_as_graph():
    inner = tf.function(lambda x: tf.split(x, 2)[1])
    (function,) = traced(lambda x: inner(x) + 0, (2,)).graph.as_graph_def().library.function
    graph, names = private.body_as_graph(function)
    assert {"Split", "Identity"} <= {node.op for node in graph.node}
    assert names["split:output:1"] == "split:1"


@case()
def unique_number():
    assert private.unique_number() != private.unique_number()


@case("register_functions", "forget_function")
def functions_of_a_library():
    inner = tf.function(lambda x: x * 2)
    library = traced(lambda x: inner(x) + 0, (2,)).graph.as_graph_def().library
    (function,) = library.function
    function.signature.name = "of_a_library"
    assert [*private.register_functions(library)] == ["of_a_library"]
    assert [*private.register_functions(library)] == []  # it is known by now
    private.forget_function("of_a_library")
    assert [*private.register_functions(library)] == ["of_a_library"]
    private.forget_function("of_a_library")
    private.forget_function("of_a_library")  # nothing to do


@case("around_last_pass", "convert_saved_model", "convert_graph", "GraphBytes")
def conversions():
    module = tf.Module()
    module.weight = tf.Variable(tf.ones((2, 2)))
    module.call = tf.function(lambda x: x @ module.weight, input_signature=[tf.TensorSpec((1, 2))])
    seen = []

    def set_up(converter):
        private.around_last_pass(converter, lambda optimize, content: seen.append(len(optimize(content))) or content)

    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.call})
        content = private.convert_saved_model(folder, "serving_default", set_up)
    assert len(seen) == 1 and b"serving_default" in content
    double = traced(lambda x: x * 2, (1, 2))
    made = private.convert_graph(
        double, private.GraphBytes(double.graph.as_graph_def()), double.inputs, double.outputs, lambda converter: None
    )
    assert made[4:8] == content[4:8] == b"TFL3"


@case()
def traced_for_xla():
    seen = []

    def called(x):
        seen.append(private.traced_for_xla())
        return x

    tf.function(called, jit_compile=True)(tf.constant(1.0))
    tf.function(called)(tf.constant(1.0))
    called(tf.constant(1.0))
    tf.function(tf.function(called), jit_compile=True)(tf.constant(1.0))
    assert seen == [True, False, False, True]


def test_every_function_has_a_test():
    TENSORFLOW.check_complete()


@pytest.mark.parametrize("names", TENSORFLOW.tests)
def test_tensorflow_has_what_is_relied_on(names):
    TENSORFLOW.check(names)
