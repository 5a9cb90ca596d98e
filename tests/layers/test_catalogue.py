"""What the catalogue says is understood by the rooms that read it."""

import keras
import pytest
from keras import layers as L
from keras import ops

from tfcompress.channels import costs, rule_table
from tfcompress.layers.catalogue import CATALOGUE, traits_of
from tfcompress.layers.names import name_of, name_of_function
from tfcompress.layers.traits import VALUES, KernelAxes
from tfcompress.precision import float32_rule
from tfcompress.quantization.graph import decompose


def test_every_value_of_a_trait_is_known_where_it_is_read():
    assert set(rule_table.RULES) == set(VALUES["channels"])
    assert set(costs._POSITIONS) == set(VALUES["multiplications"])
    assert {"", "separable", *decompose._SPLITS} == set(VALUES["decomposition"])
    assert {"", "range", *float32_rule._LAYERS} == set(VALUES["float32"])
    for name, traits in CATALOGUE.items():
        for trait, values in VALUES.items():
            assert name.startswith("registered:") or getattr(traits, trait) in values, (name, trait)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (L.Dense(3), (2, 4)),
        (L.EinsumDense("abc,cd->abd", (None, 3)), (2, 5, 4)),
        *((cls(3, 2), (2, 5, 4)) for cls in (L.Conv1D, L.SeparableConv1D, L.Conv1DTranspose)),
        *((cls(3, 2), (2, 5, 5, 4)) for cls in (L.Conv2D, L.SeparableConv2D, L.Conv2DTranspose)),
        *((cls(3, 2), (2, 5, 5, 5, 4)) for cls in (L.Conv3D, L.Conv3DTranspose)),
        (L.DepthwiseConv1D(2), (2, 5, 4)),
        (L.DepthwiseConv2D(2), (2, 5, 5, 4)),
        (L.Embedding(5, 3), (2, 4)),
        (L.ReversibleEmbedding(5, 3), (2, 4)),
        (L.BatchNormalization(), (2, 4)),
        (L.Normalization(mean=0.0, variance=1.0), (2, 4)),
        (L.Rescaling(2.0), (2, 4)),
        (L.PReLU(), (2, 4)),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, L.Layer) else "",
)
def test_a_layer_of_keras_has_the_attributes_that_one_like_it_must_have(layer, shape):
    layer.build(shape)
    traits = traits_of(layer)
    assert [name for name in (*traits.kernels, *traits.sizes, *traits.attributes) if not hasattr(layer, name)] == []
    for size, (kernel, axis) in traits.sizes.items():
        assert getattr(layer, size) == getattr(layer, kernel).shape[axis]
    assert traits.kernels or traits.attributes


def test_names():
    def swish(x):
        return x * 2

    inputs = keras.Input((3, 4))
    average = ops.average(inputs, axis=1)._keras_history.operation
    assert (name_of(L.Average()), name_of(average)) == ("average", "weightedaverage")
    assert (name_of_function(keras.activations.swish), name_of_function(swish)) == ("silu", "")
    assert name_of(L.Activation(swish)) == ""


def test_axes_are_counted_from_the_first():
    assert KernelAxes(scales=(-2, -1)).of_rank(4) == KernelAxes((2,), (3,), (2, 3))


def test_a_layer_that_is_built_in_its_own_way_computes_the_same_and_keeps_its_channels():
    class Built(L.Dense):
        def build(self, input_shape):
            super().build(input_shape)

    assert (name_of(Built(2)), rule_table.rule_of(Built(2))) == ("dense", rule_table.RULES["unknown"])
    assert rule_table.rule_of(L.Dense(2)) is rule_table.RULES["dense"]
