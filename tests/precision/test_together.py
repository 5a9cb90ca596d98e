"""Mixed precision with pruning, quantization, distillation, shrinking and export."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW, train, zeros_of
from tests.precision import networks
from tests.precision.networks import DTYPE, HALF, assert_same, floats, innermost, inputs_of, precisions, predictions
from tfcompress.core.transform import read
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.graph.strip import strip
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers

pytestmark = pytest.mark.filterwarnings("ignore:mixed_float16 is slow on a CPU:UserWarning")
only_tensorflow = pytest.mark.skipif(not ON_TENSORFLOW, reason="exporting needs TensorFlow")


def test_pruned_then_cast_or_cast_then_pruned():
    model, x = networks.cnn(), floats(8, 8, 8, 3)
    y, schedule = np.abs(floats(8, 5)), tfc.ConstantSparsity(0.5, begin_step=1, frequency=1)
    first = tfc.prune(tfc.mixed_precision(model, HALF), schedule)
    second = tfc.mixed_precision(tfc.prune(model, schedule), HALF)
    assert precisions(first) == precisions(second)
    for pruned in (first, second):
        train(pruned, x, y)
        assert tfc.sparsity(pruned) == pytest.approx(0.5, abs=0.01)
        for layer in wrapped_layers(pruned):
            assert {v.dtype for v in layer.weights} <= {"float32", "bool", "int32"}
    # Seeded alike and in the same precision, they are one model.
    assert_same(first, second, x, tolerance=2e-2)


@pytest.mark.on_jax
def test_masks_and_steps_go_along():
    model, x = networks.mlp(), floats(16, 8)
    pruned = tfc.prune(model, tfc.PolynomialSparsity(0.0, 0.75, 0, 8, frequency=1))
    train(pruned, x, x[:, :3])
    mixed = tfc.mixed_precision(pruned, HALF)
    assert zeros_of(mixed) == zeros_of(pruned)
    assert [int(read(w.step)) for w in wrapped_layers(mixed)] == [int(read(w.step)) for w in wrapped_layers(pruned)]
    train(mixed, x, x[:, :3])
    full = tfc.full_precision(mixed)
    assert zeros_of(full) == zeros_of(mixed)
    for a, b in zip(mixed.variables, full.variables, strict=True):
        np.testing.assert_array_equal(read(a), read(b))
    assert tfc.sparsity(tfc.strip(full)) == tfc.sparsity(mixed)


def test_quantization_aware_training():
    model, x = networks.cnn(), floats(32, 8, 8, 3)
    y = np.abs(floats(32, 5))
    mixed = tfc.mixed_precision(model, HALF)
    quantized = tfc.quantize(mixed, "int8", x)
    train(quantized, x, y)
    assert all(q.calibrated for q in activation_quantizers(quantized))
    for quantizer in activation_quantizers(quantized):
        assert {v.dtype for v in quantizer.variables} <= {"float32", "int32"}
    kernels = [innermost(layer).compute_dtype for layer in wrapped_layers(quantized)]
    assert kernels == [DTYPE, DTYPE, "float32", "float32"]
    full = tfc.full_precision(quantized)
    assert [q.range for q in activation_quantizers(full)] == [q.range for q in activation_quantizers(quantized)]
    assert_same(full, quantized, x, tolerance=3e-2)


def test_uncalibrated_quantizers_are_cast_and_then_calibrated():
    model, x = networks.mlp(), floats(32, 8)
    quantized = tfc.mixed_precision(tfc.quantize(model, "int8"), HALF)
    tfc.calibrate(quantized, x)
    assert_same(tfc.quantize(model, "int8", x), quantized, x, tolerance=3e-2)
    assert_same(model, strip(quantized), x, tolerance=3e-2)


@pytest.mark.parametrize("recipe", ["int8_weights", "dynamic_int8", "float16"])
def test_quantized_weights_are_cast(recipe):
    model, x = networks.mlp(), floats(16, 8)
    quantized = tfc.quantize(model, recipe)
    mixed = tfc.mixed_precision(quantized, HALF)
    assert_same(quantized, mixed, x, tolerance=3e-2)
    assert_same(quantized, tfc.full_precision(mixed), x)


@pytest.mark.parametrize("half", ["student", "both"])
def test_distillation(half):
    teacher, x = networks.mlp(12), floats(16, 8)
    student = tfc.mixed_precision(networks.mlp(6), HALF)
    distilled = tfc.distill(student, teacher if half == "student" else tfc.mixed_precision(teacher, HALF), alpha=1.0)
    distilled.compile(keras.optimizers.Adam(0.02))
    assert isinstance(distilled.optimizer, keras.optimizers.LossScaleOptimizer) is (HALF == "mixed_float16")
    losses = distilled.fit(x, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2


def test_whole_numbers_reach_a_student_as_they_are():
    """4097 is 4096 in float16: the student, not the distiller, says what is cast."""
    inputs = keras.Input((1,))
    x = L.Rescaling(1.0, offset=-4096.0)(inputs)
    model = keras.Model(inputs, L.Dense(2, kernel_initializer="ones")(L.Dense(2, kernel_initializer="ones")(x)))
    distilled = tfc.distill(tfc.mixed_precision(model, HALF), model)
    np.testing.assert_array_equal(distilled.predict(np.array([[4097.0]]), verbose=0), [[2.0, 2.0]])


def test_shrinking():
    model, x = networks.mlp(8), floats(16, 8)
    config = tfc.PruneConfig(tfc.ConstantSparsity(0.5, begin_step=0, frequency=1), granularity="channel")
    pruned = tfc.prune(tfc.mixed_precision(model, HALF), config)
    train(pruned, x, x[:, :3])
    small = tfc.shrink(pruned)
    assert small.get_layer("hidden").units == 4
    assert precisions(small) == {"hidden": DTYPE, "logits": "float32"}
    assert_same(pruned, small, x, tolerance=2e-2)


def casts(path):
    if path.suffix == ".onnx":
        import onnx

        return sum(node.op_type == "Cast" for node in onnx.load(path).graph.node)
    from ai_edge_litert.interpreter import Interpreter

    return sum(op["op_name"] == "CAST" for op in Interpreter(model_path=str(path))._get_ops_details())


@only_tensorflow
@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
@pytest.mark.parametrize("make", [networks.cnn, networks.transformer])
def test_files_are_those_of_the_float32_model(make, suffix, tmp_path):
    model = make()
    x, mixed = inputs_of(model), tfc.mixed_precision(model, HALF)
    paths = [tmp_path / f"{name}{suffix}" for name in ("float", "mixed")]
    plain, cast = (tfc.export(each, path) for each, path in zip((model, mixed), paths, strict=True))
    assert casts(paths[0]) == casts(paths[1])
    np.testing.assert_array_equal(plain.predict(x), cast.predict(x))
    half = tfc.export(mixed, tmp_path / f"half{suffix}", precision="float16")
    np.testing.assert_allclose(half.predict(x), plain.predict(x), rtol=0, atol=1e-2)
    assert_same(mixed, tfc.mixed_precision(model, HALF), x)


@only_tensorflow
def test_an_int8_file_is_what_full_precision_says(tmp_path):
    x = floats(64, 8, 8, 3)
    quantized = tfc.quantize(tfc.mixed_precision(networks.cnn(), HALF), "int8", x)
    train(quantized, x, np.abs(floats(64, 5)))
    wanted = predictions(tfc.full_precision(quantized), x)[0]
    for suffix in (".tflite", ".onnx"):
        path = tmp_path / f"int8{suffix}"
        artifact = tfc.export(quantized, path)
        assert artifact.precision == "int8"
        assert casts(path) == 0
        np.testing.assert_allclose(artifact.predict(x), wanted, rtol=0, atol=1.01 / 256, err_msg=suffix)
