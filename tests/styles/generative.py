"""Auto-encoders, diffusion, adversarial and flow networks."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.styles.catalogue import called, ids, normal, pixels, style


class Sampling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs, training=False):
        mean, log_var = inputs
        if not training:
            return mean
        epsilon = keras.random.normal(shape=ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_var) * epsilon


class Autoencoder(keras.Model):
    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.decoder = encoder, decoder
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")

    @property
    def metrics(self):
        return [self.total_loss_tracker]

    def call(self, x):
        return self.decoder(self.encoder(x)[2])


@style
def variational_autoencoder():
    image = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu", strides=2, padding="same")(image))
    mean, log_var = layers.Dense(2, name="z_mean")(x), layers.Dense(2, name="z_log_var")(x)
    encoder = keras.Model(image, [mean, log_var, Sampling()([mean, log_var])], name="encoder")
    latent = keras.Input((2,))
    y = layers.Reshape((4, 4, 4))(layers.Dense(64, activation="relu")(latent))
    y = layers.Conv2DTranspose(4, 3, activation="relu", strides=2, padding="same")(y)
    decoder = keras.Model(latent, layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(y), name="decoder")
    return called(Autoencoder(encoder, decoder), pixels(4, 8, 8, 1))


class VectorQuantizer(layers.Layer):
    def __init__(self, num_embeddings, embedding_dim, beta=0.25, **kwargs):
        super().__init__(**kwargs)
        self.embedding_dim, self.num_embeddings, self.beta = embedding_dim, num_embeddings, beta
        self.embeddings = self.add_weight(
            shape=(embedding_dim, num_embeddings), initializer="random_uniform", trainable=True, name="embeddings_vqvae"
        )

    def call(self, x):
        shape = ops.shape(x)
        flat = ops.reshape(x, [-1, self.embedding_dim])
        similarity = ops.matmul(flat, self.embeddings)
        distances = ops.sum(flat**2, axis=1, keepdims=True) + ops.sum(self.embeddings**2, axis=0) - 2 * similarity
        encodings = ops.one_hot(ops.argmin(distances, axis=1), self.num_embeddings)
        quantized = ops.reshape(ops.matmul(encodings, ops.transpose(self.embeddings)), shape)
        self.add_loss(self.beta * ops.mean((ops.stop_gradient(quantized) - x) ** 2))
        return x + ops.stop_gradient(quantized - x)


@style
def vector_quantized_autoencoder():
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, activation="relu", strides=2, padding="same")(image)
    x = VectorQuantizer(16, 4, name="vector_quantizer")(layers.Conv2D(4, 1, padding="same")(x))
    x = layers.Conv2DTranspose(8, 3, activation="relu", strides=2, padding="same")(x)
    return keras.Model(image, layers.Conv2DTranspose(1, 3, padding="same")(x), name="vq_vae"), pixels(4, 8, 8, 1)


class TimeEmbedding(layers.Layer):
    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.half_dim = dim // 2
        self.emb = math.log(10000) / (self.half_dim - 1)
        self.emb = tf.exp(tf.range(self.half_dim, dtype=tf.float32) * -self.emb)

    def call(self, inputs):
        inputs = tf.cast(inputs, dtype=tf.float32)
        emb = inputs[:, None] * self.emb[None, :]
        return tf.concat([tf.sin(emb), tf.cos(emb)], axis=-1)


class SpatialAttention(layers.Layer):
    def __init__(self, units, groups=2, **kwargs):
        self.units = units
        super().__init__(**kwargs)
        self.norm = layers.GroupNormalization(groups=groups)
        self.query = layers.Dense(units)
        self.key = layers.Dense(units)
        self.value = layers.Dense(units)
        self.proj = layers.Dense(units, kernel_initializer=keras.initializers.VarianceScaling(0.5, "fan_avg"))

    def call(self, inputs):
        batch, height, width = ops.shape(inputs)[0], ops.shape(inputs)[1], ops.shape(inputs)[2]
        scale = ops.cast(self.units, "float32") ** (-0.5)
        x = self.norm(inputs)
        q, k, v = self.query(x), self.key(x), self.value(x)
        score = ops.einsum("bhwc, bHWc->bhwHW", q, k) * scale
        score = ops.softmax(ops.reshape(score, [batch, height, width, height * width]), -1)
        score = ops.reshape(score, [batch, height, width, height, width])
        return inputs + self.proj(ops.einsum("bhwHW,bHWc->bhwc", score, v))


def residual(width, temb):
    def apply(inputs):
        x, t = inputs
        skip = x if x.shape[3] == width else layers.Conv2D(width, kernel_size=1)(x)
        t = layers.Dense(width)(keras.activations.swish(temb and t))[:, None, None, :]
        x = keras.activations.swish(layers.GroupNormalization(groups=2)(x))
        x = layers.Add()([layers.Conv2D(width, 3, padding="same")(x), t])
        x = keras.activations.swish(layers.GroupNormalization(groups=2)(x))
        return layers.Add()([layers.Conv2D(width, 3, padding="same", kernel_initializer="he_normal")(x), skip])

    return apply


@style
def diffusion_u_net():
    image = layers.Input((8, 8, 1), name="image_input")
    time = keras.Input(shape=(), dtype="int64", name="time_input")
    x = first = layers.Conv2D(4, 3, padding="same")(image)
    temb = TimeEmbedding(dim=8)(time)
    temb = layers.Dense(8)(layers.Dense(8, activation="swish")(temb))
    x = SpatialAttention(4)(residual(4, True)([x, temb]))
    down = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    y = residual(8, True)([down, temb])
    y = layers.Conv2D(4, 3, padding="same")(layers.UpSampling2D(2, interpolation="nearest")(y))
    x = residual(4, True)([layers.Concatenate(axis=-1)([y, first]), temb])
    out = layers.Conv2D(1, 3, padding="same")(keras.activations.swish(layers.GroupNormalization(groups=2)(x)))
    return keras.Model([image, time], out, name="unet"), [normal(2, 8, 8, 1), ids(2, below=50, dtype="int64")]


def sinusoidal_embedding(x):
    frequencies = ops.exp(ops.linspace(ops.log(1.0), ops.log(1000.0), 4))
    angular = ops.cast(2.0 * math.pi * frequencies, "float32")
    return ops.concatenate([ops.sin(angular * x), ops.cos(angular * x)], axis=3)


@style
def implicit_diffusion():
    noisy, variances = keras.Input((8, 8, 3)), keras.Input((1, 1, 1))
    e = layers.Lambda(sinusoidal_embedding, output_shape=(1, 1, 8))(variances)
    e = layers.UpSampling2D(size=8, interpolation="nearest")(e)
    x = layers.Concatenate()([layers.Conv2D(8, kernel_size=1)(noisy), e])
    skips = []
    for width in (8, 12):
        y = layers.BatchNormalization(center=False, scale=False)(layers.Conv2D(width, 1)(x))
        x = layers.Add()([layers.Conv2D(width, 3, padding="same", activation="swish")(y), layers.Conv2D(width, 1)(x)])
        skips.append(x)
        x = layers.AveragePooling2D(pool_size=2)(x)
    for width in (12, 8):
        x = layers.UpSampling2D(size=2, interpolation="bilinear")(x)
        x = layers.Conv2D(width, 3, padding="same", activation="swish")(layers.Concatenate()([x, skips.pop()]))
    out = layers.Conv2D(3, kernel_size=1, kernel_initializer="zeros")(x)
    return keras.Model([noisy, variances], out, name="residual_unet"), [normal(2, 8, 8, 3), pixels(2, 1, 1, 1)]


class MaskedConvolution(layers.Layer):
    def __init__(self, mask_type, **kwargs):
        super().__init__()
        self.mask_type = mask_type
        self.conv = layers.Conv2D(**kwargs)

    def build(self, input_shape):
        self.conv.build(input_shape)
        shape = ops.shape(self.conv.kernel)
        mask = np.zeros(shape)
        mask[: shape[0] // 2, ...] = 1.0
        mask[shape[0] // 2, : shape[1] // 2, ...] = 1.0
        if self.mask_type == "B":
            mask[shape[0] // 2, shape[1] // 2, ...] = 1.0
        self.mask = mask

    def call(self, inputs):
        self.conv.kernel.assign(self.conv.kernel * self.mask)
        return self.conv(inputs)


@style
def masked_pixels():
    """Assigns to a kernel in inference: a file can't; it is to be refused by name, or to be equal."""
    inputs = keras.Input((8, 8, 1))
    x = MaskedConvolution(mask_type="A", filters=4, kernel_size=5, activation="relu", padding="same")(inputs)
    out = layers.Conv2D(1, 1, activation="sigmoid", padding="valid")(x)
    return keras.Model(inputs, out), pixels(2, 8, 8, 1)


