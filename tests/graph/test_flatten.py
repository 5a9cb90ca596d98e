"""Opening models of every kind, and making them again."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tests.layers import ResidualBlock
from tfcompress.core.passthrough import AskedTraining, FixedTraining
from tfcompress.core.wrapper import CompressedLayer, wrapped_layers
from tfcompress.graph import rebuild


def randomise(model, seed=0):
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        if "float" in str(variable.dtype):
            positive = "variance" in variable.name
            variable.assign(
                generator.uniform(0.5, 2, variable.shape) if positive else generator.normal(0, 0.3, variable.shape)
            )


def images(samples=4):
    return np.random.default_rng(1).normal(size=(samples, 8, 8, 3)).astype("float32")


def outputs(model, x):
    return [ops.convert_to_numpy(y) for y in keras.tree.flatten(model(x, training=False))]


def assert_same(model, x):
    """The model made again computes the same, shares no variable with it, and leaves it alone."""
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    again = rebuild(model)
    for want, got in zip(outputs(model, x), outputs(again, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)
    assert not {id(v) for v in model.variables} & {id(v) for v in again.variables}
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == nodes
    return again


class Net(keras.Model):
    """A subclassed model with blocks, a frozen base, a branch on `training` and two outputs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = L.Conv2D(3, 3, padding="same", name="stem")
        self.blocks = [ResidualBlock(3, name="one"), ResidualBlock(3, name="two")]
        self.base = keras.Sequential([L.Conv2D(4, 1, name="point"), L.BatchNormalization(name="frozen")], name="base")
        self.noise = L.Dropout(0.5, seed=3, name="noise")
        self.head = L.Dense(3, name="head")

    def call(self, x, training=False):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, training=training)
        x = self.base(x, training=False)
        if training:
            x = self.noise(x, training=training)
        pooled = ops.mean(x, axis=(1, 2))
        return {"logits": self.head(pooled), "features": pooled}


@pytest.fixture
def net():
    model = Net(name="net")
    model(images())
    randomise(model)
    return model


@pytest.mark.on_jax
def test_subclassed_model_is_opened(net):
    again = assert_same(net, images())
    names = [layer.name for layer in again.layers]
    assert names[1:] == [
        "stem", "one_conv", "one_norm", "one_" + net.blocks[0].drop.name, "two_conv", "two_norm",
        "two_" + net.blocks[1].drop.name, "point", "frozen", "noise", "head",
    ]  # fmt: skip
    assert again.name == "net"
    assert set(again(images())) == {"logits", "features"}


@pytest.mark.on_jax
def test_training_that_a_call_pins_stays_pinned(net, tmp_path):
    pruned = tfc.prune(net, 0.5)
    assert isinstance(pruned.get_layer("frozen"), FixedTraining)
    before = [ops.convert_to_numpy(v.value) for v in pruned.get_layer("frozen").variables]
    free = ops.convert_to_numpy(pruned.get_layer("one_norm").moving_mean.value)
    pruned.compile(keras.optimizers.SGD(0.0), {"logits": "mse", "features": "mse"})
    x = images(8)
    pruned.fit(x, {"logits": np.zeros((8, 3)), "features": np.zeros((8, 4))}, verbose=0)
    for old, variable in zip(before, pruned.get_layer("frozen").variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable.value), old)
    assert np.any(ops.convert_to_numpy(pruned.get_layer("one_norm").moving_mean.value) != free)
    stripped = tfc.strip(pruned)
    stripped.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert isinstance(loaded.get_layer("frozen"), FixedTraining)


def test_a_layer_called_with_two_values_of_training_is_refused():
    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = L.BatchNormalization(name="norm")

        def call(self, x, training=None):
            return self.norm(x, training=training) + self.norm(x, training=False)

    model = Twice()
    model(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match="'norm' to be called with one and the same `training`"):
        rebuild(model)


def test_multi_head_attention_is_opened():
    inputs = keras.Input((6, 8))
    attention = L.MultiHeadAttention(2, 4, name="mha")
    hidden = attention(inputs, inputs) + inputs
    hidden = attention(hidden, hidden, use_causal_mask=True)
    model = keras.Model(inputs, L.Dense(2, name="head")(L.LayerNormalization(name="norm")(hidden)[:, 0]))
    randomise(model)
    x = np.random.default_rng(2).normal(size=(3, 6, 8)).astype("float32")
    again = assert_same(model, x)
    assert [layer.name for layer in again.layers][1:] == [
        "mha_query", "mha_key", "mha_value", "mha_attention_output", "norm", "head",
    ]  # fmt: skip
    assert tfc.sparsity(tfc.prune_once(model, 0.5)) == 0.5


