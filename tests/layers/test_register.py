"""A layer of one's own goes the whole way: pruned, quantized, counted, and shipped in both formats with integers."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tfcompress.channels.costs import multiply_adds
from tfcompress.graph import kernel_positions, rebuild
from tfcompress.layers.catalogue import CATALOGUE, traits_of
from tfcompress.layers.kernel_layouts import channel_axes, layout_of
from tfcompress.layers.names import NAMES, name_of
from tfcompress.layers.traits import UNKNOWN


@tfc.register_layer(like="Dense")
@keras.saving.register_keras_serializable(package="tests.register")
class Linear(L.Layer):
    """A Dense of one's own, whose kernel has another name inside."""

    def __init__(self, units, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.activation = units, keras.activations.get(activation)

    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(input_shape[-1], self.units), name="matrix")
        self.bias = self.add_weight(shape=(self.units,), name="offset", initializer="ones")

    @property
    def kernel(self):
        return self.matrix

    def call(self, x):
        return self.activation(ops.matmul(x, self.matrix) + self.bias)

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "units": self.units, "activation": activation}


@tfc.register_layer(like=L.Conv2D)
@keras.saving.register_keras_serializable(package="tests.register")
class Conv(L.Conv2D):
    """A Conv2D with a `call` of its own."""

    def call(self, x):
        y = ops.conv(x, self.kernel, strides=self.strides, padding=self.padding, data_format="channels_last")
        return self.activation(y + self.bias)


@tfc.register_layer(traits=tfc.LayerTraits(channels="unary", quantization="transparent", homogeneous=True))
@keras.saving.register_keras_serializable(package="tests.register")
class Noise(L.Layer):
    """Something in training, and nothing in inference."""

    def call(self, x, training=None):
        return x * 1.5 if training else x


LOW_RANK = tfc.LayerTraits(
    kernels={"down": tfc.KernelAxes(inputs=(1,), outputs=(0,)), "up": tfc.KernelAxes()},
    multiplications=lambda layer, inputs, outputs: 1,
    float32="norm",
)


@tfc.register_layer(traits=LOW_RANK)
class LowRank(L.Layer):
    """A product of two kernels, the first of which has its outputs in front; and a weight that isn't a kernel."""

    def build(self, input_shape):
        self.down = self.add_weight(shape=(2, input_shape[-1]), name="scale")
        self.up = self.add_weight(shape=(2, input_shape[-1]), name="up")
        self.table = self.add_weight(shape=(3, 3), name="table")

    def call(self, x):
        return ops.matmul(ops.matmul(x, ops.transpose(self.down)), self.up) + ops.sum(self.table)


