"""The layer types that every wrapper is checked with: a name, the layer, and the shape of one input sample."""

from __future__ import annotations

import keras
from keras import layers as L
from keras import ops


@keras.saving.register_keras_serializable(package="tests")
class Scaled(L.Layer):
    """A custom layer with a kernel and a bias of its own."""

    def __init__(self, units: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.matrix = self.add_weight(name="matrix", shape=(input_shape[-1], self.units))
        self.bias = self.add_weight(name="bias", shape=(1, self.units), initializer="zeros")

    def call(self, inputs):
        return ops.matmul(inputs, self.matrix) + self.bias

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)


@keras.saving.register_keras_serializable(package="tests")
class ResidualBlock(L.Layer):
    """A composite layer, which surgery opens."""

    def __init__(self, filters: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = L.Conv2D(filters, 3, padding="same", name="conv")
        self.norm = L.BatchNormalization(name="norm")
        self.drop = L.Dropout(0.2, seed=1)

    def call(self, inputs, training=None):
        hidden = self.norm(self.conv(inputs), training=training)
        return ops.relu(inputs + self.drop(hidden, training=training))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable(package="tests")
class SelfAttention(L.Layer):
    """Attention over one input, in a layer of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = L.MultiHeadAttention(2, 4, name="attention")

    def call(self, inputs):
        return self.attention(inputs, inputs)


LAYERS = {
    "dense": (lambda: L.Dense(4), (6,)),
    "einsum_dense": (lambda: L.EinsumDense("abc,cd->abd", output_shape=(5, 4), bias_axes="d"), (5, 6)),
    "conv1d": (lambda: L.Conv1D(4, 3), (8, 3)),
    "conv2d": (lambda: L.Conv2D(4, 3, activation="relu"), (8, 8, 3)),
    "conv3d": (lambda: L.Conv3D(2, 2), (4, 4, 4, 2)),
    "conv1d_transpose": (lambda: L.Conv1DTranspose(4, 3), (8, 3)),
    "conv2d_transpose": (lambda: L.Conv2DTranspose(4, 3, strides=2), (6, 6, 3)),
    "conv3d_transpose": (lambda: L.Conv3DTranspose(2, 2), (3, 3, 3, 2)),
    "depthwise_conv1d": (lambda: L.DepthwiseConv1D(3), (8, 4)),
    "depthwise_conv2d": (lambda: L.DepthwiseConv2D(3), (8, 8, 4)),
    "separable_conv1d": (lambda: L.SeparableConv1D(4, 3), (8, 3)),
    "separable_conv2d": (lambda: L.SeparableConv2D(4, 3), (8, 8, 3)),
    "embedding": (lambda: L.Embedding(20, 4), (7,)),
    "simple_rnn": (lambda: L.SimpleRNN(4), (6, 3)),
    "lstm": (lambda: L.LSTM(4), (6, 3)),
    "gru": (lambda: L.GRU(4), (6, 3)),
    "bidirectional": (lambda: L.Bidirectional(L.LSTM(3, return_sequences=True)), (6, 3)),
    "time_distributed": (lambda: L.TimeDistributed(L.Conv2D(2, 3)), (3, 6, 6, 2)),
    "conv_lstm": (lambda: L.ConvLSTM2D(2, 3), (3, 6, 6, 2)),
    "attention": (SelfAttention, (5, 6)),
    "residual_block": (lambda: ResidualBlock(3), (6, 6, 3)),
    "custom": (lambda: Scaled(3), (6,)),
}


GROUPS = {
    "central": ("dense", "conv2d", "lstm", "attention", "residual_block", "custom"),
    "convolutions": tuple(name for name in LAYERS if "conv" in name and name not in ("conv2d", "conv_lstm")),
    "others": ("einsum_dense", "embedding", "simple_rnn", "gru", "bidirectional", "time_distributed", "conv_lstm"),
}
"""Layers that are tried in one model. Central is one of each kind of wrapping, of weights and of calls there is."""


def model_of(*names: str) -> keras.Model:
    """Return a functional model of one of the layers and a dense head; of several: side by side, with one output."""
    inputs, heads = {}, []
    for name in names:
        make, shape = LAYERS[name]
        start, end = ("features", "head") if len(names) == 1 else (f"{name}_features", f"{name}_head")
        inputs[start] = keras.Input(shape, name=start, dtype="int32" if name == "embedding" else None)
        hidden = make()(inputs[start])
        if len(hidden.shape) > 2:
            hidden = L.Flatten()(hidden)
        heads.append(L.Dense(2, name=end)(hidden))
    if len(names) == 1:
        return keras.Model(inputs["features"], heads[0], name=names[0])
    return keras.Model(inputs, L.Concatenate(name="heads")(heads))
