"""Sequences: recurrent, convolutional along time, speech, video."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.styles.catalogue import ids, normal, pixels, style


@style
def time_series_transformer():
    def encoder(x, head, heads, width):
        y = layers.Dropout(0.1)(layers.MultiHeadAttention(key_dim=head, num_heads=heads, dropout=0.1)(x, x))
        res = layers.LayerNormalization(epsilon=1e-6)(y) + x
        y = layers.Conv1D(filters=width, kernel_size=1, activation="relu")(res)
        y = layers.Conv1D(filters=x.shape[-1], kernel_size=1)(layers.Dropout(0.1)(y))
        return layers.LayerNormalization(epsilon=1e-6)(y) + res

    inputs = keras.Input((24, 1))
    x = encoder(encoder(inputs, 4, 2, 4), 4, 2, 4)
    x = layers.GlobalAveragePooling1D(data_format="channels_last")(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.Dense(8, activation="relu")(x))), normal(
        4, 24, 1
    )


@style
def fully_convolutional_time_series():
    inputs = keras.Input((32, 1))
    x = inputs
    for _ in range(3):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(filters=8, kernel_size=3, padding="same")(x)))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling1D()(x))), normal(
        4, 32, 1
    )


@style
def anomaly_autoencoder():
    model = keras.Sequential(
        [
            layers.Input((32, 1)),
            layers.Conv1D(8, 7, padding="same", strides=2, activation="relu"),
            layers.Dropout(rate=0.2),
            layers.Conv1D(4, 7, padding="same", strides=2, activation="relu"),
            layers.Conv1DTranspose(4, 7, padding="same", strides=2, activation="relu"),
            layers.Conv1DTranspose(8, 7, padding="same", strides=2, activation="relu"),
            layers.Conv1DTranspose(1, 7, padding="same"),
        ]
    )
    return model, normal(4, 32, 1)


@style
def next_frame():
    inputs = layers.Input((None, 8, 8, 1))
    x = layers.ConvLSTM2D(4, (3, 3), padding="same", return_sequences=True, activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    return keras.Model(inputs, layers.Conv3D(1, (3, 3, 3), activation="sigmoid", padding="same")(x)), pixels(
        2, 4, 8, 8, 1
    )


@style
def frames_in_time():
    cnn = keras.Sequential(
        [layers.Input((8, 8, 3)), layers.Conv2D(4, 3, activation="relu"), layers.GlobalMaxPooling2D()]
    )
    frames, mask = keras.Input((5, 8, 8, 3)), keras.Input((5,), dtype="bool")
    x = layers.TimeDistributed(cnn)(frames)
    x = layers.GRU(6, return_sequences=True)(x, mask=mask)
    x = layers.Dropout(0.4)(layers.GRU(4)(x))
    lengths = np.arange(5)[None] < np.array([[5], [3]])
    return keras.Model([frames, mask], layers.Dense(3, activation="softmax")(x)), [pixels(2, 5, 8, 8, 3), lengths]


@style
def characters_to_digits():
    model = keras.Sequential()
    model.add(layers.Input((7, 12)))
    model.add(layers.LSTM(8))
    model.add(layers.RepeatVector(4))
    model.add(layers.LSTM(8, return_sequences=True))
    model.add(layers.Dense(12, activation="softmax"))
    return model, pixels(2, 7, 12)


@style
def encoder_decoder_lstm():
    encoder_inputs = keras.Input(shape=(None, 5))
    _, state_h, state_c = layers.LSTM(6, return_state=True)(encoder_inputs)
    decoder_inputs = keras.Input(shape=(None, 7))
    outputs, _, _ = layers.LSTM(6, return_sequences=True, return_state=True)(
        decoder_inputs, initial_state=[state_h, state_c]
    )
    out = layers.Dense(7, activation="softmax")(outputs)
    return keras.Model([encoder_inputs, decoder_inputs], out), [normal(2, 9, 5), normal(2, 9, 7, seed=1)]


@style
def captcha_reader():
    image = layers.Input((24, 12, 1), name="image")
    x = layers.MaxPooling2D((2, 2))(layers.Conv2D(4, 3, activation="relu", padding="same")(image))
    x = layers.MaxPooling2D((2, 2))(layers.Conv2D(8, 3, activation="relu", padding="same")(x))
    x = layers.Dense(8, activation="relu")(layers.Reshape(target_shape=(6, 24))(x))
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True, dropout=0.25))(x)
    return keras.Model(image, layers.Dense(11, activation="softmax")(x)), pixels(2, 24, 12, 1)


class Spectrogram(layers.Layer):
    def __init__(self, frame, step):
        super().__init__()
        self.frame, self.step = frame, step

    def call(self, audio):
        spectrum = tf.signal.stft(audio, frame_length=self.frame, frame_step=self.step)
        return tf.math.log(tf.abs(spectrum) + 1e-6)


@style
def spectrogram_classifier():
    """Raw TensorFlow with complex numbers: refused by name in the formats that lack them, or right."""
    inputs = keras.Input((64,))
    x = layers.Conv1D(6, 3, activation="relu")(Spectrogram(16, 8)(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalMaxPooling1D()(x))), normal(2, 64)


@style
def spectrum_magnitudes():
    inputs = keras.Input((32,))
    real, imaginary = ops.rfft(inputs)
    x = ops.sqrt(ops.square(real) + ops.square(imaginary) + 1e-6)
    return keras.Model(inputs, layers.Dense(4)(x)), normal(2, 32)


class LearnedPositions(layers.Layer):
    def __init__(self, vocabulary=20, length=8, hidden=8):
        super().__init__()
        self.emb = layers.Embedding(vocabulary, hidden)
        self.pos_emb = layers.Embedding(input_dim=length, output_dim=hidden)

    def call(self, x):
        maxlen = ops.shape(x)[-1]
        x = self.emb(x)
        positions = ops.arange(start=0, stop=maxlen, step=1)
        return x + self.pos_emb(positions)


@style
def speech_transformer():
    source, target = keras.Input((32, 4), name="source"), keras.Input((8,), dtype="int32", name="target")
    x = source
    for _ in range(2):
        x = layers.Conv1D(8, 5, strides=2, padding="same", activation="relu")(x)
    attended = layers.MultiHeadAttention(num_heads=2, key_dim=8)(x, x)
    x = layers.LayerNormalization(epsilon=1e-6)(x + attended)
    y = LearnedPositions()(target)
    own = layers.MultiHeadAttention(num_heads=2, key_dim=8)(y, y, use_causal_mask=True)
    y = layers.LayerNormalization(epsilon=1e-6)(y + own)
    y = y + layers.MultiHeadAttention(num_heads=2, key_dim=8)(y, x)
    return keras.Model({"source": source, "target": target}, layers.Dense(20)(y)), {
        "source": normal(2, 32, 4),
        "target": ids(2, 8, below=20),
    }


@style
def dilated_causal_convolutions():
    inputs = keras.Input((None, 3))
    x = inputs
    skips = []
    for rate in (1, 2, 4, 8):
        gate = layers.Conv1D(6, 2, dilation_rate=rate, padding="causal", activation="sigmoid")(x)
        filtered = layers.Conv1D(6, 2, dilation_rate=rate, padding="causal", activation="tanh")(x)
        z = layers.Conv1D(6, 1)(layers.Multiply()([filtered, gate]))
        skips.append(z)
        x = z if rate == 1 else layers.Add()([z, x])
    y = layers.Cropping1D(16)(ops.relu(layers.Add()(skips)))
    return keras.Model(inputs, layers.Conv1D(2, 1)(y)), normal(2, 48, 3)