class Adaptive(layers.Layer):
    """Adaptive instance normalization with equalized learning rates, as style-based generators have it."""

    def __init__(self, gain=1, **kwargs):
        super().__init__(**kwargs)
        self.gain = gain

    def build(self, input_shapes):
        x_shape, w_shape = input_shapes
        self.w_channels, self.x_channels = w_shape[-1], x_shape[-1]
        self.scale_kernel = self.add_weight(
            shape=(self.w_channels, self.x_channels), initializer=keras.initializers.RandomNormal(0.0, 1.0, seed=1)
        )
        self.offset = self.add_weight(shape=(self.x_channels,), initializer="zeros", name="offset")
        self.factor = self.gain * math.sqrt(1.0 / self.w_channels)

    def call(self, inputs):
        x, w = inputs
        mean, variance = ops.mean(x, axis=(1, 2), keepdims=True), ops.var(x, axis=(1, 2), keepdims=True)
        x = (x - mean) / ops.sqrt(variance + 1e-5)
        scale = ops.reshape(w @ (self.scale_kernel * self.factor) + self.offset, (-1, 1, 1, self.x_channels))
        return x * (scale + 1.0)


def minibatch_std(x, epsilon=1e-8):
    mean = ops.mean(x, axis=0, keepdims=True)
    deviation = ops.mean(ops.sqrt(ops.mean(ops.square(x - mean), axis=0) + epsilon))
    return ops.concatenate([x, ops.zeros_like(x[..., :1]) + deviation], axis=-1)


