"""The graph that is exported computes what the quantized model does, in the form that the exporters need."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import in_turn
from tests.quantization.zoo import ZOO, build, data_of, outputs_of
from tests.quantization.zoo import quantized as of_the_zoo
from tfcompress.core.transform import read
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.export.plan.deployment import deploy
from tfcompress.export.plan.integer_layers import AffineMap, MatrixProduct
from tfcompress.export.plan.scheme import Scheme
from tfcompress.graph.rewrite import calls
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.grids_at_hand import in_floats
from tfcompress.quantization.numerics.constant_range import FixedQuantizer


# The other format than the one for which `tests/export/test_quantized.py` compares the file.
@pytest.mark.parametrize(("name", "kind"), in_turn(ZOO, ["onnx", "tflite"]))
def test_it_computes_the_same(name, kind):
    quantized = of_the_zoo(name)
    x = data_of(quantized)
    made = deploy(quantized, kind)
    assert made.scheme == Scheme("static", 8)
    assert made.model.output_names == quantized.output_names
    assert not wrapped_layers(made.model)
    with in_floats():  # as the graph computes that files are made from: runtimes round otherwise between the quantizers
        expected = outputs_of(quantized, x)
    for label, values in outputs_of(made.model, x).items():
        scale = made.scales.get(label) or next(iter(made.scales.values()))
        assert scale is not None
        steps = np.abs(values - expected[label]) / scale
        # The quantized model rounds biases as the runtimes do, the graph that they are made from doesn't yet.
        assert np.mean(steps < 0.5) > 0.9, label
        assert steps.max() < 3, label


def test_nothing_of_keras_training_is_left():
    for name in ("residual", "mobile", "nested"):
        quantized = of_the_zoo(name)
        kinds = [name_of(call.operation) for call in calls(deploy(quantized, "onnx").model)]
        assert not {"batchnormalization", "relu", "relu6", "rescaling", "normalization", "hardsigmoid"} & set(kinds)


def test_kernels_lie_on_the_grid_with_batch_normalization_folded():
    quantized = of_the_zoo("residual")
    made = deploy(quantized, "tflite").model
    checked = 0
    for call in calls(made):
        if name_of(call.operation) not in ("conv2d", "dense"):
            continue
        kernel = read(call.operation.kernel)
        scale = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))) / 127
        np.testing.assert_allclose(kernel / scale, np.round(kernel / scale), atol=2e-3)
        checked += 1
    assert checked == 4


def test_inputs_of_a_concatenation_share_its_range():
    quantized = of_the_zoo("residual")
    made = deploy(quantized, "tflite").model
    ranges = {(layer.minimum, layer.maximum) for layer in made.layers if layer.name.startswith("joined_quantizer")}
    assert len(ranges) == 1
    assert sum(layer.name.startswith("joined_quantizer") for layer in made.layers) == 2


def test_bits_without_kernels_are_refused():
    x = data_of(build("residual"))
    for weights, activations, message in ((4, 6, "activations of 8 or 16 bits"), (12, 8, "weights of at most 8 bits")):
        config = tfc.QuantizeConfig(tfc.WeightSpec(bits=weights), tfc.ActivationSpec(bits=activations))
        with pytest.warns(UserWarning, match="No runtime has kernels for .* can be trained and evaluated"):
            quantized = tfc.quantize(build("residual"), config, x)
        with pytest.raises(ValueError, match=message):
            deploy(quantized, "onnx")


@pytest.mark.parametrize("bits", [2, 4, 16])
@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_ranges_of_run_time_have_kernels_of_8_bits_alone(bits, kind):
    config = tfc.QuantizeConfig(activations=tfc.ActivationSpec(bits=bits, dynamic=True))
    with pytest.warns(UserWarning, match=f"activations of {bits} bits whose ranges are found at run time"):
        quantized = tfc.quantize(keras.Sequential([keras.Input((4,)), L.Dense(3)]), config)
    with pytest.raises(ValueError, match=f"activations of 8 bits whose ranges are found at run time.* {bits} bits"):
        deploy(quantized, kind)


def test_16_bits_with_a_zero_point_are_for_onnx_alone(tmp_path):
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    config = tfc.QuantizeConfig(activations=tfc.ActivationSpec(bits=16))
    quantized = tfc.quantize(keras.Sequential([keras.Input((4,)), L.Dense(3)]), config, x)
    with pytest.raises(ValueError, match=r"ActivationSpec\(bits=16, symmetric=True\), or export to \.onnx"):
        deploy(quantized, "tflite")
    assert tfc.export(quantized, tmp_path / "m.onnx").precision == "int16x8"


def test_dynamic_and_weight_only_have_no_quantizers():
    for recipe, activations in (("dynamic_int8", "dynamic"), ("int8_weights", None)):
        made = deploy(tfc.quantize(build("residual"), recipe), "onnx")
        assert made.scheme == Scheme(activations, 8)
        assert not any(isinstance(layer, FixedQuantizer) for layer in made.model.layers)
        assert set(made.scales.values()) == {None}


def test_a_range_that_is_not_calibrated_is_named():
    with pytest.raises(ValueError, match="Expected calibrated ranges. Received: 'functional.*', in which .* are not"):
        deploy(tfc.quantize(build("residual")), "tflite")


@pytest.mark.parametrize(
    ("equation", "output_shape", "bias_axes", "shape"),
    [
        ("abc,cd->abd", (5, 7), "d", (5, 6)),
        ("abc,cde->abde", (5, 2, 4), "de", (5, 6)),
        ("abcd,cde->abe", (5, 7), "e", (5, 2, 4)),
        ("abc,dc->adb", (7, 5), None, (5, 6)),
        ("...x,xy->...y", 7, "y", (5, 6)),
        ("ab,bcd->adc", (3, 2), "d", (6,)),
    ],
)
def test_einsum_dense_as_a_matrix_product(equation, output_shape, bias_axes, shape):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    layer = L.EinsumDense(equation, output_shape=output_shape, bias_axes=bias_axes, bias_initializer="normal")
    model = keras.Model(inputs, layer(inputs))
    call = calls(model)[0]
    product = MatrixProduct.of(layer, call)
    assert isinstance(product, MatrixProduct)
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    np.testing.assert_allclose(product(x), np.asarray(model(x)), atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 4), (2, 3, 5, 4)])
def test_affine_maps_of_any_rank(shape):
    generator = np.random.default_rng(0)
    scale, offset = generator.normal(size=4).astype("float32"), generator.normal(size=4).astype("float32")
    x = generator.normal(size=shape).astype("float32")
    np.testing.assert_allclose(AffineMap(scale, offset)(x), x * scale + offset, atol=1e-6)


@pytest.mark.parametrize("recipe", ["int8_weights", "dynamic_int8", "float16"])
def test_chains_of_affine_maps_are_kept_where_activations_are_float(recipe):
    inputs = keras.Input((4,))
    x = L.Normalization(mean=2.0, variance=9.0)(L.Rescaling(3.0, offset=1.0)(inputs))
    model = keras.Model(inputs, L.Dense(2)(x))
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    quantized = tfc.quantize(model, recipe)
    made = deploy(quantized, "onnx").model
    expected = quantized.predict(x, verbose=0)
    np.testing.assert_allclose(made.predict(x, verbose=0), expected, atol=0.03 * np.abs(expected).max())
