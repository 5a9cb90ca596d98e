"""Which quantizer a tensor's values come from."""

from __future__ import annotations

import keras

import tfcompress as tfc
from tests.quantization.graph.test_activation_quantizer import values
from tfcompress.graph.index import index_of
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.graph.quantized_layer import QuantizedLayer
from tfcompress.quantization.graph.quantizer_sources import name_of_call, quantizer_of


def test_what_is_only_moved_has_the_quantizer_of_what_is_before():
    x = keras.Input((4, 6), name="x")
    y = keras.layers.Reshape((6, 4))(keras.layers.Permute((2, 1))(x))
    model = keras.Model(x, [keras.layers.Dense(3, name="dense")(y), keras.ops.erf(y)])
    quantized = tfc.quantize(model, "int8", values((8, 4, 6)))
    graph = index_of(quantized)
    dense = next(call for call in graph if isinstance(call.operation, QuantizedLayer))
    assert quantizer_of(dense.inputs[0], graph.producer).source == "x"
    assert quantizer_of(quantized.outputs[0], graph.producer).source == "dense"
    assert quantizer_of(quantized.outputs[1], graph.producer) is None  # it computes
    assert quantizer_of(quantized.inputs[0], graph.producer) is None


def test_a_second_tensor_on_a_grid_is_named_after_its_layer():
    x = keras.Input((6, 6, 3), name="x")
    y = keras.layers.UpSampling2D(interpolation="bilinear", name="up")(keras.layers.Conv2D(4, 3, name="conv")(x))
    quantized = tfc.quantize(keras.Model(x, keras.layers.Conv2D(2, 1)(y)), "int8", values((8, 6, 6, 3)))
    graph = index_of(quantized)
    names = [name_of_call(call, graph) for call in graph if isinstance(call.operation, ActivationQuantizer)]
    assert len(set(names)) == len(names) and "up_quantizer" in names
