"""Vision transformers and their relatives."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.styles.catalogue import called, normal, pixels, style


class Patches(layers.Layer):
    def __init__(self, patch_size):
        super().__init__()
        self.patch_size = patch_size

    def call(self, images):
        shape = ops.shape(images)
        size = self.patch_size
        patches = ops.image.extract_patches(images, size=size)
        return ops.reshape(patches, (shape[0], (shape[1] // size) * (shape[2] // size), size * size * shape[3]))


class PatchEncoder(layers.Layer):
    def __init__(self, num_patches, dim):
        super().__init__()
        self.num_patches = num_patches
        self.projection = layers.Dense(dim)
        self.position_embedding = layers.Embedding(num_patches, dim)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(0, self.num_patches), 0)
        return self.projection(patch) + self.position_embedding(positions)


def mlp(x, units, rate):
    for width in units:
        x = layers.Dense(width, activation=keras.activations.gelu)(x)
        x = layers.Dropout(rate)(x)
    return x


@style
def vision_transformer():
    inputs = keras.Input((16, 16, 3))
    encoded = PatchEncoder(16, 16)(Patches(4)(inputs))
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(encoded)
        attention = layers.MultiHeadAttention(num_heads=2, key_dim=8, dropout=0.1)(x1, x1)
        x2 = layers.Add()([attention, encoded])
        x3 = layers.LayerNormalization(epsilon=1e-6)(x2)
        encoded = layers.Add()([mlp(x3, [32, 16], 0.1), x2])
    features = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(encoded))
    return keras.Model(inputs, layers.Dense(5)(mlp(features, [32], 0.5))), pixels(4, 16, 16, 3)


class Tokenizer(layers.Layer):
    def __init__(self, channels=(16, 32)):
        super().__init__()
        self.stages = keras.Sequential()
        for width in channels:
            self.stages.add(layers.Conv2D(width, 3, 1, padding="valid", use_bias=False, activation="relu"))
            self.stages.add(layers.ZeroPadding2D(1))
            self.stages.add(layers.MaxPooling2D(3, 2, "same"))

    def call(self, images):
        outputs = self.stages(images)
        shape = ops.shape(outputs)
        return ops.reshape(outputs, (-1, shape[1] * shape[2], shape[-1]))


class StochasticDepth(layers.Layer):
    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, x, training=None):
        if training:
            keep = 1 - self.drop_prob
            shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
            mask = ops.floor(keep + keras.random.uniform(shape, 0, 1, seed=self.seed_generator))
            return (x / keep) * mask
        return x


class SequencePooling(layers.Layer):
    def __init__(self):
        super().__init__()
        self.attention = layers.Dense(1)

    def call(self, x):
        weights = ops.softmax(self.attention(x), axis=1)
        weights = ops.transpose(weights, axes=(0, 2, 1))
        return ops.squeeze(ops.matmul(weights, x), -2)


@style
def compact_convolutional_transformer():
    inputs = keras.Input((16, 16, 3))
    encoded = Tokenizer()(inputs)
    for rate in np.linspace(0, 0.1, 2):
        x1 = layers.LayerNormalization(epsilon=1e-5)(encoded)
        attention = layers.MultiHeadAttention(num_heads=2, key_dim=16)(x1, x1)
        x2 = layers.Add()([StochasticDepth(rate)(attention), encoded])
        x3 = mlp(layers.LayerNormalization(epsilon=1e-5)(x2), [32, 32], 0.1)
        encoded = layers.Add()([StochasticDepth(rate)(x3), x2])
    pooled = SequencePooling()(layers.LayerNormalization(epsilon=1e-5)(encoded))
    return keras.Model(inputs, layers.Dense(4)(pooled)), pixels(4, 16, 16, 3)


class MixerBlock(layers.Layer):
    def __init__(self, num_patches, hidden, rate, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.mlp1 = keras.Sequential(
            [layers.Dense(num_patches, activation="gelu"), layers.Dense(num_patches), layers.Dropout(rate)]
        )
        self.mlp2 = keras.Sequential([layers.Dense(hidden, activation="gelu"), layers.Dense(hidden)])
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def build(self, input_shape):
        return super().build(input_shape)

    def call(self, inputs):
        x = self.normalize(inputs)
        channels = ops.transpose(x, axes=(0, 2, 1))
        mixed = ops.transpose(self.mlp1(channels), axes=(0, 2, 1))
        x = mixed + inputs
        return x + self.mlp2(self.normalize(x))


@style
def mlp_mixer():
    inputs = keras.Input((16, 16, 3))
    x = layers.Dense(12)(Patches(4)(inputs))
    x = keras.Sequential([MixerBlock(16, 12, 0.1) for _ in range(2)])(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))), pixels(4, 16, 16, 3)


class FourierMixing(layers.Layer):
    def __init__(self, dim):
        super().__init__()
        self.ffn = keras.Sequential([layers.Dense(dim, activation="gelu"), layers.Dense(dim)])
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        real, _ = ops.fft2((inputs, ops.zeros_like(inputs)))
        x = self.normalize1(real + inputs)
        return self.normalize2(self.ffn(x) + x)


@style
def fourier_network():
    inputs = keras.Input((8, 8))
    x = FourierMixing(8)(layers.Dense(8)(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))), normal(4, 8, 8)


class GatedUnit(layers.Layer):
    def __init__(self, patches, dim):
        super().__init__()
        self.channel_projection1 = keras.Sequential([layers.Dense(dim * 2), layers.ReLU()])
        self.channel_projection2 = layers.Dense(dim)
        self.spatial_projection = layers.Dense(patches, bias_initializer="Ones")
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def spatial_gating_unit(self, x):
        u, v = ops.split(x, indices_or_sections=2, axis=2)
        v = self.normalize2(v)
        v = ops.transpose(v, axes=(0, 2, 1))
        v = ops.transpose(self.spatial_projection(v), axes=(0, 2, 1))
        return u * v

    def call(self, inputs):
        x = self.channel_projection1(self.normalize1(inputs))
        return inputs + self.channel_projection2(self.spatial_gating_unit(x))


@style
def gated_mlp():
    inputs = keras.Input((12, 8))
    x = keras.Sequential([GatedUnit(12, 8) for _ in range(2)])(inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))), normal(4, 12, 8)


class Perceiver(keras.Model):
    def __init__(self, latents=4, dim=8):
        super().__init__()
        self.latents = latents
        self.dim = dim

    def build(self, input_shape):
        self.latent_array = self.add_weight(
            shape=(self.latents, self.dim), initializer="random_normal", trainable=True, name="latent_array"
        )
        self.encoder = layers.Dense(self.dim)
        self.cross_attention = layers.Attention(use_scale=True, dropout=0.1)
        self.norm = layers.LayerNormalization()
        self.transformer = layers.MultiHeadAttention(num_heads=2, key_dim=self.dim)
        self.pool = layers.GlobalAveragePooling1D()
        self.head = layers.Dense(3)
        super().build(input_shape)

    def call(self, inputs):
        encoded = self.encoder(inputs)
        latent = ops.expand_dims(self.latent_array, 0) + ops.zeros_like(encoded[:, :1, :])
        for _ in range(2):
            latent = self.norm(self.cross_attention([latent, encoded, encoded]) + latent)
            latent = self.transformer(latent, latent) + latent
        return self.head(self.pool(latent))


@style
def perceiver():
    return called(Perceiver(), normal(4, 10, 6))


def window_partition(x, size):
    _, height, width, channels = x.shape
    x = ops.reshape(x, (-1, height // size, size, width // size, size, channels))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, size, size, channels))


class WindowAttention(layers.Layer):
    def __init__(self, dim, window, heads, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.window, self.heads = dim, window, heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = layers.Dense(dim * 3, use_bias=True)
        self.proj = layers.Dense(dim)
        coords = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
        relative = (coords[:, :, None] - coords[:, None, :]).transpose(1, 2, 0) + window - 1
        self.index = (relative[..., 0] * (2 * window - 1) + relative[..., 1]).reshape(-1)

    def build(self, input_shape):
        self.table = self.add_weight(
            shape=((2 * self.window - 1) ** 2, self.heads),
            initializer=keras.initializers.RandomNormal(seed=3),
            name="relative_position_bias",
        )

    def call(self, x):
        tokens = self.window**2
        qkv = ops.reshape(self.qkv(x), (-1, tokens, 3, self.heads, self.dim // self.heads))
        query, key, value = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3)
        scores = (query * self.scale) @ ops.transpose(key, (0, 1, 3, 2))
        bias = ops.reshape(ops.take(self.table, self.index, axis=0), (tokens, tokens, -1))
        scores = scores + ops.expand_dims(ops.transpose(bias, (2, 0, 1)), 0)
        mixed = ops.transpose(keras.activations.softmax(scores, axis=-1) @ value, (0, 2, 1, 3))
        return self.proj(ops.reshape(mixed, (-1, tokens, self.dim)))


class ShiftedBlock(layers.Layer):
    def __init__(self, dim, size, window=4, shift=2, **kwargs):
        super().__init__(**kwargs)
        self.size, self.window, self.shift, self.dim = size, window, shift, dim
        self.norm = layers.LayerNormalization(epsilon=1e-5)
        self.attention = WindowAttention(dim, window, 2)

    def call(self, x):
        tokens = x.shape[1]
        y = ops.reshape(self.norm(x), (-1, self.size, self.size, self.dim))
        y = ops.roll(y, shift=[-self.shift, -self.shift], axis=[1, 2])
        windows = ops.reshape(window_partition(y, self.window), (-1, self.window**2, self.dim))
        windows = ops.reshape(self.attention(windows), (-1, self.window, self.window, self.dim))
        count = self.size // self.window
        y = ops.reshape(windows, (-1, count, count, self.window, self.window, self.dim))
        y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, self.size, self.size, self.dim))
        y = ops.roll(y, shift=[self.shift, self.shift], axis=[1, 2])
        return x + ops.reshape(y, (-1, tokens, self.dim))


@style
def shifted_windows():
    inputs = keras.Input((16, 16, 3))
    x = layers.Dense(8)(Patches(2)(inputs))
    x = ShiftedBlock(8, 8)(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))), pixels(4, 16, 16, 3)


class TubeletEmbedding(layers.Layer):
    def __init__(self, dim, patch, **kwargs):
        super().__init__(**kwargs)
        self.projection = layers.Conv3D(filters=dim, kernel_size=patch, strides=patch, padding="VALID")
        self.flatten = layers.Reshape(target_shape=(-1, dim))

    def call(self, videos):
        return self.flatten(self.projection(videos))


class PositionalEncoder(layers.Layer):
    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = dim

    def build(self, input_shape):
        _, tokens, _ = input_shape
        self.position_embedding = layers.Embedding(input_dim=tokens, output_dim=self.embed_dim)
        self.positions = ops.arange(0, tokens, 1)

    def call(self, tokens):
        return tokens + self.position_embedding(self.positions)


@style
def video_transformer():
    inputs = layers.Input((8, 8, 8, 1))
    encoded = PositionalEncoder(dim=8)(TubeletEmbedding(dim=8, patch=(4, 4, 4))(inputs))
    x1 = layers.LayerNormalization(epsilon=1e-6)(encoded)
    x2 = layers.Add()([layers.MultiHeadAttention(num_heads=2, key_dim=4, dropout=0.1)(x1, x1), encoded])
    x3 = keras.Sequential([layers.Dense(32, activation=keras.activations.gelu), layers.Dense(8)])(
        layers.LayerNormalization(epsilon=1e-6)(x2)
    )
    out = layers.GlobalAvgPool1D()(layers.Add()([x3, x2]))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(out)), normal(4, 8, 8, 8, 1)


@style
def mobile_vit_block():
    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(scale=1.0 / 255)(inputs)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation=keras.activations.swish)(x)
    local = layers.Conv2D(8, 3, padding="same", activation="swish")(x)
    local = layers.Conv2D(12, 1, padding="same", activation="swish")(local)
    unfolded = layers.Reshape((4, 16, 12))(local)
    x1 = layers.LayerNormalization(epsilon=1e-6)(unfolded)
    x2 = layers.Add()([layers.MultiHeadAttention(num_heads=2, key_dim=12)(x1, x1), unfolded])
    folded = layers.Conv2D(8, 1, padding="same", activation="swish")(layers.Reshape((8, 8, 12))(x2))
    merged = layers.Concatenate(axis=-1)([x, folded])
    x = layers.Conv2D(8, 3, padding="same", activation="swish")(merged)
    out = layers.Dense(3, activation="softmax")(layers.GlobalAvgPool2D()(x))
    return keras.Model(inputs, out), 255 * pixels(4, 16, 16, 3)


@style
def normalized_heads():
    """Class tokens as a weight of the model, and `tf` in a lambda."""
    inputs = keras.Input((6, 8))
    x = layers.Dense(8, activation=tf.nn.silu)(inputs)
    x = layers.Lambda(lambda t: tf.math.l2_normalize(t, axis=-1))(x)
    x = layers.Dense(8, kernel_constraint=keras.constraints.UnitNorm(axis=0))(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))), normal(4, 6, 8)


class TokenLearner(layers.Layer):
    def __init__(self, tokens):
        super().__init__()
        self.tokens = tokens

    def build(self, shape):
        self.maps = keras.Sequential(
            [layers.Conv2D(self.tokens, 3, activation="gelu", padding="same", use_bias=False) for _ in range(2)]
            + [layers.Conv2D(self.tokens, 3, activation="sigmoid", padding="same", use_bias=False)]
        )
        self.norm = layers.LayerNormalization()

    def call(self, x):
        channels = x.shape[-1]
        attention = ops.reshape(self.maps(self.norm(x)), (-1, x.shape[1] * x.shape[2], self.tokens))
        attention = ops.expand_dims(ops.transpose(attention, (0, 2, 1)), -1)
        flat = ops.expand_dims(ops.reshape(x, (-1, x.shape[1] * x.shape[2], channels)), 1)
        return ops.mean(attention * flat, axis=2)


@style
def token_learner():
    inputs = keras.Input((8, 8, 6))
    tokens = TokenLearner(3)(layers.Conv2D(6, 3, padding="same")(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(tokens))), normal(4, 8, 8, 6)


class Mixer(layers.Layer):
    def __init__(self, width):
        super().__init__()
        self.norm, self.attention = layers.LayerNormalization(), layers.MultiHeadAttention(2, width)
        self.inner, self.outer = layers.Dense(2 * width, activation=ops.gelu), layers.Dense(width)
        self.drop = layers.Dropout(0.1)

    def call(self, x, training):
        y = self.norm(x)
        x = x + self.attention(y, y, training=training)
        return x + self.drop(self.outer(self.inner(x)), training=training)


class Patched(layers.Layer):
    def __init__(self, size, width):
        super().__init__()
        self.size, self.conv = size, layers.Conv2D(width, size, strides=size)

    def call(self, images):
        x = self.conv(images)
        samples, rows, columns, width = ops.shape(x)
        return ops.reshape(x, (samples, rows * columns, width)), rows, columns


class TwoTokens(keras.Model):
    """Two tokens of its own for each sample; gives both answers in training, their mean else."""

    def __init__(self, classes=4, width=8):
        super().__init__()
        self.patched = Patched(4, width)
        self.answer = self.add_weight(shape=(1, 1, width), initializer="random_normal", name="answer")
        self.teacher = self.add_weight(shape=(1, 1, width), initializer="random_normal", name="teacher")
        self.blocks = [Mixer(width) for _ in range(2)]
        self.heads = [layers.Dense(classes) for _ in range(2)]

    def call(self, images, training=False):
        x, rows, columns = self.patched(images)
        samples = ops.shape(x)[0]
        tokens = ops.tile(self.answer, (samples, 1, 1)), ops.repeat(self.teacher, samples, axis=0)
        x = ops.concatenate([*tokens, x], axis=1) / (rows * columns)
        for block in self.blocks:
            x = block(x, training=training)
        both = [head(x[:, place]) for place, head in enumerate(self.heads)]
        return tuple(both) if training else (both[0] + both[1]) / 2


@style
def distilled_tokens():
    return called(TwoTokens(), pixels(3, 16, 16, 3))
