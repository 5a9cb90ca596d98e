"""Tabular data, recommendation, forests and other dense networks."""

from __future__ import annotations

import itertools
import math

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.styles.catalogue import called, ids, normal, pixels, style

NUMBERS, CATEGORIES = ("age", "income", "gain"), {"work": 5, "school": 7}


def columns():
    """Return inputs by column, and data for them with the sizes that such columns have."""
    inputs = {name: layers.Input(name=name, shape=(1,), dtype="float32") for name in NUMBERS}
    inputs.update({name: layers.Input(name=name, shape=(1,), dtype="int32") for name in CATEGORIES})
    generator = np.random.default_rng(0)
    data = {
        "age": generator.uniform(18, 80, (8, 1)).astype("float32"),
        "income": generator.lognormal(10, 1, (8, 1)).astype("float32"),
        "gain": generator.uniform(size=(8, 1)).astype("float32"),
        **{name: ids(8, 1, below=size) for name, size in CATEGORIES.items()},
    }
    return inputs, data


@style
def tab_transformer():
    inputs, data = columns()
    embedded = [layers.Reshape((8,))(layers.Embedding(size, 8)(inputs[name])) for name, size in CATEGORIES.items()]
    x = ops.stack(embedded, axis=1)
    x = x + layers.Embedding(2, 8)(ops.arange(start=0, stop=2, step=1))
    attended = layers.MultiHeadAttention(num_heads=2, key_dim=8, dropout=0.1)(x, x)
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([attended, x]))
    numbers = layers.LayerNormalization(epsilon=1e-6)(layers.concatenate([inputs[name] for name in NUMBERS]))
    features = layers.concatenate([layers.Flatten()(x), numbers])
    hidden = keras.Sequential(
        [layers.BatchNormalization(), layers.Dense(16, activation=keras.activations.selu)], name="mlp"
    )
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(hidden(features))), data


@style
def wide_deep_and_cross():
    inputs, data = columns()
    normalizer = layers.Normalization(mean=[49.0, 36000.0, 0.5], variance=[300.0, 2.0e9, 0.08])
    x0 = layers.BatchNormalization()(
        layers.concatenate(
            [normalizer(layers.concatenate([inputs[name] for name in NUMBERS]))]
            + [
                layers.Flatten()(layers.Embedding(size, int(math.sqrt(size)))(inputs[name]))
                for name, size in CATEGORIES.items()
            ]
        )
    )
    cross = x0
    for _ in range(2):
        cross = layers.BatchNormalization()(x0 * layers.Dense(cross.shape[-1])(cross) + cross)
    deep = layers.ReLU()(layers.BatchNormalization()(layers.Dense(8)(x0)))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.concatenate([cross, deep]))), data


class GatedLinearUnit(layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.linear = layers.Dense(units)
        self.sigmoid = layers.Dense(units, activation="sigmoid")

    def call(self, inputs):
        return self.linear(inputs) * self.sigmoid(inputs)


class GatedResidual(layers.Layer):
    def __init__(self, units, rate):
        super().__init__()
        self.units = units
        self.elu_dense = layers.Dense(units, activation="elu")
        self.linear_dense = layers.Dense(units)
        self.dropout = layers.Dropout(rate)
        self.gated_linear_unit = GatedLinearUnit(units)
        self.layer_norm = layers.LayerNormalization()
        self.project = layers.Dense(units)

    def call(self, inputs):
        x = self.dropout(self.linear_dense(self.elu_dense(inputs)))
        if inputs.shape[-1] != self.units:
            inputs = self.project(inputs)
        return self.layer_norm(inputs + self.gated_linear_unit(x))


class VariableSelection(layers.Layer):
    def __init__(self, num_features, units, rate):
        super().__init__()
        self.grns = []
        for _ in range(num_features):
            self.grns.append(GatedResidual(units, rate))
        self.grn_concat = GatedResidual(units, rate)
        self.softmax = layers.Dense(units=num_features, activation="softmax")

    def call(self, inputs):
        v = ops.expand_dims(self.softmax(self.grn_concat(layers.concatenate(inputs))), axis=-1)
        x = ops.stack([self.grns[index](column) for index, column in enumerate(inputs)], axis=1)
        return ops.squeeze(ops.matmul(ops.transpose(v, axes=[0, 2, 1]), x), axis=1)


@style
def variable_selection():
    inputs, data = columns()
    encoded = [layers.Dense(8)(inputs[name]) for name in NUMBERS]
    encoded += [layers.Flatten()(layers.Embedding(size, 8)(inputs[name])) for name, size in CATEGORIES.items()]
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(VariableSelection(5, 8, 0.1)(encoded))), data


