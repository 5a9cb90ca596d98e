"""LSTM layers of many units as a loop that is faster in LiteRT than its fused operator: for their last output."""

from __future__ import annotations

from typing import Any

UNITS = 64
"""From so many on it is faster on processors with XNNPACK (`python -m benchmarks.small --part=recurrent_time`)."""


def is_loop_faster(layer: Any) -> bool:
    """Return whether an LSTM that computes in float is faster as this loop than as the fused operator.

    A loop that gathers the outputs of all steps isn't: interpreters copy them all in each step.
    """
    return bool(layer.units >= UNITS and not layer.return_sequences)


def last_states(layer: Any, sequences: Any, initial_state: Any) -> tuple[Any, Any]:
    """Return the hidden state and the cell state behind all steps.

    The input's products are those of one dense layer over all steps, in front of the loop; two steps are a round of it,
    if their number is even.

    Args:
        layer: An LSTM with sigmoid and tanh.
        sequences: Tensor of (steps, batch, values).
        initial_state: The hidden state and the cell state, (batch, units).
    """
    import tensorflow as tf

    cell, (steps, batch, width) = layer.cell, sequences.shape
    at_once = 1 if steps % 2 else 2
    given = tf.matmul(tf.reshape(sequences, (-1, width)), tf.convert_to_tensor(cell.kernel))
    if layer.use_bias:
        given += tf.convert_to_tensor(cell.bias)
    given = tf.reshape(given, (steps // at_once, at_once * batch, 4 * layer.units))

    def step(products: Any, hidden: Any, memory: Any) -> tuple[Any, Any]:
        gates = tf.matmul(hidden, tf.convert_to_tensor(cell.recurrent_kernel)) + products
        enter, forget, new, leave = tf.split(gates, 4, axis=1)
        memory = tf.sigmoid(forget) * memory + tf.sigmoid(enter) * tf.tanh(new)
        return tf.sigmoid(leave) * tf.tanh(memory), memory

    def turn(place: Any, hidden: Any, memory: Any) -> tuple[Any, Any, Any]:
        for products in tf.split(tf.gather(given, place), at_once):
            hidden, memory = step(products, hidden, memory)
        return place + 1, hidden, memory

    before = (0, *map(tf.convert_to_tensor, initial_state))
    if steps == at_once:
        return turn(*before)[1:]
    _, hidden, memory = tf.while_loop(lambda place, *_: place < steps // at_once, turn, before)
    return hidden, memory