def test_attention_with_a_keras_mask_is_kept_whole_and_right():
    inputs = keras.Input((6,), dtype="int32")
    hidden = L.Embedding(10, 8, mask_zero=True)(inputs)
    hidden = L.MultiHeadAttention(2, 4, name="mha")(hidden, hidden)
    model = keras.Model(inputs, L.LSTM(3)(hidden))
    randomise(model)
    x = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 9]], "int32")
    again = assert_same(model, x)
    assert isinstance(again.get_layer("mha"), L.MultiHeadAttention)
    assert isinstance(tfc.prune(model, 0.5).get_layer("mha"), CompressedLayer)


def test_shared_nested_models_stay_shared_and_names_stay():
    branch = keras.Sequential(
        [keras.Input((8, 8, 3)), L.Conv2D(4, 3, name="conv"), L.GlobalMaxPooling2D()], name="branch"
    )
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    conv = L.Conv2D(2, 3, name="conv")(left)
    difference = L.Subtract(name="difference")([branch(left), branch(right)])
    model = keras.Model(
        {"left": left, "right": right},
        [difference, branch(left), L.Flatten(name="flat")(conv)],
        name="siamese",
    )
    randomise(model)
    again = assert_same(model, {"left": images(), "right": images()[::-1]})
    assert again.output_names == model.output_names == ["difference", "branch", "flat"]
    assert again.input_names == ["left", "right"] if hasattr(again, "input_names") else True
    assert [x.name for x in again.inputs] == ["left", "right"]
    # The outer layer keeps its plain name; the inner one of the same name gets its parent's.
    assert again.get_layer("conv").filters == 2
    assert len(again.get_layer("branch_conv")._inbound_nodes) == 3
    assert again.count_params() == model.count_params()


