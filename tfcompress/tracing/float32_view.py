"""A temporary float32 view of a model: what is exported, and what the file is compared with."""

import contextlib
from collections.abc import Iterator

import keras

from tfcompress.core.locking import exclusive
from tfcompress.graph.inputs.symbolic import graph_of, is_graph
from tfcompress.graph.rewrite import is_cast


@contextlib.contextmanager
def float32_view(model: keras.Model) -> Iterator[None]:
    """Let every layer of `model` compute in float32 for the time of the block, and leave no trace.

    A mixed_float16 model converts to a graph of casts that no stock TFLite interpreter runs and that ONNX
    Runtime runs at a quarter of the speed. Its variables are float32 already, so computing in float32 is all
    that is to be done.

    cuDNN's recurrent kernels, which a machine with a GPU would trace, are in no file format: they are off
    here. Nor does a call in the block change a variable, or leave a loss of its graph behind in a layer.
    """
    with exclusive(), contextlib.ExitStack() as undo:
        for layer in _layers(model):
            if _floats_otherwise(layer.compute_dtype):
                _swap(undo, layer, "_dtype_policy", _in_float32(layer))
            # A call begins by emptying these, and a regularizer would fill them with tensors of the graph.
            _swap(undo, layer, "_losses", [])
            _swap(undo, layer, "_loss_ids", set())
            if getattr(layer, "use_cudnn", False):
                _swap(undo, layer, "use_cudnn", False)
            # A functional model made of another's inner tensors has half precision inputs, and casts to them.
            for tensor in getattr(layer, "_inputs", None) or ():
                if _floats_otherwise(tensor.dtype):
                    _swap(undo, tensor, "_dtype", "float32")
            for operation in graph_of(layer).operations if is_graph(layer) else ():
                if is_cast(operation) and operation.dtype in ("float16", "bfloat16"):
                    _swap(undo, operation, "dtype", "float32")
        undo.enter_context(keras.StatelessScope())
        yield


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    yield from model._flatten_layers()


def _floats_otherwise(dtype: str) -> bool:
    return keras.backend.is_float_dtype(dtype) and dtype != "float32"


def _in_float32(layer: keras.layers.Layer) -> keras.DTypePolicy:
    # A layer quantized by Keras itself keeps its mode ("int8_from_mixed_float16"): it selects the layer's
    # code.
    mode = layer.quantization_mode
    if mode:
        return keras.dtype_policies.get(f"{mode}_from_float32")
    policy = keras.DTypePolicy("float32")
    # Saying what the variables are, so that they are cast where they are not float32 (a pure bfloat16 model).
    policy._variable_dtype = layer.variable_dtype
    return policy


def _swap(undo: contextlib.ExitStack, thing: object, attribute: str, value: object) -> None:
    """Set an attribute past every property setter (they quantize, or write into a shared DTypePolicyMap)."""
    undo.callback(object.__setattr__, thing, attribute, getattr(thing, attribute))
    object.__setattr__(thing, attribute, value)
