"""Layers are copied as objects: no configuration is needed, and nothing is shared that trains."""

import collections
import dataclasses
import enum
import functools
import threading
import weakref

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tfcompress.graph.copy_objects import Copies
from tfcompress.graph.flatten import rebuild

tf = pytest.importorskip("tensorflow")
on_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="functions of TensorFlow")
FACTOR = 3.0


def floats(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def check(layer, shape=(4,), x=None):
    """Check that a model around a layer, and copies of it, compute the same and train apart; return the copy."""
    keras.utils.set_random_seed(0)
    x = floats(8, *shape) if x is None else x
    inputs = keras.Input(x.shape[1:], dtype=str(x.dtype))
    model = keras.Model(inputs, L.Dense(2)(L.Flatten()(ops.cast(layer(inputs), "float32"))))
    before = [ops.convert_to_numpy(v) for v in model.variables]
    wanted = ops.convert_to_numpy(model(x))
    new = rebuild(model)
    np.testing.assert_allclose(new(x), wanted, atol=1e-5)
    assert not {id(v) for v in model.variables} & {id(v) for v in new.variables}
    assert len(new.variables) == len(model.variables)
    pruned = tfc.prune(new, 0.5)
    pruned.compile("sgd", "mse")
    pruned.fit(x, np.zeros((8, 2), "float32"), epochs=1, verbose=0)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(variable, old)
    np.testing.assert_allclose(model(x), wanted, atol=1e-6)
    np.testing.assert_allclose(tfc.strip(pruned)(x), pruned(x), atol=1e-5)
    return new


class NoConfig(L.Layer):
    """Takes what no configuration holds, and no `**kwargs`."""

    def __init__(self, function, table):
        super().__init__()
        self.function, self.table = function, table
        self.dense = L.Dense(3)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")
        self.dense.build((*shape[:-1], 3))

    def call(self, x):
        return self.dense(self.function(ops.matmul(x, self.kernel)) + self.table)


@dataclasses.dataclass
class Options:
    layer: L.Layer
    scale: float = 2.0


class Colour(enum.Enum):
    RED = 1


class Helper:
    def __init__(self, layer):
        self.layer = layer
        self.lock = threading.Lock()

    def run(self, x):
        return x * self.layer.scale


class Lots(L.Layer):
    """Holds parts in all the ways that people hold them."""

    def __init__(self):
        super().__init__()
        self.listed = [L.Dense(4), L.Dense(4)]
        self.named = {"a": L.Dense(4), "b": [L.Dense(4, activation="tanh")]}
        self.pair = (L.Dense(4), L.Dropout(0.5, seed=1))
        self.ordered = collections.OrderedDict(a=L.Dense(4))
        self.counts = {"a": []}
        self.lock = threading.RLock()
        self.itself = weakref.ref(self)
        self.scale = keras.Variable(2.0)
        self.scaled = lambda x: x * self.scale
        self.partly = functools.partial(self.times, by=3.0)
        self.cached = functools.lru_cache(self.width)
        self.method = self.scaled_twice
        self.helper = Helper(self)
        self.options = Options(L.Dense(4))
        self.options.layer.build((None, 4))
        self.seed = keras.random.SeedGenerator(3)
        self.mean = keras.metrics.Mean()
        self.colour = Colour.RED
        self.nested = keras.Sequential([L.Dense(4), L.BatchNormalization()])
        inputs = keras.Input((4,))
        self.graph = keras.Model(inputs, L.Dense(4)(inputs) + inputs)

    def times(self, x, by):
        return x * by * self.scale

    def width(self, n):
        return float(n) + 0.0 * len(self.listed)

    def scaled_twice(self, x):
        return self.scaled(self.scaled(x))

    def build(self, shape):
        self.weights_in_list = [self.add_weight(shape=(4, 4), name=f"w{at}") for at in range(2)]
        super().build(shape)

    def call(self, x, training=False):
        if training:
            x = x + keras.random.normal((4,), seed=self.seed)
        for layer in (*self.listed, self.named["a"], *self.named["b"], *self.pair, self.ordered["a"]):
            x = layer(x)
        for weight in self.weights_in_list:
            x = ops.tanh(ops.matmul(x, weight))
        x = self.method(x) + self.partly(x) + self.helper.run(x) * self.cached(2)
        return self.graph(self.nested(self.options.layer(x))) + self.itself().scale


@pytest.mark.parametrize("function", [lambda x: x * FACTOR, functools.partial(ops.multiply, 2.0), ops.tanh])
def test_layers_without_configuration(function):
    check(NoConfig(function, np.ones(3, "float32")))


def test_a_layer_that_holds_parts_in_all_ways():
    layer = Lots()
    new = check(layer)
    copy = next(part for part in new.layers if isinstance(part, Lots))
    assert copy.itself() is copy
    assert copy.helper.layer is copy
    assert copy.method.__self__ is copy
    assert copy.partly.func.__self__ is copy
    assert copy.colour is Colour.RED
    assert copy.options.layer is not layer.options.layer
    copy.scale.assign(5.0)
    assert float(copy.scaled(ops.ones(()))) == 5.0
    assert float(layer.scaled(ops.ones(()))) == 2.0
    copy.counts["a"].append(1)
    assert not layer.counts["a"]


@on_tensorflow
def test_functions_of_tensorflow():
    class Compiled(L.Layer):
        def __init__(self):
            super().__init__()
            self.offset = tf.Variable(1.5)
            self.table = tf.constant([1.0, 2.0, 3.0, 4.0])
            self.compiled = tf.function(self.shifted)

        def shifted(self, x):
            return x + self.offset * self.table

        def call(self, x):
            return self.compiled(x)

    layer = Compiled()
    new = check(layer)
    copy = next(part for part in new.layers if isinstance(part, Compiled))
    assert copy.offset is not layer.offset
    check(L.Lambda(lambda t: tf.math.l2_normalize(t, axis=1)))
    check(L.Dense(3, activation=tf.nn.silu))


def test_objects_and_functions_in_place_of_keras_own():
    class Weighty:
        def __call__(self, weight):
            return ops.sum(weight**2)

    class Bounded(keras.constraints.Constraint):
        def __init__(self, bounds):
            self.bounds = bounds

        def __call__(self, weight):
            return ops.clip(weight, *self.bounds)

    def ones(shape, dtype=None):
        return ops.ones(shape, dtype)

    check(L.Dense(3, kernel_regularizer=Weighty(), kernel_constraint=Bounded((-1, 1)), kernel_initializer=ones))
    check(L.Lambda(lambda x: x * FACTOR))
    model = keras.Sequential(
        [
            keras.Input((4,)),
            L.Dense(8, "relu", kernel_initializer=ones, kernel_regularizer=Weighty()),
            L.Dense(2),
        ]
    )
    small = tfc.shrink(tfc.prune_once(model, 0.5, granularity="channel"))
    assert small.layers[1].kernel.shape == (4, 4)
    assert isinstance(small.layers[1].kernel_regularizer, Weighty)


def test_weights_that_two_layers_share_stay_shared():
    class Tied(L.Layer):
        def __init__(self, embedding):
            super().__init__()
            self.embedding = embedding
            self.bias = self.add_weight(shape=(11,), name="bias")

        def call(self, x):
            return ops.matmul(x, ops.transpose(self.embedding.embeddings)) + self.bias

    inputs = keras.Input((6,), dtype="int32")
    embedding = L.Embedding(11, 4)
    h = L.Dense(4)(embedding(inputs))
    for last in (Tied(embedding), L.Lambda(lambda x: ops.matmul(x, ops.transpose(embedding.embeddings)))):
        model = keras.Model(inputs, last(h))
        new = rebuild(model)
        assert len(new.weights) == len(model.weights)
        x = np.arange(12).reshape(2, 6) % 11
        new.layers[1].embeddings.assign(new.layers[1].embeddings * 2.0)
        embeddings = ops.convert_to_numpy(embedding.embeddings)
        embedding.embeddings.assign(embeddings * 2.0)
        np.testing.assert_allclose(new(x), model(x), atol=1e-6)
        embedding.embeddings.assign(embeddings)


def test_state_beyond_variables():
    bins = L.Discretization(num_bins=4)
    bins.adapt(floats(100))
    check(bins)
    norm = L.Normalization()
    norm.adapt(floats(100, 4) * 3 + 1)
    check(norm)
    cells = [L.LSTMCell(3), L.GRUCell(2)]
    check(L.RNN(cells, return_sequences=True), (5, 4))
    inner = keras.Sequential([keras.Input((4,)), L.Dense(3, activation=lambda x: x * x), L.Dropout(0.1, seed=1)])
    check(L.TimeDistributed(inner), (5, 4))
    check(L.Bidirectional(L.LSTM(3, return_sequences=True)), (5, 4))


def test_a_stateful_layer_keeps_its_state_apart():
    layer = L.LSTM(3, stateful=True)
    model = keras.Sequential([keras.Input((5, 4), batch_size=2), layer])
    model(floats(2, 5, 4))
    copy = Copies().of(layer)
    np.testing.assert_array_equal(copy.states[0], layer.states[0])
    copy.reset_state()
    assert np.any(ops.convert_to_numpy(layer.states[0]))


def test_what_cannot_be_copied_is_named():
    class Stubborn:
        def __init__(self, layer):
            self.layer = layer

        def __reduce_ex__(self, protocol):
            return _refuse, (self.layer,)

    class Holder(L.Layer):
        def __init__(self):
            super().__init__(name="holder")
            self.stubborn = Stubborn(L.Dense(2))
            self.kernel = self.add_weight(shape=(4, 4), name="kernel")

        def call(self, x):
            return ops.matmul(x, self.kernel)

    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match=r"layer 'holder' of class Holder.*class Stubborn.*not me"):
        rebuild(keras.Model(inputs, Holder()(inputs)))


