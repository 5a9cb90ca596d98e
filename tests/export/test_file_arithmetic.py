"""What the operators of a file compute in, and that it is what the quantized model says."""

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.export import models
from tfcompress.export import Artifact
from tfcompress.export.file_arithmetic import read_arithmetic
from tfcompress.export.onnx.propagate import FUSED, PLAIN
from tfcompress.export.plan.planned_weights import PlannedWeights

FORMATS = ("tflite", "onnx")
both_formats = pytest.mark.parametrize("format", FORMATS)
IMAGE = (8, 8, 6)


def data(shape=IMAGE, samples=32):
    return np.random.default_rng(0).normal(size=(samples, *shape)).astype("float32")


def around(*middle):
    """A network with a convolution in front and a Dense behind."""
    stack = [keras.Input(IMAGE, name="image"), L.Conv2D(8, 3, padding="same", name="stem"), *middle]
    return keras.Sequential([*stack, L.GlobalAveragePooling2D(name="mean"), L.Dense(4, name="head")])


BAD = {
    "conv": lambda: [L.Conv2D(16, 3, padding="same", activation="relu", name="bad")],
    "folded": lambda: [L.Conv2D(16, 3, name="bad"), L.BatchNormalization(), L.ReLU()],
    "depthwise": lambda: [L.DepthwiseConv2D(3, depth_multiplier=4, activation="relu6", name="bad")],
    "dense": lambda: [L.Dense(40, name="bad", activation="tanh")],
    "one dimension": lambda: [L.Reshape((64, 8)), L.Conv1D(16, 3, name="bad"), L.Reshape((62, 1, 16))],
    "transposed": lambda: [L.Conv2DTranspose(16, 3, strides=2, name="bad")],
}


@pytest.fixture
def other_constants(monkeypatch):
    """Let converters compute with something else than the weights of the layer called "bad"."""
    find = PlannedWeights.find

    def found(self, constant, axes=None):
        one = find(self, constant, axes)
        bad = [weight.encoding.integers.size for weight in self.weights if weight.layer == "bad"]
        return None if one is None or one.integers.size in bad else one

    return lambda: monkeypatch.setattr(PlannedWeights, "find", found)


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [("int8", kind) for kind in BAD]
    + [("int16x8", "conv"), ("dynamic_int8", "conv"), ("int8_weights", "folded"), ("int8_per_tensor", "depthwise")],
)
def test_a_kernel_that_stays_float_is_named(recipe, kind, tmp_path, other_constants):
    ranges = None if recipe in ("dynamic_int8", "int8_weights") else data()
    quantized = tfc.quantize(around(*BAD[kind]()), recipe, data=ranges)
    other_constants()
    for format in FORMATS:
        with pytest.raises(ValueError, match=r"Expected layer 'bad' to (compute in integers|have weights of 8 bits)"):
            tfc.export(quantized, tmp_path / f"m.{format}")
    assert not list(tmp_path.iterdir())


def test_all_in_integers(tmp_path):
    made = [L.BatchNormalization(), L.ReLU(), L.DepthwiseConv2D(3), L.MaxPooling2D(), L.Dense(5)]
    quantized = tfc.quantize(around(*made), "int8", data=data())
    for format in FORMATS:
        artifact = tfc.export(quantized, tmp_path / f"m.{format}", require_integer=True)
        assert (artifact.precision, artifact.operators.floats) == ("int8", ()), format
        assert artifact.operators.integer >= 6, format
        assert f"{artifact.operators.integer} operators compute in integers, 0 in float" in str(artifact), format


def test_a_limit_within_a_wider_range_is_one_of_integers(tmp_path):
    inputs = keras.Input((6, 8))
    limited = [L.Dense(4, activation=name)(inputs) for name in ("relu", "relu6")]
    outputs = L.Dense(3)(L.Concatenate()([*limited, inputs]))
    x = 3 * data((6, 8))
    quantized = tfc.quantize(keras.Model(inputs, outputs), "int8", data=x)
    for format in FORMATS:
        artifact = tfc.export(quantized, tmp_path / f"m.{format}", require_integer=True, verify=x)
        assert artifact.parity.outputs[next(iter(artifact.parity.outputs))].max_steps < 1.01, format