@pytest.mark.skipif(not ON_TENSORFLOW, reason="runs raw TensorFlow operations")
def test_raw_tensorflow_in_call_is_part_of_the_graph(tmp_path):
    import tensorflow as tf

    class Raw(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.last = L.Dense(8, name="first"), L.Dense(3, name="last")
            self.scale = self.add_weight(shape=(4,), initializer="ones", name="scale")

        def call(self, x, training=False):
            x = tf.nn.relu(self.first(x))
            x = tf.reshape(x, [tf.shape(x)[0], -1, 4]) * tf.expand_dims(tf.expand_dims(self.scale, 0), 0)
            left, right = tf.split(tf.concat([x, tf.square(x)], axis=-1), 2, axis=1)
            return tf.math.l2_normalize(self.last(left - right), axis=-1), tf.math.top_k(right, 2).values

    model = Raw()
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    model(x)
    model.scale.assign([1.0, 2.0, 3.0, 4.0])
    pruned = tfc.prune(model, 0.5)
    for old, new in zip(model(x), pruned(x), strict=True):
        np.testing.assert_allclose(old, new, atol=1e-6)
    assert any(weight.path.endswith("scale") for weight in pruned.trainable_variables)
    assert {"first", "last"} <= {layer.name for layer in tfc.strip(pruned).layers}
    stripped = tfc.strip(pruned)
    stripped.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    for old, new in zip(stripped(x), again(x), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="runs raw TensorFlow operations")
@pytest.mark.parametrize("what", ["a function of a layer", "a weight of a layer", "what looks at sizes"])
def test_raw_tensorflow_that_is_no_graph_is_refused_with_the_line(what):
    import tensorflow as tf

    class Raw(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(3)

        def call(self, x):
            if what == "a function of a layer":
                return tf.map_fn(lambda row: self.dense(row[None])[0], self.dense(x))
            if what == "a weight of a layer":
                return tf.matmul(self.dense(x), self.dense.kernel, transpose_b=True)
            return self.dense(x) * len(tf.unstack(x))

    model = Raw()
    model(np.ones((3, 3), "float32"))
    with pytest.raises(
        ValueError, match=r"`call` of Raw 'raw'.*(test_flatten.py:\d+: `return |computes with 'raw/dense)"
    ):
        tfc.prune(model, 0.5)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="runs raw TensorFlow operations")
def test_random_numbers_that_a_copy_would_keep_are_refused():
    import tensorflow as tf

    class Noisy(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(3)

        def call(self, x):
            return self.dense(x) + tf.random.normal((3,))

    model = Noisy()
    model(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match="Noisy 'noisy' to draw random numbers in layers.*kept whole"):
        tfc.prune(model, 0.5)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="runs raw TensorFlow operations")
def test_a_layer_of_unknown_output_is_refused_with_the_cause():
    import tensorflow as tf

    class Squeezes(L.Layer):
        def call(self, x):
            return tf.squeeze(x)[..., 1:]

    class Holds(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.last = L.Dense(3), Squeezes(name="last")

        def call(self, x):
            return self.last(self.dense(x))

    model = Holds()
    model(np.ones((2, 1, 3), "float32"))
    with pytest.raises(ValueError, match=r"Expected Squeezes 'last' to tell the shapes.*unknown.*compute_output_spec"):
        tfc.prune(model, 0.5)


def test_data_dependent_python_is_refused_with_the_line():
    class Branches(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(3)

        def call(self, x):
            if ops.sum(x) > 0:
                x = -x
            return self.dense(x)

    model = Branches()
    model(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match=r"Branches 'branches'.*`if ops.sum\(x\) > 0:`.*keras.ops"):
        tfc.prune(model, 0.5)


def test_a_call_that_differs_in_inference_is_refused():
    class Differs(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(3)

        def call(self, x, training=False):
            return self.dense(x) if training else self.dense(x) * 2.0

    model = Differs()
    model(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match="branches on `training`.*`return self.model"):
        tfc.prune(model, 0.5)

    class Inference(keras.Model):
        def __init__(self):
            super().__init__()
            self.model = model

        def call(self, x):
            return self.model(x, training=False)

    x = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    wanted = Inference()
    np.testing.assert_allclose(wanted(x), rebuild(wanted)(x), atol=1e-6)
    np.testing.assert_allclose(wanted(x), 2 * model.dense(x), atol=1e-6)


@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called on layer:UserWarning")
def test_a_composite_layer_that_cannot_be_opened_is_kept_whole(tmp_path):
    class Stops(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = L.Dense(4, name="inner")
            self.scale = self.add_weight(shape=(), initializer="ones", name="own")

        def call(self, x):
            return self.dense(x) * self.scale

    inputs = keras.Input((6,))
    model = keras.Model(inputs, L.Dense(2)(Stops(name="stops")(inputs)))
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    assert_same(model, x)
    pruned = tfc.prune(model, 0.5)
    wrapper = pruned.get_layer("stops")
    assert isinstance(wrapper, CompressedLayer)
    assert [wrapper.layer.weights[at].name for at, _ in wrapper.transforms] == ["kernel"]
    pruned.compile("sgd", "mse")
    pruned.fit(x, np.zeros((4, 2)), verbose=0)
    assert tfc.sparsity(tfc.strip(pruned)) == 0.5
    pruned.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras", custom_objects={"Stops": Stops})
    np.testing.assert_array_equal(pruned.predict(x, verbose=0), loaded.predict(x, verbose=0))


@pytest.mark.on_jax
def test_functional_subclass_keeps_its_own_train_step():
    calls = []

    class Own(keras.Model):
        def train_step(self, *args):
            calls.append(1)
            return super().train_step(*args)

    inputs = keras.Input((3,))
    model = Own(inputs, L.Dense(2)(inputs))
    pruned = tfc.prune(model, 0.5)
    assert type(pruned) is Own
    pruned.compile("sgd", "mse")
    pruned.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
    assert calls


def test_a_lost_train_step_is_said():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(2)

        def call(self, x):
            return self.dense(x)

        def train_step(self, *args):
            return super().train_step(*args)

    model = Own()
    model(np.ones((2, 3), "float32"))
    with pytest.warns(UserWarning, match="Own defines train_step"):
        tfc.prune(model, 0.5)


@pytest.mark.on_jax
def test_mixed_precision_subclass_casts_as_before():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = Net()
        model(images())
        randomise(model)
        again = assert_same(model, images())
        assert again.get_layer("head").dtype_policy.name == "mixed_bfloat16"
        assert again.inputs[0].dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


def test_frozen_layers_stay_frozen():
    base = keras.Sequential([keras.Input((3,)), L.Dense(4, name="a"), L.BatchNormalization(name="b")], name="base")
    base.trainable = False
    inputs = keras.Input((3,))
    model = keras.Model(inputs, L.Dense(2, name="c")(base(inputs)))
    pruned = tfc.prune(model, 0.5)
    assert [v.path.split("/")[0] for v in pruned.trainable_variables] == ["c", "c"]
    assert [v.path.split("/")[0] for v in tfc.strip(pruned).trainable_variables] == ["c", "c"]


def test_preprocessing_keeps_its_statistics():
    normalize = L.Normalization()
    normalize.adapt(np.random.default_rng(0).normal(3, 2, size=(64, 5)))
    model = keras.Sequential([keras.Input((5,)), normalize, L.Dense(2)])
    assert_same(model, np.random.default_rng(1).normal(3, 2, size=(4, 5)).astype("float32"))


def test_bad_models_are_refused():
    with pytest.raises(TypeError, match=r"Expected .*keras.Model.*Dense"):
        rebuild(L.Dense(2))
    with pytest.raises(ValueError, match="Expected a built model.*keras.Input"):
        rebuild(keras.Sequential([L.Dense(2)]))
    with pytest.raises(ValueError, match="Expected a built model"):
        rebuild(Net())


@pytest.mark.on_jax
def test_weights_of_a_subclassed_model_itself_stay_trainable(tmp_path):
    class Positions(keras.Model):
        def __init__(self):
            super().__init__()
            self.project = L.Dense(8, name="project")
            self.positions = self.add_weight(name="positions", shape=(1, 4, 8))
            self.scale = self.add_weight(name="scale", shape=(), initializer="ones", trainable=False)

        def call(self, x):
            return ops.mean((self.project(x) + self.positions) * self.scale, axis=1)

    model = Positions()
    x = np.random.default_rng(0).normal(size=(4, 4, 6)).astype("float32")
    model(x)
    randomise(model)
    again = assert_same(model, x)
    assert model.positions.shape == (1, 4, 8)
    assert again.count_params() == model.count_params()
    assert len(again.trainable_variables) == len(model.trainable_variables) == 3
    again.compile("sgd", "mse")
    before = ops.convert_to_numpy(again.get_layer("positions").weights[0].value)
    again.fit(x, np.zeros((4, 8)), verbose=0)
    assert np.any(ops.convert_to_numpy(again.get_layer("positions").weights[0].value) != before)
    again.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), again.predict(x, verbose=0))


@pytest.mark.filterwarnings("ignore:Weights of Listed")
def test_weights_of_a_model_that_are_no_attributes_are_refused():
    class Listed(keras.Model):
        def __init__(self):
            super().__init__()
            self.project = L.Dense(8)
            self.weight_of = {8: self.add_weight(name="hidden", shape=(8,))}.get

        def call(self, x):
            return self.project(x) + self.weight_of(8)

    model = Listed()
    model(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match="Listed 'listed'.*computes with 'listed/hidden' itself"):
        rebuild(model)


def test_weights_of_a_model_in_lists_and_dicts():
    class Listed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(4)
            self.several = [self.add_weight(shape=(4, 4), name=f"w{at}") for at in range(2)]
            self.named = {"shift": self.add_weight(shape=(4,), name="shift"), "more": [self.add_weight(shape=(4, 4))]}

        def call(self, x):
            x = self.dense(x)
            for weight in self.several:
                x = ops.tanh(ops.matmul(x, weight))
            return ops.matmul(x + self.named["shift"], self.named["more"][0])

    model = Listed()
    x = np.random.default_rng(0).normal(size=(4, 4)).astype("float32")
    model(x)
    new = rebuild(model)
    np.testing.assert_allclose(new(x), model(x), atol=1e-6)
    assert len(new.trainable_weights) == len(model.trainable_weights) == 6
    assert isinstance(model.several[0], keras.Variable)


@pytest.mark.on_jax
def test_state_is_no_kernel():
    class Codebook(L.Layer):
        def build(self, shape):
            self.codebook = self.add_weight(shape=(4, 8), name="codebook", trainable=False, initializer="normal")
            self.project = self.add_weight(shape=(4, 4), name="project")

        def call(self, x, training=False):
            x = ops.matmul(x, self.project)
            if training:
                self.codebook.assign(self.codebook * 0.99 + 0.01 * ops.mean(x))
            return ops.matmul(x, self.codebook)

    class Centres(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = Codebook()
            self.centres = self.add_weight(shape=(8, 8), name="centres", trainable=False, initializer="normal")

        def call(self, x):
            return ops.matmul(self.layer(x), self.centres)

    keras.utils.set_random_seed(0)
    model = Centres()
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model(x)
    for trainable in (True, False):
        model.trainable = trainable
        pruned = tfc.prune(model, 0.5)
        chosen = [layer.layer.weights[at].name for layer in wrapped_layers(pruned) for at, _ in layer.transforms]
        assert chosen == ["project"]
        assert len(tfc.summary(pruned).sparsities) == 1
    quantized = tfc.quantize(model, "int8", data=x)
    for name in ("codebook", "centres"):
        old, new = (next(w for w in m.weights if w.name == name) for m in (model, tfc.strip(quantized)))
        np.testing.assert_array_equal(new, old)


class Padded(L.Layer):
    """Looks words up, and says which are padding."""

    def __init__(self):
        super().__init__()
        self.table = L.Embedding(11, 4)

    def call(self, x):
        return self.table(x)

    def compute_mask(self, x, mask=None):
        return ops.not_equal(x, 0)


class Masked(L.Layer):
    """Takes masks as Keras hands them over with a list, a dict, or keywords."""

    def __init__(self):
        super().__init__()
        self.kernel = self.add_weight(shape=(4, 4), name="kernel")

    def both(self, words, x, mask):
        if mask is not None:
            words = words * ops.expand_dims(ops.cast(mask, "float32"), -1) + 1.0
        return ops.matmul(words, self.kernel) + x


class OfList(Masked):
    def call(self, x, mask=None):
        return self.both(*x, None if mask is None else mask[0])


class OfDict(Masked):
    def call(self, x, mask=None):
        return self.both(x["words"], x["x"], None if mask is None else mask["words"])


class OfKeywords(Masked):
    def call(self, words, x=None, words_mask=None):
        return self.both(words, x, words_mask)


@pytest.mark.on_jax
@pytest.mark.filterwarnings("ignore:.*does not support masking", "ignore:No activation")
@pytest.mark.parametrize(
    "use",
    [
        lambda words, x: OfList()([words, x]),
        lambda words, x: OfDict()({"words": words, "x": x}),
        lambda words, x: OfKeywords()(words, x=x),
        lambda words, x: L.MultiHeadAttention(2, 2)(x, words),
        lambda words, x: L.Attention()([x, words]),
        lambda words, x: L.LSTM(4)(words),
    ],
    ids=["list", "dict", "keywords", "attention heads", "attention", "recurrent"],
)
def test_masks_arrive_however_they_are_handed_over(use):
    keras.utils.set_random_seed(0)
    ids, x = keras.Input((6,), dtype="int32"), keras.Input((6, 4))
    model = keras.Model([ids, x], use(Padded()(ids), x))
    data = [np.arange(48).reshape(8, 6) % 11 * (np.arange(6) < 4), np.ones((8, 6, 4), "float32")]
    wanted = ops.convert_to_numpy(model(data))
    np.testing.assert_allclose(rebuild(model)(data), wanted, atol=1e-6)
    pruned = tfc.prune(model, 0.0)
    np.testing.assert_allclose(pruned(data), wanted, atol=1e-6)
    np.testing.assert_allclose(tfc.strip(pruned)(data), wanted, atol=1e-6)
    np.testing.assert_allclose(tfc.quantize(model, "int8", data=data)(data), wanted, atol=0.1)


def test_a_sequential_comes_back_as_one():
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((4,), name="given"),
        L.Dense(8, "relu", name="hidden"),
        L.Dropout(0.1),
        L.Dense(2, name="out"),
    ]
    model = keras.Sequential(layers, name="mine")
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    for made in (tfc.strip(tfc.prune(model, 0.0)), tfc.prune_once(model, 0.0), tfc.strip(model)):
        assert type(made) is keras.Sequential
        assert (made.name, [layer.name for layer in made.layers]) == ("mine", [layer.name for layer in model.layers])
        np.testing.assert_allclose(made(x), model(x), atol=1e-6)
    quantized = tfc.quantize(tfc.prune(model, 0.0), "int8", data=x)
    plain = tfc.strip(quantized)
    assert type(plain) is keras.Sequential
    plain.compile("sgd", "mse")
    plain.fit(x, np.zeros((8, 2)), verbose=0)
    inputs = keras.Input((4,))
    assert not isinstance(tfc.strip(tfc.prune(keras.Model(inputs, L.Dense(2)(inputs)), 0.5)), keras.Sequential)
    nested = keras.Sequential([keras.Input((4,)), ResidualDense()])
    assert type(tfc.strip(tfc.prune(nested, 0.0))).__name__ == "Functional"  # opened, it isn't one after another


class ResidualDense(L.Layer):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(4)

    def call(self, x):
        return x + self.dense(x)


def test_a_wrapped_layer_shows_what_it_holds(tmp_path):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, "relu", name="dense")])
    pruned = tfc.prune(model, 0.5)
    wrapper = pruned.get_layer("dense")
    assert wrapper.kernel is wrapper.layer.kernel
    assert (wrapper.units, wrapper.bias.shape, wrapper.activation) == (3, (3,), keras.activations.relu)
    deeper = keras.Sequential([keras.Input((4,)), pruned, L.Dense(2)])
    quantized = tfc.quantize(deeper, "int8", data=np.ones((2, 4), "float32")).get_layer("dense")
    assert (quantized.units, tuple(quantized.kernel.shape)) == (2, (3, 2))  # that of the output
    assert not hasattr(wrapper, "filters")
    assert not hasattr(wrapper, "_kernel")
    assert len(wrapper.weights) == len({id(weight) for weight in wrapper.weights}) == 4
    with pytest.raises(AttributeError, match="'CompressedLayer' object has no attribute 'filters'"):
        wrapper.filters  # noqa: B018
    pruned.save(tmp_path / "pruned.keras")
    loaded = keras.models.load_model(tmp_path / "pruned.keras")
    np.testing.assert_array_equal(loaded.get_layer("dense").kernel, wrapper.kernel)


