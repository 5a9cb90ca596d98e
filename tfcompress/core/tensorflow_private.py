"""The private names of TensorFlow and its converter: the only module that has them, each with its reason.

As for Keras: where a release of TensorFlow changes one, `tests/core/test_tensorflow_private.py` says what to do.
TensorFlow is imported when a function here is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

DEPENDENCIES = "_self_unconditional_dependency_names"
"""The attribute of a layer in which TensorFlow has what a checkpoint holds."""


def is_tf_function(x: Any) -> bool:
    """Return whether something is what `tf.function` makes; the public class is a protocol of methods alone.

    Instead: compare the name of the class.
    """
    return hasattr(x, "_clone") and hasattr(x, "python_function")


def with_other_function(function: Any, python_function: Callable[..., Any]) -> Any:
    """Return what `tf.function` makes of another function with the options that one was made with.

    Nothing public says what they were.
    Instead: `tf.function(python_function)`, whose options are the usual ones.
    """
    return function._clone(python_function)


def public_names(function: Any) -> tuple[str, ...]:
    """Return the names behind "tf." under which TensorFlow exports a function.

    Instead: search the modules of TensorFlow for the function.
    """
    return tuple(getattr(inspect.unwrap(function), "_tf_api_names", ()))


def function_in(graph: Any, name: str) -> Any:
    """Return the graph of a function that a graph's operations call.

    Instead: `function_def_to_graph` of the one in `graph.as_graph_def().library` that has that name.
    """
    return graph._get_function(name).graph


def set_input(operation: Any, place: int, tensor: Any) -> None:
    """Let an operation of a graph read another tensor.

    Instead: write the change into the graph's GraphDef and import that.
    """
    operation._update_input(place, tensor)


def body_of(operation: Any, shapes: Any, name: str) -> Any:
    """Return a function that a loop or a condition calls, as a graph that can be changed.

    Instead: as for `set_input`.
    """
    from tensorflow.python.ops import control_flow_util_v2

    return control_flow_util_v2.get_func_graph(operation, shapes, name)


def set_body(operation: Any, attribute: str, body: Any) -> None:
    """Let a loop or a condition call the function that a changed graph is.

    Instead: as for `set_input`.
    """
    from tensorflow.python.ops import control_flow_util_v2

    operation._set_func_attr(attribute, control_flow_util_v2.create_new_tf_function(body))


def body_as_graph(function_def: Any) -> tuple[Any, dict[str, str]]:
    """Return a function of a library as a GraphDef, and how the graph names what the function names otherwise.

    Instead: rename "node:output:place" to "node:place", with the places of all outputs in a row.
    """
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

    graph, names = function_def_to_graph_def(function_def)
    return graph, names


def unique_number() -> int:
    """Return a number that no name of a function in this process has been given.

    Instead: count from a number of our own, and say in the name that it is ours.
    """
    from tensorflow.python.framework.ops import uid

    return int(uid())


def register_functions(library: Any) -> Iterator[str]:
    """Let TensorFlow find the functions of a graph when the graph is run; yields the name of each that it lacked.

    `tf.import_graph_def` registers them for as long as one graph lives, and not for those that call it.
    Instead: wrap each with `tf.compat.v1.wrap_function`.
    """
    from tensorflow.python.eager.context import context

    context().ensure_initialized()
    for function in library.function:
        name = function.signature.name
        if not context().has_function(name):
            context().add_function_def(function)
            yield name


def forget_function(name: str) -> None:
    """Take back what `register_functions` did for a function.

    Instead: as for that.
    """
    from tensorflow.python.eager.context import context

    if context().has_function(name):
        context().remove_function(name)


def around_last_pass(converter: Any, around: Callable[[Callable[..., bytes], bytes], bytes]) -> None:
    """Let `around(optimize, content)` return a converted file, where the converter drops constants that are repeated.

    Python reads and writes the whole file for that.
    Instead: nothing; it takes time and memory where files are large.
    """
    optimize = getattr(converter, "_optimize_tflite_model", None)
    if optimize is not None:
        converter._optimize_tflite_model = lambda content, *args, **kwargs: around(
            lambda content: optimize(content, *args, **kwargs), content
        )


class GraphBytes:
    """A `GraphDef` as bytes, for the converter alone: its constants needn't be in memory twice.

    Instead: give the converter the `GraphDef`.
    """

    def __init__(self, graph_def: Any):
        content = graph_def.SerializeToString()
        self.SerializeToString = lambda: content
        lean = type(graph_def)(library=graph_def.library)
        for node in graph_def.node:  # it looks for fake quantization, and for where operations come from
            lean.node.add(name=node.name, op=node.op, experimental_debug_info=node.experimental_debug_info)
        self.node, self.library = lean.node, lean.library


def convert_graph(
    concrete: Any, graph: GraphBytes, inputs: Sequence[Any], outputs: Sequence[Any], set_up: Callable[[Any], None]
) -> bytes:
    """Return the TFLite file of a graph without variables, as it comes from the converter: without a signature.

    What is public freezes the function in Python, or writes a SavedModel and loads it twice.
    Instead: `tf.lite.TFLiteConverter.from_concrete_functions`.

    Args:
        concrete: The function that the graph was made from; where operations come from is said of it.
        graph: The graph.
        inputs: The function's tensors that are the file's inputs.
        outputs: Those that are its outputs.
        set_up: Called with the converter, to set what is public of it.
    """
    from tensorflow.lite.python import lite

    converter = lite.TFLiteFrozenGraphConverterV2([concrete])
    set_up(converter)
    around_last_pass(converter, lambda optimize, content: content)
    return bytes(lite.TFLiteConverterBaseV2.convert(converter, graph, inputs, outputs))


def convert_saved_model(folder: str, signature: str, set_up: Callable[[Any], None]) -> bytes:
    """Return the TFLite file of a SavedModel, whose variables the converter's C++ reads.

    What is public loads them in Python too, to look at the signature and once more for where operations come from.
    Instead: `tf.lite.TFLiteConverter.from_saved_model(folder, [signature])`.

    Args:
        folder: Of the SavedModel.
        signature: The name of the signature.
        set_up: Called with the converter, to set what is public of it.
    """
    import tensorflow as tf
    from tensorflow.lite.python import lite
    from tensorflow.python.saved_model.loader_impl import SavedModelLoader

    tags = {tf.saved_model.SERVING}
    converter = lite.TFLiteSavedModelConverterV2(folder, tags, [signature])
    set_up(converter)
    converter._debug_info = None
    graph_def = SavedModelLoader(folder).get_meta_graph_def_from_tags(tags).graph_def
    return bytes(converter._convert_from_saved_model(graph_def))


def traced_for_xla() -> bool:
    """Return whether what is called here is traced for XLA to compile, as in `tf.function(..., jit_compile=True)`.

    Instead: False where the kernels used without XLA have some for XLA, too.
    """
    import tensorflow as tf
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return bool(not tf.executing_eagerly() and GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))
