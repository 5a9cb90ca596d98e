"""Graph networks, mixtures of experts, radiance fields and other odd shapes."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.styles.catalogue import called, ids, normal, style

NODES, FEATURES = 12, 6
EDGES = np.random.default_rng(2).integers(0, NODES, (2, 30)).astype("int32")


def feed_forward(units, rate, name=None):
    parts = []
    for width in units:
        parts += [layers.BatchNormalization(), layers.Dropout(rate), layers.Dense(width, activation=keras.ops.gelu)]
    return keras.Sequential(parts, name=name)


class GraphConvolution(layers.Layer):
    def __init__(self, hidden, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.prepare, self.update_fn = feed_forward(hidden, 0.1), feed_forward(hidden, 0.1)

    def call(self, inputs):
        representations, edges, weights = inputs
        node, neighbour = edges[0], edges[1]
        messages = self.prepare(ops.take(representations, neighbour, axis=0)) * ops.expand_dims(weights, -1)
        count = representations.shape[0]
        aggregated = ops.segment_sum(messages, node, num_segments=count)
        h = self.update_fn(ops.concatenate([representations, aggregated], axis=1))
        return tf.nn.l2_normalize(h, axis=-1)


class NodeClassifier(keras.Model):
    def __init__(self, graph_info, classes, hidden, *args, **kwargs):
        super().__init__(*args, **kwargs)
        features, edges, weights = graph_info
        self.node_features = features
        self.edges = edges
        self.edge_weights = weights / ops.sum(weights)
        self.preprocess = feed_forward(hidden, 0.1, name="preprocess")
        self.conv1 = GraphConvolution(hidden, name="graph_conv1")
        self.compute_logits = layers.Dense(classes, name="logits")

    def call(self, input_node_indices):
        x = self.preprocess(self.node_features)
        x = self.conv1((x, self.edges, self.edge_weights)) + x
        return self.compute_logits(ops.take(x, input_node_indices, axis=0))


@style
def node_classifier():
    info = (ops.convert_to_tensor(normal(NODES, FEATURES)), EDGES, ops.ones(EDGES.shape[1]))
    return called(NodeClassifier(info, 3, [8, 8]), ids(4, below=NODES))


class GraphAttention(layers.Layer):
    def __init__(self, units, kernel_initializer="glorot_uniform", kernel_regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[0][-1], self.units), trainable=True, initializer=self.kernel_initializer, name="kernel"
        )
        self.kernel_attention = self.add_weight(
            shape=(self.units * 2, 1), trainable=True, initializer=self.kernel_initializer, name="kernel_attention"
        )
        self.built = True

    def call(self, inputs):
        states, edges = inputs
        transformed = ops.matmul(states, self.kernel)
        expanded = ops.reshape(ops.take(transformed, edges, axis=0), (-1, self.units * 2))
        scores = ops.leaky_relu(ops.matmul(expanded, self.kernel_attention))
        scores = ops.exp(ops.clip(ops.squeeze(scores, -1), -2, 2))
        total = ops.segment_sum(scores, edges[:, 0], num_segments=NODES)
        normalized = scores / ops.take(total, edges[:, 0], axis=0)
        neighbours = ops.take(transformed, edges[:, 1], axis=0)
        return ops.segment_sum(neighbours * normalized[:, None], edges[:, 0], num_segments=NODES)


class MultiHeadGraphAttention(layers.Layer):
    def __init__(self, units, num_heads=2, merge_type="concat", **kwargs):
        super().__init__(**kwargs)
        self.num_heads, self.merge_type = num_heads, merge_type
        self.attention_layers = [GraphAttention(units) for _ in range(num_heads)]

    def call(self, inputs):
        outputs = [attention(list(inputs)) for attention in self.attention_layers]
        return ops.relu(ops.concatenate(outputs, axis=-1) if self.merge_type == "concat" else sum(outputs))


class AttentionNetwork(keras.Model):
    def __init__(self, states, edges, units, heads, **kwargs):
        super().__init__(**kwargs)
        self.node_states, self.edges = states, edges
        self.preprocess = layers.Dense(units * heads, activation="relu")
        self.attention_layers = [MultiHeadGraphAttention(units, heads) for _ in range(2)]
        self.output_layer = layers.Dense(3)

    def call(self, indices):
        x = self.preprocess(self.node_states)
        for attention in self.attention_layers:
            x = attention([x, self.edges]) + x
        return ops.take(self.output_layer(x), indices, axis=0)


@style
def graph_attention():
    return called(AttentionNetwork(normal(NODES, FEATURES), EDGES.T, 4, 2), ids(4, below=NODES))


class AdjacencyConvolution(layers.Layer):
    def __init__(self, in_feat, out_feat, adjacency, aggregation="mean", activation=None):
        super().__init__()
        self.aggregation = aggregation
        self.adjacency = tf.constant(adjacency, tf.float32)
        self.weight = self.add_weight(initializer="glorot_uniform", shape=(in_feat, out_feat), trainable=True)
        self.activation = layers.Activation(activation)

    def call(self, features):
        return self.activation(tf.linalg.matmul(tf.linalg.matmul(self.adjacency, features), self.weight))


@style
def traffic_forecast():
    adjacency = np.random.default_rng(0).uniform(size=(5, 5)).astype("float32")
    inputs = layers.Input((6, 5, 1))
    x = AdjacencyConvolution(1, 4, adjacency, activation="relu")(inputs)
    x = layers.Reshape((6, 20))(x)
    x = layers.LSTM(8, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(5)(x)), normal(4, 6, 5, 1)


class Experts(layers.Layer):
    """A mixture of experts whose router and experts are weights in lists."""

    def __init__(self, experts, units, top=2):
        super().__init__()
        self.experts = [
            keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(units)]) for _ in range(experts)
        ]
        self.router = layers.Dense(experts)
        self.top = top

    def call(self, x):
        gates = ops.softmax(self.router(x), axis=-1)
        values, _ = ops.top_k(gates, k=self.top)
        kept = ops.where(gates >= values[..., -1:], gates, 0.0)
        kept = kept / ops.sum(kept, axis=-1, keepdims=True)
        outputs = ops.stack([expert(x) for expert in self.experts], axis=-2)
        return ops.sum(outputs * ops.expand_dims(kept, -1), axis=-2)


@style
def mixture_of_experts():
    inputs = keras.Input((7, 6))
    x = Experts(4, 6)(inputs) + inputs
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling1D()(x))), normal(4, 7, 6)


def encode_position(x, count=4):
    positions = [x]
    for i in range(count):
        for fn in [tf.sin, tf.cos]:
            positions.append(fn(2.0**i * x))
    return tf.concat(positions, axis=-1)


@style
def radiance_field():
    inputs = keras.Input((10, 3))
    x = encoded = layers.Lambda(encode_position, output_shape=(10, 27))(inputs)
    for i in range(4):
        x = layers.Dense(units=16, activation="relu")(x)
        if i % 4 == 0 and i > 0:
            x = layers.concatenate([x, encoded], axis=-1)
    return keras.Model(inputs, layers.Dense(units=4)(x)), normal(2, 10, 3)


class Antirectifier(layers.Layer):
    def __init__(self, initializer="he_normal", **kwargs):
        super().__init__(**kwargs)
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[-1] * 2, 5), initializer=self.initializer, name="kernel", trainable=True
        )

    def call(self, inputs):
        inputs = inputs - ops.mean(inputs, axis=-1, keepdims=True)
        pos, neg = ops.relu(inputs), ops.relu(-inputs)
        return ops.matmul(ops.concatenate([pos, neg], axis=-1), self.kernel)


@style
def antirectifier():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6), Antirectifier(), layers.Dense(5), Antirectifier()])
    model.add(layers.Dense(3))
    return model, normal(4, 8)


class Endpoint(layers.Layer):
    def __init__(self, name=None):
        super().__init__(name=name)
        self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

    def call(self, logits, targets=None, sample_weight=None):
        if targets is not None:
            self.add_loss(self.loss_fn(targets, logits, sample_weight))
        return ops.softmax(logits)


@style
def endpoint_layer():
    inputs = keras.Input((3,))
    return keras.Model(inputs, Endpoint(name="predictions")(layers.Dense(10)(inputs))), normal(4, 3)
