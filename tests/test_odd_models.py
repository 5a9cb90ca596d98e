"""Models that a stranger would come with, and where being made again went wrong once."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tfcompress.core.transform import read
from tfcompress.core.wrapper import CompressedLayer, wrapped_layers
from tfcompress.graph import rebuild


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def fit(model, x, y, **how):
    model.compile(keras.optimizers.SGD(0.1), "mse", **how)
    model.fit(x, y, batch_size=len(x), verbose=0)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="on JAX Keras' predict keeps no state of recurrent layers")
def test_a_stateful_layer_keeps_its_state():
    model = keras.Sequential([keras.Input(batch_shape=(2, 5, 4)), L.LSTM(6, stateful=True)])
    pruned, x = tfc.prune(model, tfc.ConstantSparsity(0.5, begin_step=1000)), floats(2, 5, 4)
    for _ in range(3):
        np.testing.assert_allclose(pruned.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    first = rebuild(pruned).predict(x, verbose=0)
    pruned.layers[-1].reset_state()
    assert np.abs(pruned.predict(x, verbose=0) - first).max() > 1e-4


@keras.saving.register_keras_serializable(package="tests")
class Noisy(L.Layer):
    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], 3))

    def call(self, x):
        return ops.matmul(x, self.kernel) + keras.random.normal((2, 3))


@pytest.mark.skipif(not ON_TENSORFLOW, reason="JAX refuses noise without a seed generator")
def test_noise_of_keras_own_generator_goes_on():
    pruned, x = tfc.prune(keras.Sequential([keras.Input((4,)), Noisy()]), 0.5), floats(2, 4)
    assert np.abs(pruned.predict(x, verbose=0) - pruned.predict(x, verbose=0)).max() > 0.01


class TiedModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.embed = L.Embedding(10, 6, name="embed")
        self.dense = L.Dense(6)

    def call(self, x):
        return ops.matmul(self.dense(self.embed(x)), ops.transpose(self.embed.embeddings))


class TiedBias(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(6)

    def call(self, x):
        return self.dense(x) + self.dense.bias


@keras.saving.register_keras_serializable(package="tests")
class TiedLayer(L.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embed = L.Embedding(10, 6)
        self.dense = L.Dense(6)

    def call(self, x):
        return ops.matmul(self.dense(self.embed(x)), ops.transpose(self.embed.embeddings))


@pytest.mark.parametrize("model", [TiedModel, TiedBias])
def test_a_model_that_computes_with_a_layers_weight_is_refused(model):
    made = model()
    made(np.ones((2, 6)))
    with pytest.raises(ValueError, match="computes with '.*(embeddings|bias)' itself.*ReversibleEmbedding"):
        tfc.prune(made, 0.5)


@pytest.mark.on_jax
@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called on layer:UserWarning")
def test_a_layer_with_tied_weights_is_kept_whole_and_trains_tied():
    model = keras.Sequential([keras.Input((3,), dtype="int32"), TiedLayer(name="tied")])
    pruned, x = tfc.prune(model, 0.5), np.array([[1, 2, 3]])
    assert isinstance(pruned.get_layer("tied"), CompressedLayer)
    fit(pruned, x, np.ones((1, 3, 10)))
    stripped = tfc.strip(pruned)
    np.testing.assert_allclose(stripped.predict(x, verbose=0), pruned.predict(x, verbose=0), atol=1e-6)
    model.set_weights(stripped.get_weights())
    np.testing.assert_allclose(stripped.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


class Calibrated(keras.Model):
    """A functional model with a `call` of its own."""

    def __init__(self):
        inputs = keras.Input((4,))
        super().__init__(inputs, L.Dense(3, name="inner")(inputs))

    def call(self, x, training=None, mask=None):
        return ops.softmax(super().call(x))


def test_a_call_of_its_own_of_a_functional_model_counts():
    model, x = Calibrated(), floats(5, 4)
    np.testing.assert_allclose(ops.sum(rebuild(model)(x), -1), 1, rtol=1e-5)
    inputs = keras.Input((4,))
    nested = keras.Model(inputs, model(inputs) * 2.0)
    np.testing.assert_allclose(ops.sum(tfc.prune(nested, 0.5)(x), -1), 2, rtol=1e-5)


class Forgetful(L.Layer):
    def __init__(self, units=4, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.units, self.factor = units, factor

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units))

    def call(self, x):
        return ops.matmul(x, self.kernel) * self.factor

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_an_incomplete_get_config_does_not_matter():
    model, x = keras.Sequential([keras.Input((4,)), Forgetful(3, 5.0)]), floats(5, 4)
    np.testing.assert_allclose(rebuild(model)(x), model(x), rtol=1e-6)
    assert tfc.sparsity(tfc.prune_once(model, 0.5)) == 0.5


@pytest.mark.on_jax
def test_global_budgets_of_two_models_stay_apart():
    def small():
        return keras.Sequential([keras.Input((8,)), L.Dense(8)])

    first = tfc.prune(small(), tfc.PruneConfig(0.5, scope="global"))
    second = tfc.prune(small(), tfc.PruneConfig(0.875, scope="global"))
    inputs = keras.Input((8,))
    fit(keras.Model(inputs, second(first(inputs))), floats(8, 8), floats(8, 8))
    assert (tfc.sparsity(first), tfc.sparsity(second)) == (0.5, 0.875)


def test_a_part_of_a_global_budget_is_left_alone_and_said():
    model = keras.Sequential([keras.Input((8,)), L.Dense(8, name="a"), L.Dense(8, name="b")])
    pruned = tfc.prune(model, tfc.PruneConfig(tfc.ConstantSparsity(0.5, frequency=1), scope="global"))
    fit(pruned, floats(8, 8), floats(8, 8))
    before = tfc.summary(pruned).sparsities
    part = keras.Model(pruned.inputs, pruned.get_layer("a").output)
    with pytest.warns(UserWarning, match="all 2 weights"):
        fit(part, floats(8, 8), floats(8, 8))
    assert tfc.summary(pruned).sparsities == before


class Compares(L.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = L.Dense(3, name="inner")

    def call(self, x, training=None):
        x = self.dense(x)
        if training is True:
            x = x * 0.0
        return x

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 3)


@pytest.mark.on_jax
@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called on layer:UserWarning")
def test_a_layer_that_looks_at_training_is_kept_whole():
    model = keras.Sequential([keras.Input((4,)), Compares(name="whole")])
    pruned = tfc.prune(model, 0.5)
    assert isinstance(pruned.get_layer("whole"), CompressedLayer)
    assert float(ops.max(ops.abs(pruned(floats(2, 4), training=True)))) == 0


def test_inherited_and_other_steps_are_said_to_be_lost():
    class Base(keras.Model):
        def predict_step(self, data):
            return super().predict_step(data)

    class Own(Base):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Own()
    model(floats(2, 3))
    with pytest.warns(UserWarning, match="Own defines predict_step"):
        tfc.prune(model, 0.5)


@pytest.mark.on_jax
def test_a_models_own_weights_keep_what_they_are():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.w = self.add_weight(name="w", shape=(4, 3), regularizer="l2", constraint="non_neg")
            self.alias = self.w
            self.whole = self.add_weight(name="whole", shape=(), dtype="int32", initializer="ones", trainable=False)

        def call(self, x):
            return ops.matmul(x, self.w) + ops.matmul(x, self.alias) * ops.cast(self.whole, "float32")

    model, x = Own(), floats(8, 4)
    model(x)
    pruned = tfc.prune(model, 0.5)
    assert [layer.name for layer in wrapped_layers(pruned)] == ["w"]
    assert len(pruned.trainable_variables) == 1
    np.testing.assert_allclose([float(v) for v in pruned.losses], [float(v) for v in model.losses], rtol=1e-5)
    fit(pruned, x, -np.ones((8, 3)))
    if ON_TENSORFLOW:
        assert read(pruned.trainable_variables[0]).min() >= 0


def test_output_names_of_two_calls_stay_in_order():
    block = keras.Sequential([L.Dense(2)], name="head")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [block(inputs), block(inputs * 2)])
    pruned = tfc.prune(model, 0.5)
    assert pruned.output_names == model.output_names == ["head", "head"]
    np.testing.assert_allclose(rebuild(model)(floats(3, 4))[1], model(floats(3, 4))[1], atol=1e-6)


def test_every_kernel_is_counted():
    inputs = keras.Input((5, 4))
    hidden = L.Bidirectional(L.LSTM(3, return_sequences=True), name="both")(inputs)
    attention = keras.Model(inputs, L.MultiHeadAttention(2, 2, name="mha")(hidden, hidden))
    assert len(tfc.summary(attention).sparsities) == 8
    assert len(tfc.summary(tfc.prune(attention, 0.5)).sparsities) == 8


@pytest.mark.skipif(not ON_TENSORFLOW, reason="files need TensorFlow")
def test_low_rank_additions_are_part_of_quantized_weights(tmp_path):
    adapted = [L.Embedding(20, 4), L.Dense(4, "relu"), L.EinsumDense("abc,cd->abd", (6, 4)), L.Conv1D(3, 2)]
    model = keras.Sequential([keras.Input((6,), dtype="int32"), *adapted])
    for layer in adapted:
        layer.enable_lora(2)
    for weight in [w for layer in adapted for w in layer.weights if "lora" in w.path]:
        weight.assign(floats(*weight.shape))
    x = np.arange(24).reshape(4, 6) % 20
    count = len(model.weights)
    quantized = tfc.quantize(model, "int8", data=x)
    assert len(model.weights) == count and all(layer.lora_enabled for layer in adapted)
    assert np.corrcoef(np.ravel(quantized(x)), np.ravel(model(x)))[0, 1] > 0.999
    assert tfc.export(quantized, tmp_path / "model.tflite", verify=x).precision == "int8"


def test_lora_is_refused():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="adapted")])
    model.layers[0].enable_lora(2)
    with pytest.raises(ValueError, match="LoRA.*'adapted'"):
        tfc.prune(model, 0.5)


def test_a_lambda_of_this_process_is_no_obstacle():
    model = keras.Sequential([keras.Input((4,)), L.Lambda(lambda x: x * 2.0), L.Dense(3)])
    x = floats(2, 4)
    np.testing.assert_allclose(rebuild(model)(x), model(x), atol=1e-6)


@keras.saving.register_keras_serializable(package="tests")
class Pair(L.Layer):
    def build(self, a_shape, b_shape=None):
        self.kernel = self.add_weight(name="kernel", shape=(4, 3))

    def call(self, a, b):
        return ops.matmul(a - b, self.kernel)


def test_tensors_by_keyword():
    one, two = keras.Input((4,)), keras.Input((4,))
    layer = Pair(name="pair")
    layer.build((None, 4))
    layer.built = True
    model = keras.Model([one, two], layer(a=one, b=two))
    pruned = tfc.prune(model, 0.5)
    fit(pruned, [floats(4, 4), floats(4, 4, seed=1)], floats(4, 3))
    assert tfc.sparsity(pruned) == 0.5


def test_layers_go_by_the_names_they_had_and_those_around_them():
    block = keras.Sequential([L.Dense(4, name="dense"), L.Dense(4, name="other")], name="block")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Dense(2, name="dense")(block(inputs)))
    names = {layer.name for layer in wrapped_layers(tfc.prune(model, 0.5, layers="dense"))}
    assert names == {"dense", "block_dense"}
    assert len(wrapped_layers(tfc.prune(model, 0.5, layers="block"))) == 2
    with pytest.raises(ValueError, match=r"Received: '\['"):
        tfc.prune(model, 0.5, layers="[")


def test_names_of_weights_are_read_by_words():
    class Up(L.Layer):
        def build(self, input_shape):
            self.up = self.add_weight(name="upscale_kernel", shape=(4, 3))
            self.scale = self.add_weight(name="scale", shape=(1, 3))

        def call(self, x):
            return ops.matmul(x, self.up) * self.scale

    pruned = tfc.prune(keras.Sequential([keras.Input((4,)), Up()]), 0.5)
    assert list(tfc.summary(pruned).sparsities) == ["up/upscale_kernel"]


def test_a_model_of_two_arguments_is_refused_and_another_output_in_training_is_said():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(3)

        def call(self, x, y):
            return self.dense(x + y)

    class Auxiliary(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.aux = L.Dense(3), L.Dense(3)

        def call(self, x, training=None):
            y = self.dense(x)
            if training:
                return y, self.aux(x)
            return y

    two, auxiliary = Two(), Auxiliary()
    two(floats(2, 4), floats(2, 4))
    auxiliary(floats(2, 4), training=True)
    with pytest.raises(ValueError, match="Take them as one dict"):
        tfc.prune(two, 0.5)
    with pytest.warns(UserWarning, match="something else in training than in inference"):
        pruned = tfc.prune(auxiliary, 0.0)
    np.testing.assert_allclose(pruned(floats(2, 4)), auxiliary(floats(2, 4)), rtol=1e-6)


@pytest.mark.on_jax
def test_a_schedule_of_the_users_own():
    import dataclasses

    @keras.saving.register_keras_serializable(package="tests")
    @dataclasses.dataclass(frozen=True)
    class Half(tfc.Schedule):
        frequency: int = 1

        def sparsity(self, step):
            return ops.where(step >= 2, 0.5, 0.25)

    pruned = tfc.prune(keras.Sequential([keras.Input((8,)), L.Dense(8)]), Half())
    seen = []
    for _ in range(4):
        fit(pruned, floats(4, 8), floats(4, 8))
        seen.append(tfc.sparsity(pruned))
    assert seen == [0.25, 0.25, 0.5, 0.5]


@pytest.mark.skipif(not ON_TENSORFLOW, reason="tf.GradientTape")
def test_a_loop_of_the_users_own_and_accumulated_gradients():
    import tensorflow as tf

    pruned = tfc.prune(keras.Sequential([keras.Input((8,)), L.Dense(8)]), tfc.ConstantSparsity(0.5, begin_step=1))
    optimizer, x = keras.optimizers.AdamW(0.1, weight_decay=0.1), floats(4, 8)
    for step in range(3):
        with tf.GradientTape() as tape:
            loss = ops.mean(pruned(x, training=True) ** 2)
        optimizer.apply(tape.gradient(loss, pruned.trainable_variables), pruned.trainable_variables)
        assert np.mean(read(pruned.layers[-1].layer.kernel) == 0) == (0.5 if step else 0.0)
    accumulating = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    pruned.compile(accumulating, "mse")
    pruned.fit(x, floats(4, 8), batch_size=1, verbose=0)
    assert np.mean(read(pruned.layers[-1].layer.kernel) == 0) == 0.5
