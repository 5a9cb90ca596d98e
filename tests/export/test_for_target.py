"""Files for a target: what it fixes, what is refused before any work, the runtimes that prove them."""

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tfc
from tests.once import once
from tfcompress.export.file_for_target import check_widths
from tfcompress.export.plan.file_operators import StoredWeight
from tfcompress.export.tflite.flatbuffer import operators
from tfcompress.runtime.opening import open_runner
from tfcompress.targets import Target

X = np.random.default_rng(0).normal(size=(16, 8, 8, 4)).astype("float32")


@once
def model():
    parts = [layers.Conv2D(4, 3, activation="relu", name="conv"), layers.Flatten()]
    return keras.Sequential([keras.Input((8, 8, 4), name="x"), *parts, layers.Dense(3, name="y")], name="net")


@once
def quantized(config="int8"):
    return tfc.quantize(model(), config, data=X)


def test_a_microcontroller_fixes_batch_integers_and_widths(tmp_path):
    pytest.importorskip("tflite_micro")
    artifact = tfc.export(quantized("w4a8"), tmp_path / "m.tflite", target="microcontroller")
    assert artifact.inputs["x"].shape == (1, 8, 8, 4)
    assert artifact.inputs["x"].dtype == artifact.outputs["y"].dtype == "int8"
    assert {weight.type for weight in artifact.operators.narrow} == {"int8"}
    assert artifact.parity.outputs["y"].max_steps <= 2
    floats = tfc.export(
        quantized(), tmp_path / "f.tflite", target="microcontroller", inference_io="float32", batch_size=2
    )
    assert floats.inputs["x"].shape == (2, 8, 8, 4)
    assert floats.inputs["x"].dtype == "float32"


def test_the_runtimes_of_a_target_prove_the_file(tmp_path, monkeypatch):
    from tfcompress.runtime import opening
    from tfcompress.runtime.litert_runner import TFLiteRunner

    class Wrong(TFLiteRunner):
        def run(self, inputs):
            return {name: value + 1 for name, value in super().run(inputs).items()}

    monkeypatch.setitem(opening.RUNTIMES, "tflm", Wrong)
    both = Target(name="both", runtimes=("litert", "tflm"))
    with pytest.raises(tfc.ParityError, match="output 'y'"):
        tfc.export(model(), tmp_path / "m.tflite", target=both)
    assert not list(tmp_path.iterdir())
    assert tfc.export(model(), tmp_path / "m.tflite", target="android").parity is not None


@pytest.mark.parametrize(
    ("config", "target", "how", "message"),
    [
        (None, "ethos-u55-128", {}, r"8-bit integers.*Received: 'net' with floats. Take tfc.quantize\(model, 'int8'"),
        ("int8_weights", "microcontroller", {}, "Received: 'net' with integer weights with float activations"),
        (None, "microcontroller", {"precision": "float16"}, "with float16 weights"),
        ("int8", "microcontroller", {"batch_size": None}, "a fixed batch for target 'microcontroller'"),
        ("int8", "microcontroller", {"sparse": True}, "TFLite Micro doesn't read sparse weights"),
        ("int8", "microcontroller", {"prefer": "size"}, "whose kernels read weights of 8 bits"),
        ("int8", "server-cpu", {}, r"a .onnx file for target 'server-cpu'. Received: a .tflite file"),
        ("int8", "microcontroler", {}, "Did you mean 'microcontroller'"),
    ],
)
def test_what_a_target_cannot_do(config, target, how, message, tmp_path):
    given = model() if config is None else quantized(config)
    with pytest.raises(ValueError, match=message):
        tfc.export(given, tmp_path / "m.tflite", target=target, verify=False, **how)
    assert not list(tmp_path.iterdir())


def refused(made, path):
    tfc.export(made, path, target="microcontroller", verify=False)