def test_a_product_behind_a_layer_is_not_taken_for_its_own(tmp_path):
    """A Fourier transform is written as products, which have no layer's name."""
    inputs = keras.Input((8, 6))
    x = L.Dense(6, name="before")(inputs)
    model = keras.Model(inputs, L.Dense(3, name="behind")(keras.ops.fft2((x, keras.ops.zeros_like(x)))[0] + x))
    quantized = tfc.quantize(model, "int8", data=data((8, 6)))
    for format in FORMATS:
        artifact = tfc.export(quantized, tmp_path / f"m.{format}")
        assert artifact.operators.integer >= 2, format
        assert len(artifact.operators.floats) >= 2, format


def test_a_float_input_is_quantized_before_it_is_moved(tmp_path):
    model = keras.Sequential([keras.Input((6, 8)), L.Dense(7, activation="relu"), L.Dense(5)])
    for recipe in ("int8", "int16x8"):
        quantized = tfc.quantize(model, recipe, data=data((6, 8)))
        tfc.export(quantized, tmp_path / f"{recipe}.tflite", require_integer=True)


def test_what_is_float_is_named_with_its_reason(tmp_path):
    model = around(L.LayerNormalization(name="norm"), L.Conv2D(4, 1, name="pointwise", activation="tanh"))
    quantized = tfc.quantize(model, "int8", data=data())
    refusal = r"require_integer=True.*layer 'norm' \(float fallback: no integer kernel\)"
    for format in FORMATS:
        artifact = tfc.export(quantized, tmp_path / f"m.{format}")
        assert artifact.precision == "int8"
        reasons = {op.layer: op.reason for op in artifact.operators.floats}
        expected = {"norm": "float fallback: no integer kernel"}
        expected |= {"pointwise_tanh": "int8, float in ONNX"} if format == "onnx" else {}
        assert reasons == expected
        assert "layer 'norm'" in str(artifact)
        with pytest.raises(ValueError, match=refusal):
            tfc.export(quantized, tmp_path / f"n.{format}", require_integer=True)
    assert {path.name for path in tmp_path.iterdir()} == {f"m.{format}" for format in FORMATS}


def test_a_layer_left_float_is_no_error(tmp_path):
    model = around(L.Conv2D(16, 3, padding="same", name="left"), L.ReLU())
    quantized = tfc.quantize(model, "int8", data=data(), layers=lambda layer: layer.name != "left")
    for format in FORMATS:
        artifact = tfc.export(quantized, tmp_path / f"m.{format}")
        assert {op.layer for op in artifact.operators.floats} == {"left"}, format


@pytest.mark.parametrize(
    ("recipe", "precision"),
    [
        ("int8", "int8"),
        ("int16x8", "int16x8"),
        ("dynamic_int8", "dynamic int8"),
        ("int8_weights", "int8 weights"),
        ("float16", "float16"),
        (tfc.QuantizeConfig(weights=tfc.WeightSpec(bits=4)), "int8x4"),
        (tfc.QuantizeConfig(weights=tfc.WeightSpec(bits=2, range="mse"), activations=None), "int2 weights"),
    ],
)
def test_precision_is_read_in_the_file(recipe, precision, tmp_path):
    model = keras.Sequential([keras.Input((16,)), L.Dense(32, activation="relu"), L.Dense(32)])
    quantized = tfc.quantize(model, recipe)
    if precision in ("int8", "int16x8", "int8x4"):
        tfc.calibrate(quantized, data((16,)))
    computes = precision.startswith(("int8", "dynamic", "int16")) and precision != "int8 weights"
    for format in FORMATS:
        artifact = tfc.export(quantized, tmp_path / f"m.{format}")
        opened = Artifact.open(artifact.path)
        assert artifact.precision == opened.precision == precision, format
        assert artifact.operators.integer == opened.operators.integer, format
        assert bool(artifact.operators.integer) == (computes and (precision, format) != ("int16x8", "onnx")), format


