"""The comparison itself: what counts as equal, and what it looks at."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from tests.export import models
from tests.once import once
from tfcompress.export import Artifact, ParityError, export, open_runner
from tfcompress.export.plan.deployment import deploy
from tfcompress.export.tflite.flatbuffer import File
from tfcompress.parity import proof
from tfcompress.parity.proof import compare, input_ranges, verify
from tfcompress.parity.reference import reference
from tfcompress.parity.rounded_otherwise import alike_outputs, dithered
from tfcompress.parity.tolerance import TIMES_NOISE
from tfcompress.quantization.quantize import quantize
from tfcompress.quantization.weights.uniform import WeightQuantizer
from tfcompress.runtime.integer_io import METADATA, io_grids, predict
from tfcompress.tracing.signature import read_signature
from tfcompress.tracing.trace import trace


def one(*values, dtype="float32"):
    return {"out": np.array([values], dtype)}


@pytest.mark.parametrize(("precision", "part"), [("float32", 1e-4), ("float16", 2e-2)])
def test_tolerance_is_a_part_of_the_largest_value(precision, part):
    reference = one(0.001, -50.0)
    result = compare(reference, one(0.001 + 0.9 * part * 50, -50.0), precision)["out"]
    assert result.max_rel == pytest.approx(0.9 * part, rel=1e-2)
    with pytest.raises(ParityError, match=r"expected 0.001 at \(0, 0\), received .*: differs by"):
        compare(reference, one(0.001 + 1.1 * part * 50, -50.0), precision)


def test_all_outputs_that_differ_are_named():
    reference = {"a": np.ones(3), "b": np.ones(3), "c": np.ones(3)}
    with pytest.raises(ParityError, match=r"output 'a'.*output 'c'.*shape \(3,\), received \(2,\)") as raised:
        compare(reference, {"a": np.zeros(3), "b": np.ones(3), "c": np.ones(2)})
    assert "'b'" not in str(raised.value)
    with pytest.raises(ParityError, match=r"Received: \['a'\]"):
        compare(reference, {"a": np.ones(3)})


def test_argmax_agreement():
    reference = {"out": np.array([[1.0, 1.001], [3.0, 1.0]])}
    result = compare(reference, {"out": np.array([[1.0012, 1.001], [3.0, 1.0]])}, "float16")["out"]
    assert result.argmax_agreement == 0.5


def test_equal_nans_are_equal_and_told():
    with pytest.warns(UserWarning, match="itself has 2 entries that are NaN or infinite"):
        result = compare(one(np.nan, np.inf, 1.0), one(np.nan, np.inf, 1.0))["out"]
    assert result.non_finite == 2
    assert result.max_abs == 0


@pytest.mark.parametrize("wrong", [(np.nan, np.nan, 1.0), (np.nan, np.inf, np.nan), (0.0, np.inf, 1.0)])
def test_other_nans_are_not(wrong):
    with pytest.raises(ParityError, match="the Keras model itself gives 2 NaN or infinite entries"):
        compare(one(np.nan, np.inf, 1.0), one(*wrong))


def test_whole_numbers_must_be_the_same():
    assert compare(one(1, 2, dtype="int32"), one(1, 2, dtype="int64"))["out"].max_abs == 0
    with pytest.raises(ParityError, match="50% other ones"):
        compare(one(1, 2, dtype="int32"), one(1, 3, dtype="int32"))


@pytest.mark.parametrize("file", ["model.tflite", "model.onnx"])
def test_float_inputs_of_an_embedding_get_tokens(file, tmp_path):
    """Standard normals would be negative indices."""
    model = keras.Sequential([keras.Input((6,)), layers.Embedding(5, 3), layers.Embedding(9, 3, name="ids")][:2])
    artifact = export(models.randomise(model), tmp_path / file)
    assert next(iter(artifact.inputs.values())).dtype == "float32"
    assert next(iter(artifact.parity.outputs.values())).max_rel < 1e-6


def test_model_that_no_random_input_suits(tmp_path):
    class Picky(keras.Model):
        def call(self, x):
            return keras.ops.reshape(x, (-1, 37))

    model = Picky()
    model.build((None, 37))
    model._build_shapes_dict = {"input_shape": (None, None)}
    with pytest.raises(ValueError, match=r"(?s)random inputs of {'x': \(2, 32\)}.*verify=x"):
        export(model, tmp_path / "model.onnx")
    artifact = export(model, tmp_path / "model.onnx", verify=np.ones((2, 37)))
    assert artifact.parity.samples == 2


def test_several_arguments_without_shapes_say_what_to_do(tmp_path):
    class Two(keras.Model):
        def call(self, first, second):
            return first + second

    model = Two()
    model(np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="Let `call` take one argument"):
        export(model, tmp_path / "model.onnx")


def test_signature_refuses_strings():
    inputs = keras.Input((1,), dtype="string", name="text")
    model = keras.Model(inputs, keras.layers.StringLookup(vocabulary=["a"])(inputs))
    with pytest.raises(ValueError, match="input 'text', which is string"):
        read_signature(model)


@once
def cnn(config="int8", seed=0):
    """A quantized network for pixels from 0 to 255, with logits."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="first")(image)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, activation="relu", name="depthwise")(x)
    x = layers.Flatten()(x)
    model = models.randomise(keras.Model(image, layers.Dense(6, name="logits")(x)), seed)
    first = model.get_layer("first")
    first.kernel.assign(first.kernel / 100)
    return quantize(model, config, np.random.default_rng(1).uniform(0, 255, (32, 8, 8, 3)).astype("float32"))


