"""Convolutional networks: segmentation, detection, points, super-resolution, siamese."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.styles.catalogue import called, normal, pixels, style


@style
def conv_mixer():
    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(scale=1.0 / 255)(inputs)
    x = layers.BatchNormalization()(layers.Activation("gelu")(layers.Conv2D(16, 2, strides=2)(x)))
    for _ in range(2):
        x0 = x
        x = layers.Activation("gelu")(layers.DepthwiseConv2D(5, padding="same")(x))
        x = layers.Add()([layers.BatchNormalization()(x), x0])
        x = layers.BatchNormalization()(layers.Activation("gelu")(layers.Conv2D(16, 1)(x)))
    out = layers.Dense(3, activation="softmax")(layers.GlobalAvgPool2D()(x))
    return keras.Model(inputs, out), 255 * pixels(4, 16, 16, 3)


@style
def segmentation_u_net():
    """Free sizes, residual projections, transposed convolutions, up-sampling."""
    inputs = keras.Input((None, None, 3))
    x = layers.Activation("relu")(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, padding="same")(inputs)))
    previous = x
    for filters in (8, 16):
        x = layers.BatchNormalization()(
            layers.SeparableConv2D(filters, 3, padding="same")(layers.Activation("relu")(x))
        )
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        previous = x = layers.add([x, layers.Conv2D(filters, 1, strides=2, padding="same")(previous)])
    for filters in (16, 8):
        x = layers.Conv2DTranspose(filters, 3, padding="same")(layers.Activation("relu")(x))
        x = layers.UpSampling2D(2)(layers.BatchNormalization()(x))
        residual = layers.Conv2D(filters, 1, padding="same")(layers.UpSampling2D(2)(previous))
        previous = x = layers.add([x, residual])
    outputs = layers.Conv2D(3, 3, activation="softmax", padding="same")(x)
    return keras.Model(inputs, outputs), pixels(2, 16, 16, 3)


@style
def atrous_pyramid():
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, kernel_initializer="he_normal")(inputs)
    x = ops.nn.relu(layers.BatchNormalization()(x))
    low = layers.Conv2D(6, 1)(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    pooled = layers.AveragePooling2D(pool_size=(x.shape[-3], x.shape[-2]))(x)
    pooled = layers.Conv2D(8, 1)(pooled)
    pooled = layers.UpSampling2D((8, 8), interpolation="bilinear")(pooled)
    branches = [layers.Conv2D(8, 3, dilation_rate=rate, padding="same")(x) for rate in (1, 2, 3)]
    x = layers.Conv2D(8, 1)(layers.Concatenate(axis=-1)([pooled, *branches]))
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = ops.nn.relu(layers.Conv2D(8, 3, padding="same")(layers.Concatenate()([x, low])))
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    return keras.Model(inputs, layers.Conv2D(4, 1)(x)), pixels(2, 32, 32, 3)


class FeaturePyramid(layers.Layer):
    def __init__(self, backbone=None, **kwargs):
        super().__init__(name="FeaturePyramid", **kwargs)
        self.backbone = backbone
        self.lateral = [layers.Conv2D(8, 1, 1, "same") for _ in range(2)]
        self.smooth = [layers.Conv2D(8, 3, 1, "same") for _ in range(2)]
        self.upsample_2x = layers.UpSampling2D(2)

    def call(self, images, training=False):
        c3, c4 = self.backbone(images, training=training)
        p4 = self.lateral[1](c4)
        p3 = self.lateral[0](c3) + self.upsample_2x(p4)
        return self.smooth[0](p3), self.smooth[1](p4)


class Detector(keras.Model):
    def __init__(self, classes, backbone, **kwargs):
        super().__init__(name="detector", **kwargs)
        self.fpn = FeaturePyramid(backbone)
        self.num_classes = classes
        prior = keras.initializers.Constant(-np.log((1 - 0.01) / 0.01))
        self.cls_head = self.head(classes, prior)
        self.box_head = self.head(4, "zeros")

    @staticmethod
    def head(filters, bias):
        init = keras.initializers.RandomNormal(0.0, 0.1, seed=5)
        model = keras.Sequential([keras.Input((None, None, 8))])
        model.add(layers.Conv2D(8, 3, padding="same", kernel_initializer=init))
        model.add(layers.ReLU())
        model.add(layers.Conv2D(filters, 3, 1, padding="same", kernel_initializer=init, bias_initializer=bias))
        return model

    def call(self, image, training=False):
        features = self.fpn(image, training=training)
        count = ops.shape(image)[0]
        classes, boxes = [], []
        for feature in features:
            boxes.append(ops.reshape(self.box_head(feature), [count, -1, 4]))
            classes.append(ops.reshape(self.cls_head(feature), [count, -1, self.num_classes]))
        return ops.concatenate([ops.concatenate(boxes, axis=1), ops.concatenate(classes, axis=1)], axis=-1)


@style
def pyramid_detector():
    inputs = keras.Input((32, 32, 3))
    c3 = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, 4, "same")(inputs)))
    c4 = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, 2, "same")(c3)))
    return called(Detector(3, keras.Model(inputs, [c3, c4])), pixels(2, 32, 32, 3))


@style
def sub_pixel_super_resolution():
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(8, 5, activation="tanh", kernel_initializer="orthogonal", padding="same")(inputs)
    x = layers.Conv2D(9, 3, activation="tanh", padding="same")(x)
    outputs = layers.Lambda(lambda t: tf.nn.depth_to_space(t, 3))(x)
    return keras.Model(inputs, outputs), pixels(2, 12, 12, 1)


class LowLight(keras.Model):
    def __init__(self):
        super().__init__()
        self.dce = self.build_dce()

    @staticmethod
    def build_dce():
        image = keras.Input((None, None, 3))
        c1 = layers.Conv2D(8, 3, activation="relu", padding="same")(image)
        c2 = layers.Conv2D(8, 3, activation="relu", padding="same")(c1)
        merged = layers.Concatenate(axis=-1)([c2, c1])
        return keras.Model(image, layers.Conv2D(6, 3, activation="tanh", padding="same")(merged))

    def call(self, data):
        curves = self.dce(data)
        x = data
        for start in (0, 3):
            r = curves[:, :, :, start : start + 3]
            x = x + r * (ops.square(x) - x)
        return x


@style
def low_light_enhancement():
    return called(LowLight(), pixels(2, 16, 16, 3))


class OrthogonalRegularizer(keras.regularizers.Regularizer):
    def __init__(self, num_features, l2reg=0.001):
        self.num_features = num_features
        self.l2reg = l2reg
        self.eye = ops.eye(num_features)

    def __call__(self, x):
        x = ops.reshape(x, (-1, self.num_features, self.num_features))
        product = ops.tensordot(x, x, axes=(2, 2))
        product = ops.reshape(product, (-1, self.num_features, self.num_features))
        return ops.sum(self.l2reg * ops.square(product - self.eye))


@style
def point_net():
    def conv_bn(x, filters):
        x = layers.BatchNormalization(momentum=0.0)(layers.Conv1D(filters, kernel_size=1, padding="valid")(x))
        return layers.Activation("relu")(x)

    inputs = keras.Input((24, 3))
    x = layers.GlobalMaxPooling1D()(conv_bn(conv_bn(inputs, 8), 16))
    x = layers.Dense(
        9,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(np.eye(3).flatten()),
        activity_regularizer=OrthogonalRegularizer(3),
    )(x)
    x = layers.Dot(axes=(2, 1))([inputs, layers.Reshape((3, 3))(x)])
    x = layers.GlobalMaxPooling1D()(conv_bn(conv_bn(x, 8), 16))
    x = layers.Dropout(0.3)(layers.Dense(8, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x)), normal(4, 24, 3)


def euclidean_distance(vectors):
    x, y = vectors
    return ops.sqrt(ops.maximum(ops.sum(ops.square(x - y), axis=1, keepdims=True), keras.backend.epsilon()))


@style
def siamese_distance():
    image = keras.Input((12, 12, 1))
    x = layers.AveragePooling2D((2, 2))(layers.Conv2D(4, 5, activation="tanh")(layers.BatchNormalization()(image)))
    tower = keras.Model(image, layers.Dense(6, activation="tanh")(layers.Flatten()(x)))
    one, two = keras.Input((12, 12, 1), name="one"), keras.Input((12, 12, 1), name="two")
    merged = layers.Lambda(euclidean_distance, output_shape=(1,))([tower(one), tower(two)])
    out = layers.Dense(1, activation="sigmoid")(layers.BatchNormalization()(merged))
    return keras.Model([one, two], out), [pixels(4, 12, 12, 1), pixels(4, 12, 12, 1, seed=1)]


class Involution(layers.Layer):
    def __init__(self, channel, group, kernel, name):
        super().__init__(name=name)
        self.channel, self.group, self.kernel = channel, group, kernel

    def build(self, input_shape):
        _, height, width, channels = input_shape
        kernel = self.kernel
        self.patches_shape = (height, width, kernel * kernel, channels // self.group, self.group)
        self.kernel_shape = (height, width, kernel * kernel, 1, self.group)
        self.kernel_gen = keras.Sequential(
            [
                layers.Conv2D(self.channel, 1),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Conv2D(kernel * kernel * self.group, 1),
            ]
        )

    def call(self, x):
        kernel = ops.reshape(self.kernel_gen(x), (-1, *self.kernel_shape))
        patches = ops.image.extract_patches(x, size=self.kernel, strides=1, padding="same")
        patches = ops.reshape(patches, (-1, *self.patches_shape))
        output = ops.sum(kernel * patches, axis=3)
        return ops.reshape(output, (-1, *x.shape[1:3], self.patches_shape[3] * self.group)), kernel


@style
def involution():
    inputs = keras.Input((8, 8, 4))
    x, _ = Involution(channel=4, group=1, kernel=3, name="inv_1")(inputs)
    x = layers.MaxPooling2D()(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))), normal(2, 8, 8, 4)


@style
def volume_classifier():
    inputs = keras.Input((12, 12, 12, 1))
    x = inputs
    for filters in (4, 8):
        x = layers.BatchNormalization()(layers.MaxPool3D(2)(layers.Conv3D(filters, 3, activation="relu")(x)))
    x = layers.Dropout(0.3)(layers.Dense(8, activation="relu")(layers.GlobalAveragePooling3D()(x)))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x), name="volume"), pixels(2, 12, 12, 12, 1)


class MultipleInstance(layers.Layer):
    def __init__(self, weight_params_dim, use_gated=False, **kwargs):
        super().__init__(**kwargs)
        self.weight_params_dim = weight_params_dim
        self.use_gated = use_gated

    def build(self, input_shape):
        dim = input_shape[0][1]
        self.v = self.add_weight(shape=(dim, self.weight_params_dim), initializer="glorot_uniform", name="v")
        self.w = self.add_weight(shape=(self.weight_params_dim, 1), initializer="glorot_uniform", name="w")

    def call(self, inputs):
        instances = [self.score(instance) for instance in inputs]
        instances = ops.stack(instances)
        alpha = ops.softmax(instances, axis=0)
        return [alpha[i] for i in range(alpha.shape[0])]

    def score(self, instance):
        return ops.tensordot(ops.tanh(ops.tensordot(instance, self.v, axes=1)), self.w, axes=1)


@style
def multiple_instance_learning():
    inputs, embeddings = [], []
    shared_1, shared_2 = layers.Dense(12, activation="relu"), layers.Dense(6, activation="relu")
    for _ in range(3):
        inp = layers.Input((5, 5))
        inputs.append(inp)
        embeddings.append(shared_2(shared_1(layers.Flatten()(inp))))
    alpha = MultipleInstance(weight_params_dim=8, name="alpha")(embeddings)
    weighted = [layers.multiply([alpha[i], embeddings[i]]) for i in range(3)]
    out = layers.Dense(2, activation="softmax")(layers.concatenate(weighted, axis=1))
    return keras.Model(inputs, out), [pixels(4, 5, 5, seed=i) for i in range(3)]


@style
def selective_kernels():
    """Learned weights between branches of one size, as image restoration networks have them."""
    inputs = keras.Input((8, 8, 4))
    branches = [layers.Conv2D(4, size, padding="same")(inputs) for size in (1, 3)]
    fused = layers.Add()(branches)
    pooled = layers.Reshape((1, 1, 4))(layers.GlobalAveragePooling2D()(fused))
    compact = layers.Conv2D(2, 1, activation="relu")(pooled)
    weights = [layers.Conv2D(4, 1, activation="softmax")(compact) for _ in branches]
    out = layers.Add()([branch * weight for branch, weight in zip(branches, weights, strict=True)])
    average = ops.expand_dims(ops.mean(out, axis=-1), -1)
    largest = ops.expand_dims(ops.max(out, axis=-1), -1)
    gate = layers.Conv2D(1, 1, activation="sigmoid")(ops.concatenate([average, largest], axis=-1))
    return keras.Model(inputs, inputs * gate + out), normal(2, 8, 8, 4)


class GradCounter(layers.Layer):
    """A running mean of features, kept in a variable that is no weight."""

    def __init__(self, units):
        super().__init__()
        self.units = units
        self.dense = layers.Dense(units)

    def build(self, shape):
        self.center = self.add_weight(shape=(self.units,), initializer="zeros", trainable=False, name="center")

    def call(self, x, training=False):
        y = self.dense(x)
        if training:
            self.center.assign(0.9 * self.center + 0.1 * ops.mean(y, axis=0))
        return y - self.center


@style
def running_center():
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(2)(ops.relu(GradCounter(5)(inputs)))), normal(8, 6)