@both_formats
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_float_files(precision, format, tmp_path):
    artifact = tfc.export(models.randomise(models.cnn()), tmp_path / f"m.{format}", precision=precision)
    assert artifact.precision == precision
    assert artifact.operators.integer == 0
    assert {op.reason for op in artifact.operators.floats} == {""}


@pytest.mark.filterwarnings("ignore:No activation")
def test_an_int8_model_without_integer_kernels_is_a_float_file(tmp_path):
    model = keras.Sequential([keras.Input((6, 4)), L.GRU(3)])
    quantized = tfc.quantize(model, "int8", layers=lambda layer: True)
    for format in FORMATS:
        artifact = tfc.export(quantized, tmp_path / f"m.{format}", batch_size=1)
        assert artifact.operators.integer == 0, format
        assert artifact.precision != "int8", format


class Widened(L.Layer):
    """Adds ones, as many as there are steps, and joins steps."""

    def call(self, x):
        steps = keras.ops.shape(x)[1]
        return keras.ops.reshape(x + keras.ops.ones((steps, 1)), (-1, steps * 6))


@both_formats
def test_what_is_computed_of_shapes_alone_is_no_operator(format, tmp_path):
    model = keras.Sequential([keras.Input((None, 6)), L.ReLU(), Widened()])
    artifact = tfc.export(model, tmp_path / f"m.{format}", verify=False)
    assert [op.kind.lower() for op in artifact.operators.floats] == ["relu", "add", "reshape"]
    assert {"Shape", "SHAPE"} & set(artifact.operators.kinds)


class Doubled(L.Layer):
    """Doubles sequences of more than three steps."""

    def call(self, x):
        return keras.ops.cond(keras.ops.shape(x)[1] > 3, lambda: x * 2.0, lambda: x)


def test_what_a_condition_on_shapes_makes_of_data_is_counted(tmp_path):
    model = keras.Sequential([keras.Input((None, 6)), Doubled(), L.ReLU()])
    artifact = tfc.export(model, tmp_path / "m.onnx", verify=False)
    assert "If" in artifact.operators.kinds
    assert "Relu" in [op.kind for op in artifact.operators.floats]


def test_the_arithmetic_read_agrees_with_onnx_runtime(tmp_path):
    """The operators counted as integers are those that the runtime makes integer ones."""
    import onnx
    import onnxruntime

    model = around(
        L.BatchNormalization(), L.ReLU(), L.LayerNormalization(), L.AveragePooling2D(2), L.Activation("sigmoid"),
        L.Conv2DTranspose(4, 2), L.UpSampling2D(), L.Dense(6), L.Softmax(),
    )  # fmt: skip
    quantized = tfc.quantize(model, "int8", data=data())
    artifact = tfc.export(quantized, tmp_path / "m.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(str(artifact.path), options, providers=["CPUExecutionProvider"])
    run = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    computing = [name for name in run if name.startswith(("QLinear", "QGemm"))]
    counted = [op.kind for op in read_arithmetic(artifact.path).operators if op.integer]
    assert len(computing) == len([kind for kind in counted if kind not in (*FUSED, *PLAIN)])
    assert sum(name == "ConvTranspose" for name in run) == 1
    assert {op.layer for op in artifact.operators.floats if op.kind == "ConvTranspose"} == {"conv2d_transpose"}


@pytest.mark.parametrize("given", ["yes", 1, None])
def test_require_integer_is_a_switch(given, tmp_path):
    with pytest.raises((TypeError, ValueError), match="require_integer"):
        tfc.export(around(), tmp_path / "m.tflite", require_integer=given)