STEP = 0.5
GRID = np.random.default_rng(0).integers(-100, 100, (4, 30)) * STEP


def moved(steps, share=1.0):
    """The reference, a part of its values moved by some steps."""
    where = np.random.default_rng(1).random(GRID.shape) < share
    return {"out": GRID + steps * STEP * where}


@pytest.mark.parametrize(("steps", "share"), [(1, 0.5), (2, 0.1), (-1, 0.3)])
def test_roundings_are_allowed_on_a_grid(steps, share):
    result = compare({"out": GRID}, moved(steps, share), scales={"out": STEP})["out"]
    assert result.scale == STEP
    assert result.max_steps == abs(steps)
    assert result.mean_steps == pytest.approx(abs(steps) * (1 - result.equal))
    assert result.equal == pytest.approx(1 - share, abs=0.12)
    assert result.noise is None


@pytest.mark.parametrize(("steps", "share"), [(3, 1.0), (3, 0.02), (50, 0.02)])
def test_more_than_roundings_are_not(steps, share):
    with pytest.raises(ParityError, match=rf"\({abs(steps)}.0 steps\)"):
        compare({"out": GRID}, moved(steps, share), scales={"out": STEP})


def test_what_is_allowed_follows_from_the_noise_of_the_model_itself():
    noise = np.random.default_rng(2).integers(-6, 7, GRID.shape) * STEP
    alike = [{"out": GRID + noise}]
    other = {"out": GRID + np.random.default_rng(3).integers(-6, 7, GRID.shape) * STEP}
    result = compare({"out": GRID}, other, scales={"out": STEP}, alike=alike)["out"]
    assert result.noise == pytest.approx(np.sqrt(np.mean(noise**2)))
    with pytest.raises(ParityError, match="where values are rounded as the file may"):
        compare({"out": GRID}, {"out": GRID + 1.6 * TIMES_NOISE * noise}, scales={"out": STEP}, alike=alike)
    with pytest.raises(ParityError):
        compare({"out": GRID}, other, scales={"out": STEP}, alike=[{"out": GRID}])


def test_a_chaotic_model_is_told():
    other = {"out": np.random.default_rng(5).permuted(GRID)}
    with pytest.warns(UserWarning, match="comparing it says little"):
        compare({"out": GRID}, other, scales={"out": STEP}, alike=[other])


def test_a_few_ties_may_fall_otherwise():
    classes = {"out": np.arange(100)}
    other = {"out": np.where(np.arange(100) < 4, 7, np.arange(100))}
    assert compare(classes, other, scales={"out": None}, alike=[classes])["out"].equal == 0.96
    with pytest.raises(ParityError, match="whole numbers"):
        compare(classes, other)


@pytest.mark.parametrize("file", ["model.tflite", "model.onnx"])
@pytest.mark.parametrize("config", ["int8", "int8_per_tensor"])
def test_quantized_models_are_compared_in_steps(config, file, tmp_path):
    artifact = export(cnn(config), tmp_path / file)
    result = artifact.parity.outputs["logits"]
    assert artifact.parity.samples == 16
    assert 0 < result.scale < 1
    assert result.max_steps < 3
    assert result.equal > 0.6
    assert result.noise is None  # it differs by no more than is always allowed
    assert f"{result.max_steps:.0f} steps of its grid" in str(artifact)


@pytest.mark.parametrize("file", ["model.tflite", "model.onnx"])
@pytest.mark.parametrize("config", ["int8_weights", "dynamic_int8"])
def test_float_activations_have_no_grid(config, file, tmp_path):
    result = export(cnn(config), tmp_path / file).parity.outputs["logits"]
    assert result.scale is None and result.max_steps is None
    assert config != "int8_weights" or result.noise is None
    assert result.max_rel < (1e-4 if config == "int8_weights" else 0.05)