class Branching(keras.Model):
    """Returns more in training than in inference."""

    def __init__(self, turned=False):
        super().__init__()
        self.turned = turned
        self.first, self.drop, self.second = L.Dense(3), L.Dropout(0.5, seed=1), L.Dense(2)

    def call(self, x, training=False):
        x = self.drop(self.first(x), training=training)
        if self.turned and not training:
            return x
        if not training:
            return self.second(x)
        return x, self.second(x)


@pytest.mark.parametrize("turned", [False, True])
def test_other_outputs_in_training_are_said(turned):
    model = Branching(turned)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model(x, training=True)
    with pytest.warns(UserWarning, match="Branching .*something else in training than in inference"):
        new = rebuild(model)
    np.testing.assert_allclose(new(x), model(x), atol=1e-6)
    dropped = ops.convert_to_numpy(new(x, training=True))
    assert np.abs(dropped - ops.convert_to_numpy(model(x))).max() > 0.01


@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called on layer:UserWarning")
@pytest.mark.parametrize("beside", [False, True])
def test_layers_that_training_alone_calls_may_be_unbuilt(beside):
    class Acts(keras.Model):
        def __init__(self):
            super().__init__()
            self.actor, self.critic = L.Dense(3), L.Dense(3, name="critic")

        def call(self, x, training=False):
            action = self.actor(x)
            if not training:
                return action
            return (action, self.critic(action)) if beside else self.critic(action)

    model = Acts()
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    expected = ops.convert_to_numpy(model(x, training=False))
    with pytest.warns(UserWarning, match="calls Dense 'critic', which was never built, in training and not in infer"):
        new = rebuild(model)
    assert not model.critic.built
    np.testing.assert_allclose(new(x), expected, atol=1e-6)
    np.testing.assert_allclose(new(x, training=True), expected, atol=1e-6)


