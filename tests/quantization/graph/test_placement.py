"""Where quantizers stand, pattern by pattern: the names are those of the layers behind which one stands."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tfcompress.export.tflite.flatbuffer import operators
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.graph.insert_quantizers import MARGIN

IMAGE = (8, 8, 4)


def sources(make, shape=IMAGE, config="int8", layers=None, dtype=None):
    inputs = keras.Input(shape, name="x", dtype=dtype)
    return {
        q.source for q in activation_quantizers(tfc.quantize(keras.Model(inputs, make(inputs)), config, layers=layers))
    }


def conv(name="c", **how):
    return L.Conv2D(4, 1, name=name, **how)


PATTERNS = {
    "conv": (conv(), {"x", "c"}),
    "conv relu": (lambda x: L.ReLU(name="r")(conv()(x)), {"x", "r"}),
    "conv relu6 inside": (conv(activation="relu6"), {"x", "c_relu6"}),
    "conv bn": (lambda x: L.BatchNormalization(name="b")(conv()(x)), {"x", "b"}),
    "conv bn relu": (lambda x: L.ReLU(name="r")(L.BatchNormalization()(conv()(x))), {"x", "r"}),
    "conv relu bn": (lambda x: L.BatchNormalization(name="b")(L.ReLU(name="r")(conv()(x))), {"x", "r", "b"}),
    "bn first": (lambda x: conv()(L.BatchNormalization(name="b")(x)), {"x", "b", "c"}),
    "bn after pooling": (
        lambda x: L.BatchNormalization(name="b")(L.MaxPooling2D()(conv()(x))),
        {"x", "c", "b"},
    ),
    "rescaling, normalization": (
        lambda x: conv()(L.Normalization(mean=0.5, variance=2.0, name="n")(L.Rescaling(0.1)(x))),
        {"x", "n", "c"},
    ),
    "scale after conv": (lambda x: ops.multiply(conv()(x), 0.5), {"x", "multiply"}),
    "add relu": (lambda x: L.ReLU(name="r")(L.Add()([conv("a")(x), conv("b")(x)])), {"x", "a", "b", "r"}),
    "operators": (lambda x: L.Identity()(conv("a")(x) - conv("b")(x)), {"x", "a", "b", "subtract"}),
    "concat of convs": (lambda x: L.Concatenate(name="j")([conv("a")(x), conv("b")(x)]), {"x", "j"}),
    "concat of a shared one": (
        lambda x: L.Concatenate(name="j")([(y := conv("a")(x)), conv("b")(y)]),
        {"x", "a", "j"},
    ),
    "concat of a float layer": (
        lambda x: L.Concatenate(name="j")([L.LayerNormalization(name="n")(conv("a")(x)), conv("b")(x)]),
        {"x", "a", "j"},
    ),
    "moved values": (
        lambda x: conv("b")(L.ZeroPadding2D()(L.UpSampling2D()(L.MaxPooling2D()(conv("a")(x))))),
        {"x", "a", "b"},
    ),
    "slices": (lambda x: conv("b")(conv("a")(x)[:, 1:, 2:]), {"x", "a", "b"}),
    "input that is moved first": (lambda x: conv()(L.ZeroPadding2D()(x)), {"x", "c"}),
    "softmax": (lambda x: L.Softmax(name="s")(conv()(x)), {"x", "c", "s"}),
    "swish": (conv(activation="silu"), {"x", "c", "c_sigmoid", "c_silu"}),
    "relu alone": (lambda x: L.ReLU(name="r")(L.AveragePooling2D(2, name="p")(x)), {"x", "p", "r"}),
    "a float layer": (lambda x: conv("b")(L.LayerNormalization(name="n")(conv("a")(x))), {"x", "a", "n", "b"}),
    "a float layer at the end": (lambda x: L.LayerNormalization()(conv("a")(x)), {"x", "a"}),
    "a float layer first": (lambda x: conv("b")(L.Activation("selu", name="e")(x)), {"e", "b"}),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern):
    make, expected = PATTERNS[pattern]
    found = {
        "multiply" if s.startswith("multiply") else "subtract" if s.startswith("subtract") else s for s in sources(make)
    }
    # An output's name goes to its quantizer; the source is what it was before.
    assert found == expected


def test_an_embedding_lies_on_the_grid_of_its_rows():
    found = sources(lambda x: L.Dense(3, name="d")(L.Embedding(9, 4)(x)), (5,), dtype="int32")
    assert found == {"d"}


def test_ranges_that_the_runtimes_fix():
    inputs = keras.Input((4,))
    x = L.Dense(4, activation="tanh", name="t")(L.Dense(4, activation="sigmoid", name="s")(inputs))
    model = keras.Model(inputs, L.Dense(4, activation="softmax", name="p")(x))
    fixed = {q.source: q.fixed for q in activation_quantizers(tfc.quantize(model))}
    assert fixed["s_sigmoid"] == fixed["p_softmax"] == (0.0, 255 / 256)
    assert fixed["t_tanh"] == (-1.0, 127 / 128)
    assert fixed["p"] is None
    wide = {q.source: q.fixed for q in activation_quantizers(tfc.quantize(model, "int16x8"))}
    assert wide["s_sigmoid"] == wide["t_tanh"] == (-32767 / 32768, 32767 / 32768)


def test_layers_that_are_left_out_are_float_fallbacks():
    def make(x):
        return conv("b")(L.Conv2D(4, 1, name="a", activation="relu")(conv("first")(x)))

    assert sources(make, layers=["first", "b"]) == {"x", "first", "a", "b"}
    inputs = keras.Input(IMAGE)
    quantized = tfc.quantize(keras.Model(inputs, make(inputs)), layers=["first", "b"])
    assert tfc.summary(quantized).fallbacks == ("a",)
    assert "relu" in quantized.get_layer("a").activation.__name__


KERNEL_LESS = {
    "joined": L.Concatenate,
    "average": L.Average,
    "leaky": L.LeakyReLU,
    "silu": lambda **k: L.Activation("silu", **k),
    "pool": lambda **k: L.MaxPooling2D(2, **k),
    "norm": L.BatchNormalization,
}


@pytest.mark.parametrize("name", KERNEL_LESS)
def test_a_layer_without_a_kernel_is_kept_float(name, tmp_path):
    layer = KERNEL_LESS[name](name="kept")
    inputs = keras.Input(IMAGE, name="x")
    x = layer([conv("a")(inputs), conv("b")(inputs)] if name in ("joined", "average") else conv("a")(inputs))
    model = keras.Model(inputs, {"kept": x, "out": L.Dense(2, name="out")(L.Flatten()(x))})
    data = np.random.default_rng(0).normal(size=(32, *IMAGE)).astype("float32")
    layers = "(?!kept$).*" if name == "leaky" else lambda layer: layer.name != "kept"
    tfc.quantize(model, "int8", data, layers=layers).save(tmp_path / "q.keras")
    quantized = keras.models.load_model(tmp_path / "q.keras")
    kept = [row for row in tfc.summary(quantized).rows if row.fallback]
    assert [(row.layer, row.status) for row in kept] == [("kept", "float: left out by layers=")]
    for suffix in ("tflite", "onnx"):
        parity = tfc.export(quantized, tmp_path / f"m.{suffix}", verify=data[:8]).parity.outputs
        assert parity["kept"].scale is None and parity["kept"].max_abs < 1e-5
        assert parity["out"].max_steps < 0.01  # between float numbers and a kernel nothing is rounded otherwise
    computing = [op for op in operators((tmp_path / "m.tflite").read_bytes()) if op.name not in ("QUANTIZE", "RESHAPE")]
    assert any(op.inputs[0] == "FLOAT32" for op in computing)
    assert type(tfc.strip(quantized).get_layer("kept")) is type(layer)


def test_a_choice_of_kernels_alone_takes_the_other_layers_along():
    def make(x):
        return conv("b")(L.ReLU(name="relu")(conv("a")(x)))

    everything = sources(make)
    for layers in ("[ab]", L.Conv2D, lambda layer: isinstance(layer, L.Conv2D)):
        assert sources(make, layers=layers) == everything
    inputs = keras.Input(IMAGE)
    quantized = tfc.quantize(keras.Model(inputs, make(inputs)), layers=["a", "b", "input.*|x"])
    assert tfc.summary(quantized).fallbacks == ("relu",)


def test_dynamic_ranges_stand_before_kernels_only():
    found = sources(lambda x: L.Add()([conv("a")(x), x]), config="dynamic_int8")
    assert found == {"a"}
    assert sources(lambda x: L.DepthwiseConv2D(3)(conv("a")(x)), config="dynamic_int8") == {"a"}


def test_weight_only_has_no_ranges():
    assert sources(conv(), config="int8_weights") == set()


def test_the_summary_names_the_float_fallbacks():
    inputs = keras.Input(IMAGE)
    x = L.Activation("selu", name="selu")(conv("a")(inputs))
    x = L.Conv2D(3, 3, name="b")(L.LayerNormalization(name="norm")(x))
    quantized = tfc.quantize(keras.Model(inputs, x))
    shown = tfc.summary(quantized)
    assert shown.fallbacks == ("selu", "norm")
    assert "2 float fallbacks" in str(shown)
    assert all("no integer kernel" in row.status for row in shown.rows if row.fallback)
    assert {row.layer: row.bits for row in shown.rows if row.weight} == {"a": 8, "b_linear": 8}


def test_learned_ranges_of_what_an_input_reaches_are_wider():
    inputs = keras.Input(IMAGE, name="x")
    x = L.Normalization(mean=0.5, variance=2.0, name="n")(L.Rescaling(0.1)(inputs))
    x = L.BatchNormalization(name="b")(conv()(x))
    quantized = tfc.quantize(keras.Model(inputs, L.ReLU(name="r")(L.BatchNormalization()(L.MaxPooling2D()(x)))))
    margins = {q.source: q.margin for q in activation_quantizers(quantized)}
    assert margins == {"x": MARGIN, "n": MARGIN, "b": 0.0, "r": 0.0}


def by_hand(x):
    """Instance normalization in operations; a channel that hardly varies has a variance that no grid of 8 bits has."""
    c = conv()(x)
    centred = c - ops.mean(c, axis=(1, 2), keepdims=True)
    variance = ops.mean(ops.square(centred), axis=(1, 2), keepdims=True) + 1e-6
    return L.Conv2D(2, 1, name="last")(centred / ops.sqrt(variance))


def by_inverse(x):
    c = conv()(x)
    return L.Conv2D(2, 1, name="last")(c * ops.rsqrt(ops.maximum(ops.sum(c * c, axis=-1, keepdims=True), 1e-9)))


@pytest.mark.parametrize(("make", "note"), [(by_hand, "divided by it"), (by_inverse, "by an inverse")])
def test_what_is_divided_by_stays_float(make, note):
    keras.utils.set_random_seed(1)
    inputs = keras.Input(IMAGE)
    model = keras.Model(inputs, make(inputs))
    x = np.random.default_rng(0).normal(size=(8, *IMAGE)).astype("float32")
    x[:2] *= 1e-3
    quantized = tfc.quantize(model, "int8", x)
    new, old = np.array(quantized(x)), np.array(model(x))
    assert np.isfinite(new).all()  # of what is all but constant too, of which the grid before has no more than that
    assert np.corrcoef(new[2:].ravel(), old[2:].ravel())[0, 1] > 0.99
    assert any(note in row.status for row in tfc.summary(quantized).rows)
