"""Text: translation with masks, classification, tagging, language models."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.styles.catalogue import ids, normal, style

VOCABULARY, LENGTH, WIDTH = 30, 10, 8


class PositionalEmbedding(layers.Layer):
    def __init__(self, sequence_length, vocab_size, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.token_embeddings = layers.Embedding(input_dim=vocab_size, output_dim=embed_dim)
        self.position_embeddings = layers.Embedding(input_dim=sequence_length, output_dim=embed_dim)

    def call(self, inputs):
        length = ops.shape(inputs)[-1]
        positions = ops.arange(0, length, 1)
        return self.token_embeddings(inputs) + self.position_embeddings(positions)

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0)


class Encoder(layers.Layer):
    def __init__(self, embed_dim, dense_dim, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.dense_proj = keras.Sequential([layers.Dense(dense_dim, activation="relu"), layers.Dense(embed_dim)])
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        padding_mask = ops.cast(mask[:, None, :], dtype="int32") if mask is not None else None
        attended = self.attention(query=inputs, value=inputs, key=inputs, attention_mask=padding_mask)
        proj_input = self.layernorm_1(inputs + attended)
        return self.layernorm_2(proj_input + self.dense_proj(proj_input))


class Decoder(layers.Layer):
    def __init__(self, embed_dim, latent_dim, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.attention_1 = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.attention_2 = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.dense_proj = keras.Sequential([layers.Dense(latent_dim, activation="relu"), layers.Dense(embed_dim)])
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()
        self.layernorm_3 = layers.LayerNormalization()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        inputs, encoder_outputs = inputs
        causal_mask = self.causal(inputs)
        inputs_padding_mask, encoder_padding_mask = (None, None) if mask is None else mask
        x = self.attention_1(
            query=inputs, value=inputs, key=inputs, attention_mask=causal_mask, query_mask=inputs_padding_mask
        )
        out_1 = self.layernorm_1(inputs + x)
        y = self.attention_2(
            query=out_1,
            value=encoder_outputs,
            key=encoder_outputs,
            query_mask=inputs_padding_mask,
            key_mask=encoder_padding_mask,
        )
        out_2 = self.layernorm_2(out_1 + y)
        return self.layernorm_3(out_2 + self.dense_proj(out_2))

    @staticmethod
    def causal(inputs):
        shape = ops.shape(inputs)
        i, j = ops.arange(shape[1])[:, None], ops.arange(shape[1])
        return ops.reshape(ops.cast(i >= j, dtype="int32"), (1, shape[1], shape[1]))


def padded(count: int, length: int, seed: int = 0) -> np.ndarray:
    """Return ids of 1 and more, with 0 behind the end of all but the first."""
    words = 1 + ids(count, length, below=VOCABULARY - 1, seed=seed)
    for row in range(1, count):
        words[row, length // (row + 1) :] = 0
    return words


@style
def translation_with_masks():
    source = keras.Input((LENGTH,), dtype="int64", name="encoder_inputs")
    x = Encoder(WIDTH, 16, 2)(PositionalEmbedding(LENGTH, VOCABULARY, WIDTH)(source))
    target = keras.Input((LENGTH,), dtype="int64", name="decoder_inputs")
    y = Decoder(WIDTH, 16, 2)([PositionalEmbedding(LENGTH, VOCABULARY, WIDTH)(target), x])
    out = layers.Dense(VOCABULARY, activation="softmax")(layers.Dropout(0.5)(y))
    return keras.Model({"encoder_inputs": source, "decoder_inputs": target}, out, name="transformer"), {
        "encoder_inputs": padded(3, LENGTH).astype("int64"),
        "decoder_inputs": padded(3, LENGTH, seed=1).astype("int64"),
    }


class TokenAndPosition(layers.Layer):
    def __init__(self, maxlen, vocab_size, embed_dim):
        super().__init__()
        self.token_emb = layers.Embedding(input_dim=vocab_size, output_dim=embed_dim)
        self.pos_emb = layers.Embedding(input_dim=maxlen, output_dim=embed_dim)

    def call(self, x):
        maxlen = ops.shape(x)[-1]
        return self.token_emb(x) + self.pos_emb(ops.arange(start=0, stop=maxlen, step=1))


class Block(layers.Layer):
    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential([layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)])
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        out1 = self.layernorm1(inputs + self.dropout1(self.att(inputs, inputs)))
        return self.layernorm2(out1 + self.dropout2(self.ffn(out1)))


@style
def sentiment_transformer():
    inputs = layers.Input(shape=(LENGTH,))
    x = Block(WIDTH, 2, 8)(TokenAndPosition(LENGTH, VOCABULARY, WIDTH)(inputs))
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x)), padded(4, LENGTH).astype("float32")


@style
def sentiment_bidirectional():
    inputs = keras.Input(shape=(None,), dtype="int32")
    x = layers.Embedding(VOCABULARY, WIDTH, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(6))(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x)), padded(4, LENGTH)


@style
def sentiment_convolution():
    inputs = keras.Input(shape=(None,), dtype="int64")
    x = layers.Dropout(0.5)(layers.Embedding(VOCABULARY, WIDTH)(inputs))
    x = layers.Conv1D(12, 7, padding="valid", activation="relu", strides=3)(x)
    x = layers.GlobalMaxPooling1D()(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="predictions")(x)), ids(
        4, 24, below=VOCABULARY, dtype="int64"
    )


class Tagger(keras.Model):
    def __init__(self, num_tags, vocab_size, maxlen=LENGTH, embed_dim=WIDTH, num_heads=2, ff_dim=8):
        super().__init__()
        self.embedding_layer = TokenAndPosition(maxlen, vocab_size, embed_dim)
        self.transformer_block = Block(embed_dim, num_heads, ff_dim)
        self.dropout1 = layers.Dropout(0.1)
        self.ff = layers.Dense(ff_dim, activation="relu")
        self.ff_final = layers.Dense(num_tags, activation="softmax")

    def call(self, inputs, training=False):
        x = self.transformer_block(self.embedding_layer(inputs))
        x = self.ff(self.dropout1(x, training=training))
        return self.ff_final(x)


@style
def subclassed_tagger():
    model = Tagger(4, VOCABULARY)
    x = ids(4, LENGTH, below=VOCABULARY)
    model(x)
    return model, x


class MaskedLanguageModel(keras.Model):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.loss_tracker = keras.metrics.Mean(name="loss")

    def train_step(self, inputs):
        features, labels, weights = inputs
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=features, y=labels, y_pred=self(features, training=True), sample_weight=weights)
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables, strict=True)
        )
        return {"loss": loss}


@style
def masked_language_model():
    inputs = layers.Input((LENGTH,), dtype="int64")
    x = layers.Embedding(VOCABULARY, WIDTH, name="word_embedding")(inputs)
    angles = np.arange(LENGTH)[:, None] / np.power(10000, np.arange(WIDTH)[None] / WIDTH)
    x = x + angles.astype("float32")
    query = layers.MultiHeadAttention(num_heads=2, key_dim=4)(x, x, x)
    x = layers.LayerNormalization(epsilon=1e-6)(x + layers.Dropout(0.1)(query))
    x = layers.LayerNormalization(epsilon=1e-6)(
        x + keras.Sequential([layers.Dense(16, activation="relu"), layers.Dense(WIDTH)])(x)
    )
    out = layers.Dense(VOCABULARY, name="mlm_cls", activation="softmax")(x)
    return MaskedLanguageModel(inputs, out, name="masked_bert_model"), ids(2, LENGTH, below=VOCABULARY, dtype="int64")


class Switch(layers.Layer):
    def __init__(self, num_experts, embed_dim, ff_dim, tokens):
        super().__init__()
        self.num_experts, self.embed_dim = num_experts, embed_dim
        self.experts = [
            keras.Sequential([layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)])
            for _ in range(num_experts)
        ]
        self.router = layers.Dense(num_experts)

    def call(self, inputs):
        flat = ops.reshape(inputs, [-1, self.embed_dim])
        probabilities = keras.activations.softmax(self.router(flat), axis=-1)
        gate, index = ops.top_k(probabilities, k=1)
        dispatch = ops.one_hot(ops.squeeze(index, axis=-1), self.num_experts)
        outputs = [expert(flat) * dispatch[:, i : i + 1] for i, expert in enumerate(self.experts)]
        return ops.reshape(ops.sum(ops.stack(outputs), axis=0) * gate, ops.shape(inputs))


@style
def switch_transformer():
    inputs = layers.Input(shape=(LENGTH,), dtype="int32")
    x = TokenAndPosition(LENGTH, VOCABULARY, WIDTH)(inputs)
    x = x + layers.MultiHeadAttention(num_heads=2, key_dim=WIDTH)(x, x)
    x = layers.LayerNormalization()(x + Switch(3, WIDTH, 8, LENGTH)(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling1D()(x))), ids(
        4, LENGTH, below=VOCABULARY
    )


@style
def causal_language_model():
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = TokenAndPosition(LENGTH, VOCABULARY, WIDTH)(inputs)
    attended = layers.MultiHeadAttention(2, WIDTH)(x, x, use_causal_mask=True)
    x = layers.LayerNormalization(epsilon=1e-6)(x + attended)
    return keras.Model(inputs, [layers.Dense(VOCABULARY)(x), x]), ids(2, LENGTH, below=VOCABULARY)


class Attend(layers.Layer):
    """Masked mean over words, by the Keras mask of the first of two tensors."""

    def call(self, inputs, mask=None):
        words, query = inputs
        kept = ops.cast(mask[0], words.dtype)[..., None] if mask is not None and mask[0] is not None else 1.0
        scores = ops.sum(words * query[:, None, :], axis=-1, keepdims=True)
        weights = ops.exp(scores) * kept
        return ops.sum(weights * words, axis=1) / (ops.sum(weights, axis=1) + 1e-6)

    def compute_mask(self, inputs, mask=None):
        return None


@style
def question_and_document():
    words, query = keras.Input((LENGTH,), dtype="int32", name="words"), keras.Input((WIDTH,), name="query")
    x = PositionalEmbedding(LENGTH, VOCABULARY, WIDTH)(words)
    return keras.Model([words, query], layers.Dense(2)(Attend()([x, layers.Dense(WIDTH)(query)]))), [
        padded(3, LENGTH),
        normal(3, WIDTH),
    ]