def test_arrays_of_numpy_left_of_symbolic_tensors():
    class Scaled(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(3)

        def call(self, x):
            return np.ones(3, "float32") + np.full((3,), 2.0, "float32") * self.dense(np.float32(3) * x)

    model = Scaled()
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model(x)
    np.testing.assert_allclose(rebuild(model)(x), model(x), atol=1e-5)
    assert not hasattr(keras.KerasTensor, "__array_ufunc__")


class Positions(L.Layer):
    def __init__(self):
        super().__init__()
        self.table, self.dense = L.Embedding(50, 4), L.Dense(4)

    def call(self, x):
        return self.dense(x) + self.table(ops.arange(0, ops.shape(x)[-2]))


@pytest.mark.filterwarnings("ignore:.build")
def test_sizes_that_are_free_are_opened():
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, L.Dense(2)(Positions()(inputs)))
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
    new = rebuild(model)
    np.testing.assert_allclose(new(x), model(x), atol=1e-5)
    assert [type(layer).__name__ for layer in new.layers] == ["InputLayer", "Sized", "Dense", "Embedding", "Dense"]
    pruned = tfc.prune(model, 0.5)
    stripped = tfc.strip(pruned)
    np.testing.assert_allclose(stripped(x), pruned(x), atol=1e-5)
    assert all(weight.constraint is None for weight in stripped.weights)  # none is left of what opening tried

    class Folded(L.Layer):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(4)

        def call(self, x):
            return ops.reshape(self.dense(x), (ops.shape(x)[0], 2, 12))

    inputs = keras.Input((6, 4))
    model = keras.Model(inputs, Folded()(inputs))
    np.testing.assert_allclose(rebuild(model)(x), model(x), atol=1e-5)

    class Free(keras.Model):
        def __init__(self):
            super().__init__()
            self.words, self.positions = L.Embedding(11, 4), L.Embedding(50, 4)

        def call(self, x):
            return self.words(x) + self.positions(ops.arange(0, ops.shape(x)[-1]))

    model = Free()
    model.build((None, None))
    assert_same(model, np.random.default_rng(0).integers(0, 11, (2, 6)))


