"""LSTM layers as one operation over all steps, where a format has an operator for that and it is the faster way."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.locking import exclusive
from tfcompress.layers.fused_lstm import why_not_fused
from tfcompress.tracing.lstm_loop import is_loop_faster, last_states

FUSED = "BlockLSTMV2"
"""TensorFlow's operation: an LSTM over all steps, the gates of its kernels in Keras' order."""

CELL_LIMIT = "cell_limit"
"""The attribute of a layer that says where its cell state is cut off, which it is in integers; else it isn't."""

HIDDEN, CELL = 6, 1
"""Which of its outputs have the hidden state and the cell state of each step."""


@contextlib.contextmanager
def lstms_fused(model: keras.Model, *, loops: bool = True) -> Iterator[None]:
    """Let each LSTM of a model that is one be TensorFlow's fused operation, or a faster loop, while in the block.

    Args:
        model: Called in the block, in a graph, for inference.
        loops: Whether a loop is taken where it is faster; it takes several times the memory.
    """
    found = [layer for layer in flatten_layers(model) if why_not_fused(layer) is None]
    with contextlib.ExitStack() as undo:
        if found:
            undo.enter_context(exclusive())
        for layer in found:
            undo.callback(object.__delattr__, layer, "inner_loop")
            object.__setattr__(layer, "inner_loop", functools.partial(_inner_loop, layer, layer.inner_loop, loops))
        yield


def has_fused(trace: Any) -> bool:
    """Return whether a model was traced with the fused operation."""
    return any(op.type == FUSED for op in trace.concrete.graph.get_operations())


def _inner_loop(
    layer: Any,
    own: Callable[..., Any],
    loops: bool,
    sequences: Any,
    initial_state: Any,
    *,
    mask: Any = None,
    training: bool = False,
) -> Any:
    """Return what the loop of an LSTM does: the last output, all outputs, and the states in the end."""
    import tensorflow as tf

    graph = tf.compat.v1.get_default_graph()
    masked = mask is not None and any(x is not None for x in keras.tree.flatten(mask))
    # In the body of a loop, the state of the operator would go on from round to round.
    inside = getattr(graph, "outer_graph", None) is not None and graph.outer_graph.building_function
    if masked or training or inside or None in sequences.shape:
        return own(sequences, initial_state, mask=mask, training=training)
    if layer.go_backwards:
        sequences = ops.flip(sequences, axis=1)
    if loops and not hasattr(layer, CELL_LIMIT) and is_loop_faster(layer):
        hidden, memory = last_states(layer, _turned(sequences), initial_state)
        return hidden, ops.expand_dims(hidden, 1), [hidden, memory]
    cell = layer.cell
    kernel = tf.concat([tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)], 0)
    bias = tf.convert_to_tensor(cell.bias) if layer.use_bias else tf.zeros((4 * layer.units,))
    none = tf.zeros((layer.units,))
    hidden, memory = map(tf.convert_to_tensor, initial_state)
    made = tf.raw_ops.BlockLSTMV2(
        seq_len_max=tf.constant(sequences.shape[1], tf.int64),
        x=_turned(sequences),
        cs_prev=memory,
        h_prev=hidden,
        w=kernel,
        wci=none,
        wcf=none,
        wco=none,
        b=bias,
        cell_clip=getattr(layer, CELL_LIMIT, -1.0),
    )
    outputs = _turned(made.h) if layer.return_sequences else ops.expand_dims(made.h[-1], 1)
    return made.h[-1], outputs, [made.h[-1], made.cs[-1]]


def _turned(sequences: Any) -> Any:
    """Return (batch, steps, values) as (steps, batch, values), or the other way round."""
    import tensorflow as tf

    one, other, values = sequences.shape
    if 1 in (one, other):
        return tf.reshape(sequences, (other, one, values))
    return tf.transpose(sequences, (1, 0, 2))