def test_saving_says_what_a_file_lacks(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Dense(2)(NoConfig(lambda x: x, np.ones(3, "float32"))(inputs)))
    pruned = tfc.prune(model, 0.5)
    for save in (lambda: pruned.save(tmp_path / "m.keras"), lambda: tfc.save(pruned, tmp_path / "o.keras")):
        with pytest.raises(ValueError, match=r"class NoConfig: .*non-serializable argument.*`get_config`"):
            save()
    with pytest.raises(ValueError, match=r"class NoConfig: .*non-serializable argument.*`get_config`"):
        tfc.save(model, tmp_path / "p.keras")

    def own(x):
        return x * x

    model = keras.Sequential([keras.Input((4,)), L.Dense(2, activation=own, name="mine")])
    with pytest.warns(UserWarning, match=r"layer 'mine' of class Dense: .*own.*can't load it.*register"):
        tfc.save(model, tmp_path / "q.keras")


def _refuse(layer):
    raise TypeError("not me")


class Child(L.Layer):
    def __init__(self, parent):
        super().__init__()
        object.__setattr__(self, "parent", parent)

    def call(self, x):
        return x * self.parent.scale


class Parent(L.Layer):
    """Is known to a layer inside; holds a set, a trained model, losses and metrics."""

    def __init__(self, model):
        super().__init__()
        self.scale = self.add_weight(shape=(4,), name="scale", regularizer=lambda weight: ops.sum(weight**2))
        self.child, self.model, self.dense = Child(self), {"model": model}, {L.Dense(4, name="dense")}
        self.mean, self.loss = keras.metrics.Mean(), keras.losses.MeanSquaredError()

    def call(self, x, training=False):
        for dense in self.dense:
            x = dense(x)
        made = self.child(self.model["model"](x, training=training))
        self.add_loss(self.loss(x, made))
        return made


def test_models_that_a_layer_holds_and_layers_that_know_their_parent():
    inputs = keras.Input((4,))
    held = keras.Model(inputs, L.BatchNormalization()(L.Dense(4, activation=lambda x: x * 2.0)(inputs)) + inputs)
    held.compile("adam", "mse", metrics=["mae"])
    held.fit(floats(8, 4), floats(8, 4), verbose=0)
    for model in (held, tfc.prune(held, 0.5)):
        layer = Parent(model)
        copy = next(part for part in check(layer).layers if isinstance(part, Parent))
        assert copy.child.parent is copy
        assert copy.model["model"] is not model
        assert not copy.model["model"].compiled