@pytest.mark.skipif(not ON_TENSORFLOW, reason="functions of TensorFlow")
def test_functions_of_tensorflow_on_weights_keep_a_layer_whole():
    import tensorflow as tf

    class Raw(L.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(4, 4), name="kernel")

        def call(self, x):
            return tf.matmul(x, tf.nn.l2_normalize(self.kernel))

    class RawModel(keras.Model):
        def __init__(self):
            super().__init__()
            self.raw = Raw()
            self.kernel = self.add_weight(shape=(4, 4), name="kernel")

        def call(self, x):
            return tf.matmul(self.raw(x), self.kernel)

    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), Raw()])
    assert_same(model, x)
    model = RawModel()
    model(x)
    assert_same(model, x)  # a model's own weights are part of the graph


@pytest.mark.skipif(not ON_TENSORFLOW, reason="runs raw TensorFlow operations")
def test_what_a_file_may_not_run_is_no_function_of_a_graph():
    from tfcompress.graph.tensorflow_functions import TensorFlowCall

    for name in ("io.gfile.remove", "io.write_file", "numpy_function", "keras.saving.load_model", "raw_ops.WriteFile"):
        with pytest.raises(ValueError, match="computes with tensors alone"):
            TensorFlowCall(name)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="runs raw TensorFlow operations")