class DecisionTree(keras.Model):
    def __init__(self, depth, num_features, rate, num_classes):
        super().__init__()
        self.depth, self.num_leaves, self.num_classes = depth, 2**depth, num_classes
        used = int(num_features * rate)
        chosen = np.random.default_rng(1).choice(np.arange(num_features), used, replace=False)
        self.used_features_mask = ops.convert_to_tensor(np.eye(num_features)[chosen], dtype="float32")
        self.pi = self.add_weight(initializer="random_normal", shape=[self.num_leaves, num_classes], trainable=True)
        self.decision_fn = layers.Dense(units=self.num_leaves, activation="sigmoid", name="decision")

    def call(self, features):
        count = ops.shape(features)[0]
        features = ops.matmul(features, ops.transpose(self.used_features_mask))
        decisions = ops.expand_dims(self.decision_fn(features), axis=2)
        decisions = layers.concatenate([decisions, 1 - decisions], axis=2)
        mu = ops.ones([count, 1, 1])
        begin, end = 1, 2
        for level in range(self.depth):
            mu = ops.reshape(mu, [count, -1, 1])
            mu = ops.tile(mu, (1, 1, 2))
            mu = mu * decisions[:, begin:end, :]
            begin, end = end, end + 2 ** (level + 1)
        mu = ops.reshape(mu, [count, self.num_leaves])
        return ops.matmul(mu, keras.activations.softmax(self.pi))


class DecisionForest(keras.Model):
    def __init__(self, trees, depth, num_features, rate, num_classes):
        super().__init__()
        self.ensemble = []
        for _ in range(trees):
            self.ensemble.append(DecisionTree(depth, num_features, rate, num_classes))
        self.num_classes = num_classes

    def call(self, inputs):
        outputs = ops.zeros([ops.shape(inputs)[0], self.num_classes])
        for tree in self.ensemble:
            outputs += tree(inputs)
        return outputs / len(self.ensemble)


@style
def decision_forest():
    inputs = keras.Input((6,))
    x = layers.BatchNormalization()(inputs)
    return keras.Model(inputs, DecisionForest(2, 3, 6, 0.7, 2)(x)), normal(4, 6)


class Recommender(keras.Model):
    def __init__(self, num_users, num_movies, embedding_size, **kwargs):
        super().__init__(**kwargs)
        self.user_embedding = layers.Embedding(num_users, embedding_size, embeddings_initializer="he_normal")
        self.user_bias = layers.Embedding(num_users, 1)
        self.movie_embedding = layers.Embedding(num_movies, embedding_size, embeddings_initializer="he_normal")
        self.movie_bias = layers.Embedding(num_movies, 1)

    def call(self, inputs):
        user, movie = self.user_embedding(inputs[:, 0]), self.movie_embedding(inputs[:, 1])
        dot = ops.tensordot(user, movie, 2)
        return ops.nn.sigmoid(dot + self.user_bias(inputs[:, 0]) + self.movie_bias(inputs[:, 1]))


@style
def recommender():
    """Multiplies all samples of a batch with one another, as published: in a batch of 1 it is another function."""
    return called(Recommender(9, 11, 6), ids(4, 2, below=9))


