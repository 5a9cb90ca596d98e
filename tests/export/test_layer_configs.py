"""Files of a model whose layers are pruned and quantized by four configs: what each holds, read back from the files."""

import contextlib

import keras
import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers as L

import tfcompress as tfc

FOUR_BITS = tfc.QuantizeConfig(weights=tfc.WeightSpec(bits=4, granularity="per_tensor"))
CONFIGS = {"first": "int8", "wide": "int16x8", "weights": "int8_weights", "hidden": FOUR_BITS, "logits": None}
SHARES = {"first": 0.25, "hidden": tfc.PruneConfig(0.5, granularity=tfc.Block(1, 4)), "logits": 0.75}


def _network():
    inputs = keras.Input((12, 12, 3), name="image")
    x = L.Conv2D(8, 3, activation="relu", name="first")(inputs)
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="wide")(x)
    x = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(x))
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="weights")(x)
    x = L.ReLU(name="relu_2")(L.BatchNormalization(name="norm_2")(x))
    x = L.Flatten(name="flatten")(L.MaxPooling2D(2, name="pool")(x))
    x = L.Dense(16, activation="relu", name="hidden")(x)
    return keras.Model(inputs, L.Dense(4, name="logits")(x), name="network")


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).normal(size=(32, 12, 12, 3)).astype("float32")


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    """Return a model that was pruned, quantized, trained, saved and loaded; and its two files."""
    folder = tmp_path_factory.mktemp("layer_configs")
    keras.utils.set_random_seed(0)
    quantized = tfc.quantize(tfc.prune(_network(), SHARES), CONFIGS, data)
    quantized.compile("sgd", "mse")
    quantized.fit(data, np.zeros((32, 4), "float32"), verbose=0)
    quantized.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    files = [tfc.export(loaded, folder / f"model.{kind}", batch_size=1, verify=data) for kind in ("tflite", "onnx")]
    return loaded, *files


def test_tflite(made):
    """Each layer's kernel, its scales and what it computes in are its config's."""
    _, artifact, _ = made
    reader = Interpreter(model_path=str(artifact.path))
    reader.allocate_tensors()
    tensors = {detail["index"]: detail for detail in reader.get_tensor_details()}
    found = []
    for op in reader._get_ops_details():
        if op["op_name"] in ("CONV_2D", "FULLY_CONNECTED"):
            data, kernel = (tensors[index] for index in op["inputs"][:2])
            scales = kernel["quantization_parameters"]["scales"]
            found.append((np.dtype(data["dtype"]).name, np.dtype(kernel["dtype"]).name, len(np.unique(scales))))
    assert found == [
        ("int8", "int8", 8),
        ("int16", "int8", 8),
        ("float32", "float32", 0),  # from integers, behind a DEQUANTIZE
        ("int8", "int8", 1),
        ("float32", "float32", 0),
    ]
    unpacked = [op for op in reader._get_ops_details() if op["op_name"] == "DEQUANTIZE"]
    weights = [tensors[op["inputs"][0]] for op in unpacked]
    assert [len(one["quantization_parameters"]["scales"]) for one in weights if len(one["shape"]) == 4].count(8) == 1
    largest = {}
    for op in reader._get_ops_details():
        if op["op_name"] == "FULLY_CONNECTED" and tensors[op["inputs"][1]]["dtype"] == np.int8:
            largest["hidden"] = int(np.abs(reader.get_tensor(op["inputs"][1])).max())
    assert largest == {"hidden": 7}


def test_onnx(made):
    """ONNX Runtime has no kernels of 16 bits: that layer is float between grids of 16 bits, its weights integers."""
    _, _, artifact = made
    proto = onnx.load(str(artifact.path))
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer}
    eight = {name: value for name, value in stored.items() if value.dtype == np.int8 and value.ndim > 1}
    assert sorted(value.shape for value in eight.values()) == [(8, 3, 3, 3), (8, 8, 3, 3), (8, 8, 3, 3), (200, 16)]
    hidden = next(value for value in eight.values() if value.shape == (200, 16))
    assert np.abs(hidden).max() == 7
    grids = {stored[node.input[2]].dtype.name for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    assert grids == {"uint8", "uint16"}


def test_both_compute_what_the_model_does(made, data):
    model, *artifacts = made
    for artifact, kinds in zip(artifacts, ({"weights", "logits"}, {"weights", "logits", "wide", "relu"}), strict=True):
        floats = {op.layer for op in artifact.operators.floats}
        assert kinds <= floats
        assert not floats & {"first", "hidden"}
        assert artifact.parity.samples == len(data)
        assert all(one.max_rel < 0.01 for one in artifact.parity.outputs.values())
    zeros = tfc.summary(model).sparsities
    assert zeros["first/kernel"] >= 0.25
    assert zeros["hidden/kernel"] >= 0.5
    assert zeros["logits/kernel"] == 0.75


def test_summary_shows_each_config(made):
    """Also of a model that was saved and loaded."""
    shown = tfc.summary(made[0])
    rows = {row.layer: row.config for row in shown.rows if row.weight}
    assert rows == {
        "first": "25% zeros, int8",
        "wide": "int16x8",
        "weights": "int8 weights",
        "hidden": "50% zeros in blocks of 1x4, int8x4 per tensor",
        "logits": "75% zeros",
    }
    assert "config" in str(shown)


def test_integer_inputs_need_8_bits_there(made, data, tmp_path):
    wide = tfc.quantize(_network(), {"first": "int16x8", "logits": "int16x8", ".*": "int8"}, data)
    with pytest.raises(ValueError, match="input 'image' with 16 bits, output 'logits' with 16 bits"):
        tfc.export(wide, tmp_path / "model.tflite", inference_io="int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (tfc.ActivationSpec(bits=16), "Expected symmetric ranges .* in 'network', for 'first'"),
        (tfc.ActivationSpec(bits=6), "Expected activations of 8 or 16 bits.* 6 bits in 'network', for 'first'"),
    ],
)
def test_what_no_runtime_has_is_refused_by_name(data, tmp_path, spec, message):
    configs = {"wide": "int8", "first": tfc.QuantizeConfig(activations=spec)}
    with contextlib.nullcontext() if spec.bits == 16 else pytest.warns(UserWarning, match="activations of 6 bits"):
        quantized = tfc.quantize(_network(), configs, data)
    with pytest.raises(ValueError, match=message):
        tfc.export(quantized, tmp_path / "model.tflite")


@pytest.mark.parametrize("bits", [8, 4])
def test_a_table_whose_weights_alone_are_quantized_beside_integers(bits, tmp_path):
    table = tfc.QuantizeConfig(tfc.WeightSpec(bits=bits, granularity="per_tensor"), activations=None)
    layers = [L.Embedding(50, 8, name="table"), L.GlobalAveragePooling1D(), L.Dense(2, name="logits")]
    words = np.random.default_rng(0).integers(0, 50, (32, 6)).astype("int32")
    model = keras.Sequential([keras.Input((6,), dtype="int32"), *layers])
    quantized = tfc.quantize(model, {"table": table, "logits": "int8"}, words)
    for kind in ("tflite", "onnx"):
        planned = {one.layer: one.arithmetic for one in tfc.plan_export(quantized, kind).operators}
        assert planned["table"] == "weight-only" and planned["logits_linear"] == "integer"
        assert tfc.export(quantized, tmp_path / f"model.{kind}", verify=words).operators.integer