def test_sizes_that_are_known_stay_known_to_functions_of_tensorflow():
    import tensorflow as tf

    class Attends(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.last = L.Dense(6), L.Dense(2)
            self.mask = np.array([1, 0, 1], dtype="float32")

        def call(self, x):
            batch, height, width, _ = tf.unstack(tf.shape(x))
            h = self.first(tf.exp(x * self.mask))
            scores = tf.reshape(tf.einsum("bhwc,bHWc->bhwHW", h, h), [batch, height, width, height * width])
            scores = tf.reshape(tf.nn.softmax(scores, -1), [batch, height, width, height, width])
            return self.last(tf.nn.leaky_relu(tf.einsum("bhwHW,bHWc->bhwc", scores, h)))

    model = Attends()
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype("float32")
    model(x)
    assert_same(model, x)


def test_a_layer_whose_training_has_no_default_is_taken():
    class NeedsTraining(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.seeds = keras.random.SeedGenerator(1)

        def call(self, x, training):
            return x + keras.random.normal(ops.shape(x), seed=self.seeds) if training else x

    class Trains(keras.Model):
        def __init__(self):
            super().__init__()
            self.noise, self.dense = NeedsTraining(), L.Dense(2)

        def call(self, x, training=False):
            return self.dense(self.noise(x, training=training))

    model, x = Trains(), np.ones((3, 4), "float32")
    before = np.array(model(x))
    new = rebuild(rebuild(model))
    np.testing.assert_allclose(new(x), before, atol=1e-6)
    assert np.abs(np.array(new(x, training=True)) - before).max() > 1e-2
    assert isinstance(new.get_layer("needs_training"), AskedTraining)