@style
def style_generator():
    latent = keras.Input((6,), name="w")
    x = layers.Reshape((4, 4, 4))(layers.Dense(64)(latent))
    for _ in range(2):
        x = Adaptive(name=None)([layers.LeakyReLU(0.2)(layers.Conv2D(4, 3, padding="same")(x)), latent])
        x = layers.UpSampling2D(2)(x)
    return keras.Model(latent, layers.Conv2D(3, 1, activation="tanh")(x)), normal(4, 6)


@style
def minibatch_discriminator():
    """Mixes the samples of a batch; at another batch size it is another function."""
    image = keras.Input((8, 8, 3))
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Conv2D(4, 3, strides=2, padding="same")(image))
    x = layers.Lambda(minibatch_std)(x)
    return keras.Model(image, layers.Dense(1)(layers.Flatten()(x))), pixels(4, 8, 8, 3)


class ReflectionPadding2D(layers.Layer):
    def __init__(self, padding=(1, 1), **kwargs):
        self.padding = tuple(padding)
        super().__init__(**kwargs)

    def call(self, input_tensor, mask=None):
        width, height = self.padding
        return ops.pad(input_tensor, [[0, 0], [height, height], [width, width], [0, 0]], mode="reflect")


@style
def cycle_generator():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 7, use_bias=False)(ReflectionPadding2D(padding=(3, 3))(image))
    x = layers.Activation("relu")(layers.GroupNormalization(groups=-1)(x))
    x = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = layers.add([x, layers.Conv2D(8, 3)(ReflectionPadding2D()(x))])
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(x)
    x = layers.Conv2D(3, 7, padding="valid")(ReflectionPadding2D(padding=(3, 3))(x))
    return keras.Model(image, layers.Activation("tanh")(x)), pixels(2, 16, 16, 3)


class RealNVP(keras.Model):
    def __init__(self, couplings=2):
        super().__init__()
        self.masks = np.array([[0, 1], [1, 0]] * (couplings // 2), dtype="float32")
        self.layers_list = [self.coupling() for _ in range(couplings)]

    @staticmethod
    def coupling():
        inputs = layers.Input(shape=(2,))
        t = layers.Dense(2)(layers.Dense(8, activation="relu", kernel_regularizer="l2")(inputs))
        s = layers.Dense(2, activation="tanh")(layers.Dense(8, activation="relu")(inputs))
        return keras.Model(inputs=inputs, outputs=[s, t])

    def call(self, x, training=True):
        log_det_inv = 0
        direction = -1 if training else 1
        for i in range(len(self.masks))[::direction]:
            x_masked = x * self.masks[i]
            reversed_mask = 1 - self.masks[i]
            s, t = self.layers_list[i](x_masked)
            s, t = s * reversed_mask, t * reversed_mask
            gate = (direction - 1) / 2
            x = reversed_mask * (x * ops.exp(direction * s) + direction * t * ops.exp(gate * s)) + x_masked
            log_det_inv += gate * ops.sum(s, axis=1)
        return x, log_det_inv


@style
def normalizing_flow():
    return called(RealNVP(), normal(8, 2))


class SpatialNormalization(layers.Layer):
    def __init__(self, filters, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.conv = layers.Conv2D(8, 3, padding="same", activation="relu")
        self.conv_gamma = layers.Conv2D(filters, 3, padding="same")
        self.conv_beta = layers.Conv2D(filters, 3, padding="same")

    def build(self, input_shape):
        self.resize_shape = input_shape[1:3]

    def call(self, input_tensor, raw_mask):
        mask = self.conv(ops.image.resize(raw_mask, self.resize_shape, interpolation="nearest"))
        mean = ops.mean(input_tensor, axis=(1, 2), keepdims=True)
        std = ops.sqrt(ops.var(input_tensor, axis=(1, 2), keepdims=True) + self.epsilon)
        return self.conv_gamma(mask) * ((input_tensor - mean) / std) + self.conv_beta(mask)


@style
def semantic_synthesis():
    latent, mask = keras.Input((6,)), keras.Input((8, 8, 3))
    x = layers.Reshape((4, 4, 4))(layers.Dense(64)(latent))
    x = layers.Conv2D(4, 3, padding="same")(ops.leaky_relu(SpatialNormalization(4)(x, mask), 0.2))
    x = layers.UpSampling2D((2, 2))(x)
    out = layers.Conv2D(3, 3, padding="same", activation="tanh")(x)
    return keras.Model([latent, mask], out), [normal(2, 6), pixels(2, 8, 8, 3)]
