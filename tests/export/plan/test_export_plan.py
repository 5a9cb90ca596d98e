"""The plan says what a file computes in before it is written, and the file is so."""

import json

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.once import once
from tfcompress.export.file_arithmetic import read_arithmetic
from tfcompress.export.onnx import to_onnx
from tfcompress.export.plan.deployment import Deployment
from tfcompress.runtime.integer_io import io_grids
from tfcompress.runtime.opening import open_runner

X = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")


@once
def network(recipe):
    x = keras.Input((8, 8, 3), name="x")
    y = L.BatchNormalization(name="norm")(L.Conv2D(4, 3, use_bias=False, name="conv")(x))
    y = L.ReLU(name="relu")(y)
    y = L.LayerNormalization(name="layernorm")(y)
    model = keras.Model(x, L.Dense(3, name="dense")(L.Flatten(name="flat")(y)), name="net")
    return tfc.quantize(model, recipe, X if recipe in ("int8", "int16x8") else None)


def arithmetic(plan):
    return {one.layer: one.arithmetic for one in plan.operators}


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_static(format):
    plan = tfc.plan_export(network("int8"), format)
    assert arithmetic(plan) == {
        "conv": "integer",
        "norm": "integer",
        "relu": "integer",
        "layernorm": "float",
        "flat": "integer",
        "dense_linear": "integer",  # the quantizer behind it has the output's name
    }
    by_layer = {one.layer: one for one in plan.operators}
    assert "no integer kernel" in by_layer["layernorm"].status and by_layer["norm"].status == "folded"
    (kernel,) = by_layer["conv"].weights
    assert kernel.encoding.shape == (3, 3, 3, 4) and kernel.encoding.axis == (3,)
    assert by_layer["relu"].grid.bits == 8 and by_layer["relu"].grid.zero_point == -128
    assert plan.integer == {"conv", "dense_linear"}


def test_16_bits_are_float_in_onnx():
    assert arithmetic(tfc.plan_export(network("int16x8"), "tflite"))["conv"] == "integer"
    plan = tfc.plan_export(network("int16x8"), "onnx")
    for layer in ("conv", "dense_linear"):
        assert arithmetic(plan)[layer] == "weight-only"
        assert plan.reasons[layer] == "ONNX Runtime has no kernels of 16 bits"


def test_other_recipes():
    weights = arithmetic(tfc.plan_export(network("int8_weights")))
    assert weights["conv"] == weights["dense"] == "weight-only" and weights["relu"] == "float"
    assert arithmetic(tfc.plan_export(network("dynamic_int8")))["dense"] == "dynamic"


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_a_file_has_the_grids_of_its_plan(format, tmp_path):
    model = network("int8")
    artifact = tfc.export(model, tmp_path / f"m.{format}", batch_size=1, inference_io="int8")
    scale, zero_point = io_grids(open_runner(artifact.path))["dense"]
    (dense,) = [one for one in artifact.plan.operators if one.layer == "dense_linear"]
    assert artifact.plan.to_dict() == tfc.plan_export(model, format).to_dict()
    np.testing.assert_allclose(scale, dense.grid.scale, rtol=1e-6)
    assert zero_point == dense.grid.zero_point
    assert "layernorm" in {op.layer for op in artifact.operators.floats} <= {"layernorm", "flat"}


def test_table_and_json(tmp_path):
    plan = tfc.plan_export(network("int8"))
    text = str(plan)
    assert "net as .tflite: 5 integer, 1 float" in text and "int8 per channel" in text
    written = json.loads(plan.to_json(tmp_path / "plan.json").read_text())
    assert written == plan.to_dict()
    (conv,) = [one for one in written["operators"] if one["layer"] == "conv"]
    assert len(conv["weights"][0]["scales"]) == 4 and conv["output"] is None


def test_what_is_not_quantized_is_float_and_has_no_reasons(tmp_path):
    dense = L.Dense(2, name="dense")
    model = keras.Sequential([keras.Input((2,)), keras.Sequential([keras.Input((2,)), dense]), L.ReLU(name="relu")])
    plan = tfc.plan_export(tfc.prune_once(model, 0.5), "onnx")
    assert arithmetic(plan) == {"dense": "float", "relu": "float"} and not plan.reasons and not plan.grids
    assert {one.status for one in plan.operators} == {"not quantized"}
    assert tfc.export(model, tmp_path / "m.onnx").plan.to_dict()["operators"][0]["class"] == "Dense"