@pytest.mark.long
def test_deep_random_networks_pass(tmp_path):
    """Each rounding that falls otherwise grows on its way through sixty layers."""
    x = inputs = keras.Input((16,))
    for seed in range(60):
        x = layers.Dense(16, activation="relu", kernel_initializer=keras.initializers.HeNormal(seed))(x)
    model = keras.Model(inputs, layers.Dense(4, name="out")(x))
    data = np.random.default_rng(0).normal(size=(64, 16)).astype("float32")
    quantized = quantize(model, "int8", data)
    for file in ("deep.tflite", "deep.onnx"):
        result = export(quantized, tmp_path / file).parity.outputs["out"]
        assert result.sqnr is None or result.sqnr > 15


def kernel(file, name):
    graph = file.graphs[0]
    return graph, next(op for op in graph.operators if graph.name(op) == name)


def scaled(file):
    graph, op = kernel(file, "CONV_2D")
    quantization = graph.tensors[int(op.inputs[1])].quantization
    quantization.scale = np.asarray(quantization.scale) * np.float32(1.2)


def without_bias(file):
    graph, op = kernel(file, "CONV_2D")
    buffer = file.model.buffers[graph.tensors[int(op.inputs[2])].buffer]
    buffer.data = np.zeros_like(np.asarray(buffer.data))


def shuffled(file):
    graph, op = kernel(file, "DEPTHWISE_CONV_2D")
    buffer = file.model.buffers[graph.tensors[int(op.inputs[1])].buffer]
    buffer.data = np.roll(np.asarray(buffer.data), 1)


def zeroed_channel(file):
    graph, op = kernel(file, "FULLY_CONNECTED")
    tensor = graph.tensors[int(op.inputs[1])]
    buffer = file.model.buffers[tensor.buffer]
    weights = np.array(buffer.data).reshape(graph.shape(int(op.inputs[1])))
    weights[0] = 0
    buffer.data = weights.reshape(-1)


@pytest.mark.parametrize("breaking", [scaled, without_bias, shuffled, zeroed_channel])
def test_a_wrong_graph_is_refused(breaking, tmp_path):
    model = cnn()
    path = export(model, tmp_path / "model.tflite").path
    deployment = deploy(model, "tflite")
    traced = trace(deployment.model, 1)
    assert verify(model, traced, open_runner(path), "float32", None, deployment).samples == 16
    file = File(path.read_bytes())
    breaking(file)
    path.write_bytes(file.to_bytes())
    with pytest.raises(ParityError, match="output 'logits'"):
        verify(model, traced, open_runner(path), "float32", None, deployment)


def test_swapped_outputs_are_refused():
    noise = np.random.default_rng(0).integers(-1, 2, GRID.shape) * STEP
    one, two = {"a": GRID, "b": GRID[::-1]}, {"a": GRID[::-1], "b": GRID}
    alike = [{name: value + noise for name, value in one.items()}]
    with pytest.raises(ParityError, match="'a'.*'b'"):
        compare(one, two, scales={"a": STEP, "b": STEP}, alike=alike)


def test_generated_inputs_fill_the_calibrated_range():
    (span,) = input_ranges(cnn())
    assert span[0] == 0 and 250 < span[1] < 256
    assert input_ranges(cnn("int8_weights")) == [None]


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integer_inputs_take_floats_and_integers(dtype, tmp_path):
    model = cnn()
    artifact = Artifact.open(export(model, tmp_path / "whole.tflite", inference_io=dtype).path)
    assert artifact.inputs["image"].dtype == dtype
    x = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 3)).astype("float32")
    real = artifact.predict(x)
    assert real.dtype == np.float32
    scale = deploy(model, "tflite").scales["logits"]
    np.testing.assert_allclose(real, np.asarray(model(x)), atol=2.01 * scale)
    grids = io_grids(open_runner(artifact.path))
    assert grids["logits"][0] == pytest.approx(scale)
    scale, zero = grids["image"]
    whole = artifact.predict(np.floor(x / scale + zero + 0.5).astype(dtype))
    assert whole.dtype == dtype
    np.testing.assert_allclose((whole.astype(int) - grids["logits"][1]) * grids["logits"][0], real, rtol=1e-5)
    with pytest.raises(ValueError, match="NaN"):
        artifact.predict(np.full_like(x, np.nan))