@tfc.register_layer(
    traits=tfc.LayerTraits(kernels={"table": tfc.KernelAxes(inputs=(1,), outputs=(0,))}, quantization="kernel")
)
class Turned(L.Layer):
    """A product with a kernel whose outputs are in front, which no layer of Keras has."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=(6, input_shape[-1]), name="table")

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.table))


def like_keras(own):
    """Return a network of one's own layers, or of Keras' in their places."""
    conv, noise, dense = (Conv, Noise, Linear) if own else (L.Conv2D, L.Identity, L.Dense)
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            conv(8, 3, strides=2, name="conv"),
            L.BatchNormalization(name="norm"),
            L.ReLU(name="relu"),
            noise(name="noise"),
            L.GlobalAveragePooling2D(name="pool"),
            dense(5, activation="relu", name="dense"),
            dense(4, name="logits"),
        ]
    )


def both():
    """Return the network of one's own layers and that of Keras', with the same weights."""
    own, plain = like_keras(True), like_keras(False)
    plain.set_weights(own.get_weights())
    return own, plain


SAMPLES = np.random.default_rng(0).normal(size=(48, 8, 8, 3)).astype("float32")


def said_of(model):
    """Return what the summary says of each kernel, without its name."""
    rows = tfc.summary(model).rows
    return [(row.layer, row.shape, row.zeros, row.distinct, row.output, row.status) for row in rows]


def test_a_registered_layer_goes_the_whole_way_as_keras_own(tmp_path):
    own, plain = (tfc.quantize(tfc.prune_once(model, 0.5), "int8", SAMPLES) for model in both())
    assert said_of(own) == said_of(plain)
    np.testing.assert_array_equal(own(SAMPLES), plain(SAMPLES))
    for suffix in (".tflite", ".onnx"):
        found = tfc.export(own, tmp_path / f"model{suffix}").operators
        assert found.integer >= 4 and not found.floats


def test_a_layer_that_is_like_none_of_keras_has_integers_too(tmp_path):
    model = keras.Sequential([keras.Input((8,)), L.Dense(8, "relu"), Turned(name="turned"), L.ReLU(), L.Dense(3)])
    quantized = tfc.quantize(model, "int8", SAMPLES.reshape(-1, 8))
    assert {row.layer: row.status for row in tfc.summary(quantized).rows}["turned"] == "int8 per channel"
    for suffix in (".tflite", ".onnx"):
        assert not tfc.export(quantized, tmp_path / f"model{suffix}").operators.floats


def test_channels_of_registered_layers_are_removed_and_counted_as_keras_own():
    own, plain = both()
    pruned = [tfc.prune_once(model, 0.5, granularity="channel") for model in (own, plain)]
    small = [tfc.shrink(model) for model in pruned]
    assert [w.shape for w in small[0].weights] == [w.shape for w in small[1].weights]
    assert sum(w.shape[-1] for w in small[0].weights) < sum(w.shape[-1] for w in own.weights)
    assert isinstance(small[0].get_layer("dense"), Linear)
    np.testing.assert_allclose(small[0](SAMPLES), pruned[0](SAMPLES), atol=1e-5)
    assert multiply_adds(rebuild(own)) == multiply_adds(rebuild(plain))


def test_traits_say_which_weights_are_kernels_and_how_they_lie():
    inputs = keras.Input((8,))
    layer = LowRank(name="low_rank")
    model = keras.Model(inputs, L.Dense(2)(layer(inputs)))
    assert kernel_positions(layer) == [0, 1]
    assert (layout_of(layer, 0).inputs, layout_of(layer, 0).outputs) == ((1,), (0,))
    assert (channel_axes(layer, 0), channel_axes(layer, 1)) == ((0,), (1,))
    assert multiply_adds(rebuild(model))["low_rank"] == 2 * 8 + 2 * 8
    assert tfc.mixed_precision(model).get_layer("low_rank").compute_dtype == "float32"


def test_what_derives_from_a_registered_class_is_like_it_unless_it_computes_otherwise():
    class Same(Linear):
        def get_config(self):
            return super().get_config()

    class Other(Linear):
        def call(self, x):
            return x

    assert (name_of(Same(2)), name_of(Other(2)), traits_of(Other(2))) == ("dense", "", UNKNOWN)


def test_registering_again():
    assert tfc.register_layer(Linear, like=L.Dense) is Linear
    assert tfc.register_layer(LowRank, traits=LOW_RANK) is LowRank
    with pytest.raises(ValueError, match="isn't registered as something else. Received: Linear, which is 'dense'"):
        tfc.register_layer(Linear, like="Conv1D")
    with pytest.raises(ValueError, match="isn't registered as something else"):
        tfc.register_layer(LowRank, traits=tfc.LayerTraits())


class Own(L.Layer):
    """Registered as nothing."""


class OwnModel(keras.Model):
    """No layer."""


@pytest.mark.parametrize(
    ("cls", "given", "said"),
    [
        (Own, {}, "either `like`, such as like='Dense', or `traits`"),
        (Own, {"like": "Dense", "traits": UNKNOWN}, "either `like`"),
        (Own, {"like": "Dens"}, "Received: 'Dens'. Did you mean Dense"),
        (Own, {"like": "matmul"}, "a layer of Keras that tfcompress knows"),
        (Own, {"like": Own}, "or a registered one"),
        (Own, {"like": 3}, "Received: 3"),
        (L.Dense, {"like": "Dense"}, "a class of your own. Received: keras.layers.Dense"),
        (OwnModel, {"like": "Dense"}, "a model: register the classes of its layers"),
        (Own(), {"like": "Dense"}, "an instance: give its class"),
        (len, {"like": "Dense"}, "derived from keras.layers.Layer"),
        (Own, {"traits": {}}, r"tfcompress.LayerTraits\(...\)"),
        (Own, {"traits": tfc.LayerTraits(channels="both")}, "Expected channels to be one of 'unknown', 'unary'"),
        (Own, {"traits": tfc.LayerTraits(channels="dense")}, "Take `like` in place of `traits`"),
        (Own, {"traits": tfc.LayerTraits(kernels={"w": (0, 1)})}, r"KernelAxes\(...\) for kernel 'w'"),
        (Own, {"traits": tfc.LayerTraits(kernels={"w": tfc.KernelAxes((0,), (0,))})}, "other axes for the inputs"),
        (Own, {"traits": tfc.LayerTraits(quantization="kernel")}, "quantization='kernel' without kernels"),
        (Own, {"traits": dataclasses.replace(LOW_RANK, quantization="kernel")}, "with several kernels"),
        (Own, {"traits": dataclasses.replace(LOW_RANK, channels="unary")}, "channels='unary' with kernels"),
        (Own, {"traits": dataclasses.replace(LOW_RANK, quantization="integer")}, "'integer' with kernels"),
        (Own, {"traits": tfc.LayerTraits(homogeneous=True)}, "without channels that stay apart"),
        (Own, {"traits": tfc.LayerTraits(output_range=(0, 1))}, "output_range without quantization='integer'"),
        (Own, {"traits": tfc.LayerTraits(sizes={"units": ("w", 0)})}, "sizes of what isn't in kernels"),
    ],
    ids=lambda x: "" if not isinstance(x, str) else x[:30],
)
def test_what_is_refused(cls, given, said):
    before = dict(NAMES), dict(CATALOGUE)
    with pytest.raises((TypeError, ValueError), match=said):
        tfc.register_layer(cls, **given)
    assert before == (NAMES, CATALOGUE)


def test_a_layer_that_is_not_what_it_was_registered_as_is_refused_by_name():
    @tfc.register_layer(like="Dense")
    class Lacks(L.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], 2), name="kernel")

        def call(self, x):
            return ops.matmul(x, self.kernel)

    class Miscounts(Linear):
        def build(self, input_shape):
            super().build(input_shape)
            self.units += 1

    @tfc.register_layer(like=Linear)
    class Squares(Linear):
        def call(self, x):
            return super().call(x) ** 2

    @tfc.register_layer(traits=tfc.LayerTraits(channels="unary"))
    class Weighs(L.Layer):
        def build(self, input_shape):
            self.factor = self.add_weight(shape=(input_shape[-1],), name="factor")

        def call(self, x):
            return x * self.factor

    for layer, said in (
        (
            Lacks(name="own"),
            "like 'dense' to have its attributes. Received: layer 'own' of class Lacks, without 'un",
        ),
        (Miscounts(2, name="own"), "'units' to be as many as 'kernel' has channels along axis 1"),
        (
            Squares(2, name="own"),
            "Squares to compute in inference what it is registered as, 'dense': .* off by",
        ),
        (Weighs(name="own"), "channels='unary' to have no weights but single numbers"),
    ):
        model = keras.Sequential([keras.Input((3,)), layer, L.Dense(2)])
        with pytest.raises(ValueError, match=said):
            tfc.prune(model, 0.5)