def test_what_has_no_plan():
    with pytest.raises(ValueError, match="Expected a built model"):
        tfc.plan_export(keras.Sequential([L.Dense(2)]))
    with pytest.raises(ValueError, match="Expected format to be one of"):
        tfc.plan_export(network("int8"), "pb")
    with pytest.raises(TypeError, match="Expected"):
        tfc.plan_export("model.keras")


def test_what_reads_the_plan(tmp_path):
    """The summary for a format, what is compared layer by layer, and the report."""
    rows = {row.layer: row for row in tfc.summary(network("int16x8"), "onnx").rows}
    assert rows["conv"].fallback and "no kernels of 16 bits" in rows["conv"].status
    assert not tfc.summary(network("int16x8"), "tflite").rows[0].fallback
    artifact = tfc.export(network("int8"), tmp_path / "m.onnx", verify=False)
    report = tfc.debug(network("int8"), artifact, X[:4])
    assert report["layernorm_quantizer"].computes_in == "float fallback: no integer kernel"
    assert report["relu_quantizer"].computes_in == "integer"
    assert "Planned: layernorm: float fallback: no integer kernel." in report.caption()
    compared = tfc.compare({"int8": artifact}, X, np.arange(len(X)) % 3, latency=False)
    assert compared["int8"].operators == artifact.operators
    (row,) = compared.to_dict()["candidates"]
    assert row["operators"]["floats"][0]["layer"] == "layernorm"
    assert "float: layer" in compared.save(tmp_path / "report.html").read_text()


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_all_planned_grids_and_integers_are_read_in_the_file(format, tmp_path):
    artifact = tfc.export(network("int8"), tmp_path / f"m.{format}", verify=False)
    found, plan = read_arithmetic(artifact.path), artifact.plan
    for planned in plan.grids.values():
        assert any(planned.close(grid) for _, grid in found.grids), planned
    kernels = {op.integers for op in found.operators if op.integers}
    assert len(kernels) == 2 and kernels <= plan.weights.attached


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_a_grid_that_is_not_planned_is_refused(format, tmp_path, monkeypatch):
    """As TensorFlow's converter makes them by itself where it likes to."""
    grids = Deployment.grids.fget
    monkeypatch.setattr(
        Deployment, "grids", property(lambda self: {k: v for k, v in grids(self).items() if k != "relu_quantizer"})
    )
    with pytest.raises(ValueError, match=r"Expected the grids that .* plans. Received: a file in which .* has scale"):
        tfc.export(network("int8"), tmp_path / f"m.{format}")
    assert not list(tmp_path.iterdir())


@keras.saving.register_keras_serializable("tests")
class OwnFakeQuantizers(L.Layer):
    """One with a range that is written down, one with a range in a variable."""

    def build(self, shape):
        self.limit = self.add_weight(shape=(), initializer=keras.initializers.Constant(2.0), trainable=False)

    def call(self, x):
        import tensorflow as tf

        x = tf.quantization.fake_quant_with_min_max_args(x, -3.0, 3.0)
        return tf.quantization.fake_quant_with_min_max_vars(x * 0.5, -self.limit, self.limit)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's operations")
@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_fake_quantizers_of_a_layer_are_the_models_own(format, tmp_path):
    layers = [keras.Input((6,)), L.Dense(8, "relu"), OwnFakeQuantizers(name="own"), L.Dense(3)]
    x = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
    artifact = tfc.export(tfc.quantize(keras.Sequential(layers), "int8", x), tmp_path / f"m.{format}", verify=x)
    assert artifact.parity.outputs and artifact.precision == "int8"


def test_integers_that_are_not_planned_are_refused(tmp_path, monkeypatch):
    canonical = to_onnx.make_canonical

    def spoiling(proto):
        canonical(proto)
        kernel = next(x for x in proto.graph.initializer if x.data_type == x.INT8 and len(x.dims) == 4)
        kernel.raw_data = bytes([5]) + kernel.raw_data[1:]

    monkeypatch.setattr(to_onnx, "make_canonical", spoiling)
    with pytest.raises(ValueError, match=r"Expected the integers .* plans for layer 'conv'. Received: .* its Conv"):
        tfc.export(network("int8"), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