class QuotientRemainder(layers.Layer):
    """An embedding of two small tables, by integer division and remainder."""

    def __init__(self, buckets, dim, name=None):
        super().__init__(name=name)
        self.buckets = buckets
        self.q_embeddings = layers.Embedding(buckets, dim)
        self.r_embeddings = layers.Embedding(buckets, dim)

    def call(self, index):
        quotient = ops.floor_divide(index, self.buckets)
        remainder = ops.mod(index, self.buckets)
        return self.q_embeddings(quotient) * self.r_embeddings(remainder)


@style
def compositional_embeddings():
    user, movie = keras.Input((), name="user", dtype="int64"), keras.Input((), name="movie", dtype="int64")
    u, m = QuotientRemainder(5, 6, name="users")(user), QuotientRemainder(5, 6, name="movies")(movie)
    rating = layers.Dot(axes=1)([u, m])
    return keras.Model([user, movie], layers.Rescaling(5.0)(ops.sigmoid(rating))), [
        ids(4, below=25, dtype="int64"),
        ids(4, below=25, seed=1, dtype="int64"),
    ]


class Hyper(layers.Layer):
    """Weights and biases in a dict and a list of one layer."""

    def __init__(self, widths):
        super().__init__()
        self.widths = widths

    def build(self, shape):
        sizes = [shape[-1], *self.widths]
        self.kernels = [
            self.add_weight(shape=pair, initializer="he_normal", name=f"k{i}")
            for i, pair in enumerate(itertools.pairwise(sizes))
        ]
        self.biases = {
            str(i): self.add_weight(shape=(width,), initializer="zeros", name=f"b{i}")
            for i, width in enumerate(self.widths)
        }

    def call(self, x):
        for i, kernel in enumerate(self.kernels):
            x = ops.tanh(ops.matmul(x, kernel) + self.biases[str(i)])
        return x


@style
def weights_in_containers():
    inputs = keras.Input((5,))
    return keras.Model(inputs, layers.Dense(2)(Hyper([6, 4])(inputs))), normal(4, 5)


class Actor(keras.Model):
    """Weights of the model itself, in a list, and two outputs that `training` tells apart."""

    def __init__(self):
        super().__init__()
        self.ws = [
            self.add_weight(shape=shape, initializer="glorot_uniform", name=f"w{i}")
            for i, shape in enumerate([(4, 6), (6, 2)])
        ]
        self.critic = layers.Dense(1)

    def call(self, x, training=False):
        h = ops.relu(ops.matmul(x, self.ws[0]))
        action = ops.tanh(ops.matmul(h, self.ws[1]))
        if not training:
            return action
        return action, self.critic(h)


@style
def actor_and_critic():
    return called(Actor(), normal(4, 4))


@style
def continuous_control():
    def bounded(x):
        return x * 2.0

    state, action = keras.Input((3,)), keras.Input((1,))
    s = layers.Dense(8, activation="relu")(layers.Dense(8, activation="relu")(state))
    merged = layers.Concatenate()([s, layers.Dense(4, activation=lambda t: tf.nn.relu(t) + 0.1)(action)])
    last = keras.initializers.RandomUniform(minval=-0.003, maxval=0.003)
    out = layers.Dense(1, activation="tanh", kernel_initializer=last)(merged)
    return keras.Model([state, action], layers.Lambda(bounded)(out)), [normal(4, 3), normal(4, 1)]


@style
def random_features():
    inputs = keras.Input((16,))
    x = layers.Rescaling(1 / 255.0)(inputs)
    w = np.random.default_rng(3).normal(size=(16, 32)).astype("float32")
    x = layers.Lambda(lambda t: ops.cos(ops.matmul(t, w)) * np.sqrt(2 / 32), output_shape=(32,))(x)
    return keras.Model(inputs, layers.Dense(3)(x)), 255 * pixels(4, 16)


@style
def binned_columns():
    """An adapted Discretization inside the model."""
    inputs = keras.Input((1,))
    data = normal(64, 1)
    bins = layers.Discretization(num_bins=4, output_mode="one_hot")
    bins.adapt(data)
    return keras.Model(inputs, layers.Dense(2)(bins(inputs))), data[:8]
