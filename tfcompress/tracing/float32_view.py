"""A temporary float32 view of a model: what is exported, and what the file is compared with."""

import contextlib
from collections.abc import Iterator

import keras

from tfcompress.core.keras_private import (
    flatten_layers,
    losses_set_aside,
    own_policy,
    policy_with_variables,
    set_policy,
    set_tensor_dtype,
)
from tfcompress.core.locking import exclusive
from tfcompress.graph.inputs.symbolic import graph_of, has_graph, is_graph
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
        for layer in flatten_layers(model):
            if _floats_otherwise(layer.compute_dtype):
                undo.callback(set_policy, layer, own_policy(layer))
                set_policy(layer, _in_float32(layer))
            undo.enter_context(losses_set_aside(layer))
            if getattr(layer, "use_cudnn", False):
                _swap(undo, layer, "use_cudnn", False)
            # A functional model made of another's inner tensors has half precision inputs, and casts to them.
            for tensor in graph_of(layer).inputs if has_graph(layer) else ():
                if _floats_otherwise(tensor.dtype):
                    undo.callback(set_tensor_dtype, tensor, tensor.dtype)
                    set_tensor_dtype(tensor, "float32")
            for operation in graph_of(layer).operations if is_graph(layer) else ():
                if is_cast(operation) and operation.dtype in ("float16", "bfloat16"):
                    _swap(undo, operation, "dtype", "float32")
        undo.enter_context(keras.StatelessScope())
        yield


def _floats_otherwise(dtype: str) -> bool:
    return keras.backend.is_float_dtype(dtype) and dtype != "float32"


def _in_float32(layer: keras.layers.Layer) -> keras.DTypePolicy:
    # A layer quantized by Keras itself keeps its mode ("int8_from_mixed_float16"): it selects the layer's
    # code.
    mode = layer.quantization_mode
    if mode:
        return keras.dtype_policies.get(f"{mode}_from_float32")
    # Saying what the variables are, so that they are cast where they are not float32 (a pure bfloat16 model).
    return policy_with_variables("float32", layer.variable_dtype)


def _swap(undo: contextlib.ExitStack, thing: object, attribute: str, value: object) -> None:
    """Set an attribute past every property setter (they quantize, or write into a shared DTypePolicyMap)."""
    undo.callback(object.__setattr__, thing, attribute, getattr(thing, attribute))
    object.__setattr__(thing, attribute, value)
