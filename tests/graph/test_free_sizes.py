"""Subclassed models and layers whose `call` computes with sizes that are free, or must be told `training`."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tfcompress.graph import rebuild
from tfcompress.graph.free_sizes import Sized

pytestmark = pytest.mark.filterwarnings("ignore:.build")


class Holder(keras.Model):
    """What a model of tokens holds; what it computes is given."""

    def __init__(self, compute):
        super().__init__()
        self.compute = compute
        self.inner, self.head = L.Dense(4), L.Dense(3)
        self.token = self.add_weight(shape=(1, 1, 4), initializer="random_normal", name="token")
        self.state = self.add_weight(shape=(1, 4), initializer="random_normal", name="state")

    def call(self, x):
        return self.compute(self, x)


def windows(self, x):
    batch, length, width = ops.shape(x)
    x = ops.reshape(x, (batch * 2, length // 2, width))
    x = self.inner(x) + ops.mean(x, 1, keepdims=True)
    return self.head(ops.reshape(x, (batch, length, -1)))


def recurrent(self, x):
    state = ops.zeros([ops.shape(x)[0], 4])
    for step in range(3):
        state = ops.tanh(self.inner(state) + x[:, step])
    return self.head(state)


def heads(self, x):
    batch, length, width = ops.shape(x)
    y = ops.transpose(ops.reshape(self.inner(x), (batch, length, 2, width // 2)), (0, 2, 1, 3))
    return self.head(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), [batch, length, width]))


def beside(make):
    return lambda self, x: self.head(ops.concatenate([make(self, ops.shape(x)[0]), self.inner(x)], axis=1))


CALLS = {
    "tile": beside(lambda self, n: ops.tile(self.token, (n, 1, 1))),
    "broadcast_to": beside(lambda self, n: ops.broadcast_to(self.token, (n, 1, 4))),
    "repeat": beside(lambda self, n: ops.repeat(self.token, repeats=n, axis=0)),
    "rows": beside(lambda self, n: ops.repeat(self.state, n, axis=0)[:, None]),
    "zeros": beside(lambda self, n: ops.zeros((n, 1, 4))),
    "full": beside(lambda self, n: ops.full(shape=(n, 2, 4), fill_value=0.5)),
    "reshape": lambda self, x: self.head(ops.reshape(self.inner(x), (ops.shape(x)[0], -1, 2, 4))),
    "arange": lambda self, x: self.head(x) * ops.reshape(ops.cast(ops.arange(ops.shape(x)[0]), "float32"), (-1, 1, 1)),
    "windows": windows,
    "recurrent": recurrent,
    "heads": heads,
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_made_of_free_sizes_is_made_when_the_model_runs(name, tmp_path):
    model = Holder(CALLS[name])
    x = np.random.default_rng(0).normal(size=(5, 6, 4)).astype("float32")
    expected = model(x)
    rebuilt = rebuild(model)
    np.testing.assert_allclose(rebuilt(x), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(rebuilt(x[:2]), model(x[:2]), rtol=1e-5, atol=1e-5)
    again = rebuild(rebuilt)
    again.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded(x), expected, rtol=1e-5, atol=1e-5)
    assert any(isinstance(layer, Sized) for layer in again.layers) == (name not in ("reshape", "heads"))


def test_a_token_for_each_sample_is_learned():
    model = Holder(CALLS["tile"])
    x = np.random.default_rng(0).normal(size=(5, 6, 4)).astype("float32")
    model(x)
    pruned = tfc.prune(model, 0.5)
    before = np.array(pruned.get_layer("token").weights[0])
    pruned.compile("sgd", "mse")
    pruned.fit(x, np.zeros((5, 7, 3)), batch_size=3, verbose=0)
    assert not np.array_equal(pruned.get_layer("token").weights[0], before)


@pytest.mark.parametrize(
    "call",
    [
        lambda self, x: self.head(x) / ops.shape(x)[0],
        lambda self, x: self.head(x) if ops.shape(x)[0] > 1 else self.inner(x),
        lambda self, x: self.head(x) if ops.shape(x)[0] == 1 else self.inner(x),
        lambda self, x: ops.stack([self.head(x[i]) for i in range(ops.shape(x)[0])]),
    ],
)
def test_a_call_that_needs_the_number_itself_is_refused(call):
    model = Holder(call)
    model(np.ones((2, 6, 4), "float32"))
    with pytest.raises(ValueError, match=r"Holder.*it needs the number behind shape\(x\)\[0\], a size that is free"):
        rebuild(model)


class Grid(L.Layer):
    """Returns the sizes of its image beside it, as plain numbers and as sizes that are free."""

    def __init__(self):
        super().__init__()
        self.conv = L.Conv2D(4, 2, strides=2)

    def call(self, x):
        y = self.conv(x)
        return ops.reshape(y, (ops.shape(y)[0], -1, 4)), ops.shape(y)[1], ops.shape(y)[2]


class Mixes(L.Layer):
    """Can't be called without `training`."""

    def __init__(self):
        super().__init__()
        self.dense, self.drop = L.Dense(4), L.Dropout(0.5)

    def call(self, x, training, height=None, width=None):
        x = self.drop(self.dense(x), training=training)
        return ops.mean(ops.reshape(x, (ops.shape(x)[0], height, width, 4)), 1)


class Pupil(keras.Model):
    """Gives two things in training; a weight and a layer are set anew, so that the first ones are of no use."""

    def __init__(self):
        super().__init__()
        self.grid, self.mixes = Grid(), Mixes()
        for _ in range(2):
            self.shift = self.add_weight(shape=(1, 1, 4), initializer="random_normal", name="shift")
            self.head = L.Dense(3)
        self.other = L.Dense(3)

    def call(self, x, training=False):
        x, height, width = self.grid(x)
        x = self.mixes(x + self.shift, training=training, height=height, width=width)
        first, second = self.head(x), self.other(x)
        if training:
            return first, second
        return (first + second) / 2


@pytest.mark.filterwarnings("ignore:.*returns something else in training")
@pytest.mark.parametrize(
    "verb", [rebuild, lambda model: tfc.prune(model, 0.5), lambda model: tfc.quantize(model, "int8")]
)
def test_sizes_beside_tensors_and_training_that_must_be_given(verb):
    model = Pupil()
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype("float32")
    model(x)
    for layer in (model.grid.conv, model.mixes.dense):
        layer.bias.assign([0.5, 1.0, -1.0, 2.0])
    with pytest.warns(UserWarning, match="Weights of Pupil 'pupil.*' that no attribute holds.*left out: '.*shift'"):
        made = verb(model)
    assert made.count_params() >= sum(int(np.prod(w.shape)) for w in model.trainable_weights) - 4
    if verb is rebuild:
        np.testing.assert_allclose(made(x), model(x), rtol=1e-5, atol=1e-5)
        names = {layer.name.rstrip("_0123456789") for layer in made.layers}
        assert {"grid_conv2d", "mixes_dense", "dense", "shift"} <= names  # opened


@pytest.mark.parametrize(
    "name", ["saving.load_model", "utils.get_file", "src.utils.file_utils.os.remove", "ops.missing"]
)
def test_what_a_file_may_not_run_is_no_function_of_sizes(name):
    config = {**Sized("ops.zeros", [[[3]], {}]).get_config(), "function": name}
    with pytest.raises(TypeError, match=r"function of keras\.ops or keras\.random\. Received"):  # Keras' class of it
        Sized.from_config(config)
