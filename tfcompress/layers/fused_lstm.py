"""Which recurrent layers are the one LSTM that runtimes have as a single operator over all steps."""

from __future__ import annotations

from typing import Any

import keras


def why_not_fused(layer: Any) -> str | None:
    """Return why a layer's loop over steps is no fused LSTM; `None` if it is one, as long as it gets no mask.

    >>> why_not_fused(keras.layers.LSTM(2)), why_not_fused(keras.layers.LSTM(2, activation="relu"))
    (None, 'its activation is relu; the fused LSTM has tanh')
    """
    if not isinstance(layer, keras.layers.LSTM):
        return "it is no LSTM"
    changed = type(layer).inner_loop is not keras.layers.LSTM.inner_loop
    if changed or type(layer.cell) is not keras.layers.LSTMCell or "inner_loop" in vars(layer):
        return "its class has a loop or a cell of its own"
    if layer.activation is not keras.activations.tanh:
        return f"its activation is {_called(layer.activation)}; the fused LSTM has tanh"
    if layer.recurrent_activation is not keras.activations.sigmoid:
        return f"its recurrent activation is {_called(layer.recurrent_activation)}; the fused LSTM has sigmoid"
    return None


def _called(function: Any) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)