def test_layers_without_an_operator_are_named_with_the_way_round(tmp_path):
    inputs = keras.Input((4,), name="x")
    gelu = keras.Model(inputs, layers.Dense(2, activation="gelu", name="hidden")(inputs))
    with pytest.raises(ValueError, match=r"Received: 'hidden', which needs GELU: TFLite Micro .* Take silu"):
        refused(gelu, tmp_path / "m.tflite")
    ops = keras.Model(inputs, keras.ops.gelu(layers.Dense(2)(inputs)))
    with pytest.raises(ValueError, match="which needs GELU"):
        refused(ops, tmp_path / "m.tflite")
    free = keras.Model(wide := keras.Input((None, 4), name="x"), layers.Dense(2)(wide))
    with pytest.raises(ValueError, match=r"inputs of fixed sizes.*'x' of shape \(None, None, 4\)"):
        refused(free, tmp_path / "m.tflite")
    blocks = tfc.quantize(keras.Sequential([keras.Input((32,)), layers.Dense(2, name="y")]), "int4_blockwise")
    with pytest.raises(ValueError, match="Received: blocks of 32, at layer 'y'"):
        tfc.export(blocks, tmp_path / "m.onnx", target="server-gpu", verify=False)
    assert not list(tmp_path.iterdir())


def test_states_without_a_word_are_refused(tmp_path):
    inputs = keras.Input(batch_shape=(1, 4, 3), name="x")
    streaming = keras.Model(inputs, layers.SimpleRNN(2, stateful=True, name="cell")(inputs))
    with pytest.raises(ValueError, match="'cell'.*stateful='io'"):
        refused(streaming, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["microcontroller", "ethos-u55-128"])
def test_a_runtime_that_is_not_installed_is_told_before_any_work(target, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"tflite-micro.*pip install 'tfcompress\[mcu\]'"):
        tfc.export(quantized(), tmp_path / "m.tflite", target=target)
    assert not list(tmp_path.iterdir())


def test_operators_that_only_the_file_shows(tmp_path):
    embedding = keras.Sequential([keras.Input((3,), dtype="int32"), layers.Embedding(9, 2, name="words")])
    with pytest.raises(ValueError, match=r"Received: SELECT of layer 'words'"):
        refused(embedding, tmp_path / "m.tflite")
    recurrent = keras.Sequential([keras.Input((4, 3), name="x"), layers.SimpleRNN(2, name="cell"), layers.Dense(2)])
    sequences = np.random.default_rng(0).normal(size=(8, 4, 3)).astype("float32")
    with pytest.raises(ValueError, match="one scale for what DEQUANTIZE.*2 at layer 'simple_rnn_cell'.*per_tensor"):
        refused(tfc.quantize(recurrent, "int8", data=sequences), tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_an_operator_that_computes_the_same_is_taken(tmp_path):
    selu = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(2, activation="selu")])
    here = tfc.export(selu, tmp_path / "here.tflite", target="microcontroller", verify=False)
    there = tfc.export(selu, tmp_path / "there.tflite", verify=False)
    names = [{op.name for op in operators(one.path.read_bytes())} for one in (here, there)]
    assert "SELECT_V2" in names[0] - names[1]
    assert "SELECT" in names[1] - names[0]
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    np.testing.assert_array_equal(*(open_runner(one.path).predict(x) for one in (here, there)))


def test_weights_are_in_types_that_the_target_reads(tmp_path):
    four = quantized("w4a8")
    stored = {}
    for target in ("server-gpu", "server-cpu"):
        artifact = tfc.export(four, tmp_path / f"{target}.onnx", target=target, weights="coded", opset=21, verify=False)
        stored[target] = {one.form for one in artifact.weights}
    assert "INT4" in stored["server-cpu"] - stored["server-gpu"]
    with pytest.raises(ValueError, match="stored in 8 bits, as target 'server-gpu'.*int4 at layer 'y'"):
        check_widths([StoredWeight("y", 4, "int4")], tfc.targets.get("server-gpu"))


def test_the_npu_of_a_target_is_known(tmp_path):
    artifact = tfc.export(quantized(), tmp_path / "m.tflite", target="ethos-u65-256", verify=False)
    assert artifact.accelerator == "ethos-u65-256"