def test_grids_of_onnx_files_are_in_their_metadata(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    one = [helper.make_tensor_value_info(name, TensorProto.INT8, ["batch", 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", one[:1], one[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    grids = {"x": {"scale": 0.5, "zero_point": -3}, "y": {"scale": 0.25, "zero_point": 7}}
    helper.set_model_props(proto, {METADATA: json.dumps(grids)})
    onnx.save(proto, tmp_path / "model.onnx")
    runner = open_runner(tmp_path / "model.onnx")
    assert io_grids(runner) == {"x": (0.5, -3), "y": (0.25, 7)}
    x = np.array([[-2.0, 0.0, 100.0]])
    np.testing.assert_array_equal(predict(runner, x), (np.array([[-7, -3, 127]]) - 7) * 0.25)
    np.testing.assert_array_equal(predict(runner, np.array([[1, 2, 3]], "int8")), [[1, 2, 3]])


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, place):
        return pair()


def pair(samples=8):
    return np.ones((samples, 4), "float32"), np.zeros(samples)


def endless():
    while True:
        yield pair(100)


@pytest.mark.parametrize("name", ["generator", "function", "list", "PyDataset", "tf.data", "several inputs"])
def test_batches_to_compare_on_are_taken_as_fit_takes_them(name, tmp_path):
    import tensorflow as tf

    ends = [keras.Input((4,), name=part) for part in "ab"]
    one = keras.Sequential([ends[0], layers.Dense(2)])
    two = keras.Model(ends, layers.Add()(ends))
    data = {
        "generator": (pair() for _ in range(3)),
        "function": endless,
        "list": [pair() for _ in range(3)],
        "PyDataset": Batches(),
        "tf.data": tf.data.Dataset.from_tensor_slices(pair()).batch(3).repeat(3),
        "several inputs": tf.data.Dataset.from_tensor_slices(({"a": pair()[0], "b": pair()[0]}, pair()[1])).batch(8),
    }[name]
    parity = export(two if name == "several inputs" else one, tmp_path / "m.onnx", verify=data).parity
    assert parity.samples == {"function": 1100, "several inputs": 8}.get(name, 24)
    assert parity.about == "the data given"


def test_values_next_to_zero_are_rounded_otherwise_too():
    """Beside a few large values, as of an amount of money, moved ends of a range show nothing of the others."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), name="x")
    hidden = keras.layers.Dense(16, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="y")(hidden))
    x = np.random.default_rng(0).uniform(0, 30, (64, 4)).astype("float32")
    x[0, 0] = 1000
    quantized = quantize(model, "int8", x)
    made = deploy(quantized, "tflite")
    traced = trace(made.model, None, "tflite", read_signature(made.model))
    expected = reference(quantized, traced, {"x": x})["y"]

    def change(outputs):
        return float(np.mean(np.abs(outputs["y"][1:] - expected[1:]) > made.scales["y"] / 2))

    moved = max(map(change, alike_outputs(quantized, traced, {"x": x}, made)))
    assert min(change(dithered(quantized, traced, {"x": x}, seed)) for seed in range(2)) > 2 * moved
    assert change(reference(quantized, traced, {"x": x})) == 0  # nothing is left of it


def test_the_proof_transforms_weights_once_and_computes_what_the_model_does(monkeypatch):
    keras.utils.set_random_seed(0)
    made_of = [keras.Input((4,), name="x"), layers.Dense(16, activation="relu"), layers.Dense(3, name="y")]
    x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    quantized = quantize(keras.Sequential(made_of), "int8", x)
    made = deploy(quantized, "tflite")
    traced = trace(made.model, None, "tflite", read_signature(made.model))
    expected, seen, compared = reference(quantized, traced, {"x": x})["y"], [], []
    apply = WeightQuantizer.apply
    monkeypatch.setattr(WeightQuantizer, "apply", lambda self, value: seen.append(self) or apply(self, value))

    def compare_twice(*given):
        compared.append((*given[:-1], list(given[-1])))
        if not given[-1]:
            raise ParityError("It differs by more than is always allowed.")
        return {}

    monkeypatch.setattr(proof, "compare", compare_twice)
    monkeypatch.setattr(proof, "io_grids", lambda runner: {})
    monkeypatch.setattr(proof, "predict", lambda runner, inputs: {"y": expected})
    proof.verify(quantized, traced, None, "float32", x, made)
    assert len(seen) == 2 * len(set(seen)) == 4  # for what is expected, and for what may differ
    (*_, none), (outputs, _, _, _, alike) = compared
    assert not none and len(alike) == 2
    assert np.array_equal(outputs["y"], expected) and not any(np.array_equal(each["y"], expected) for each in alike)
    assert np.array_equal(reference(quantized, traced, {"x": x})["y"], expected)  # nothing is left of it
