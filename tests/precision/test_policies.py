"""Bad input, and which device gets which policy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tests.precision import networks
from tests.precision.networks import floats, precisions
from tfcompress.precision import devices, policies
from tfcompress.precision.devices import Device


@pytest.mark.parametrize(
    ("policy", "error", "message"),
    [
        ("mixed_fp16", ValueError, "Did you mean 'mixed_float16'"),
        ("mixed_bf16", ValueError, "Did you mean 'mixed_bfloat16'"),
        ("float16", ValueError, "keeps the weights in 16 bits too. Did you mean 'mixed_float16'"),
        ("bfloat16", ValueError, "keeps the weights in 16 bits too. Did you mean 'mixed_bfloat16'"),
        ("int8", ValueError, "'int8'. Did you mean"),
        (keras.DTypePolicy("float64"), ValueError, "'float64'. Did you mean 'float32'"),
        (16, TypeError, "a name or a keras.DTypePolicy. Received: 16"),
        (keras.dtype_policies.DTypePolicyMap(), TypeError, "`keep_float32`"),
    ],
)
def test_unknown_policies(policy, error, message):
    with pytest.raises(error, match=message):
        tfc.mixed_precision(networks.mlp(), policy)


def test_a_policy_of_keras():
    mixed = tfc.mixed_precision(networks.mlp(), keras.DTypePolicy("mixed_bfloat16"))
    assert precisions(mixed)["hidden"] == "bfloat16"


@pytest.mark.parametrize("verb", [lambda m: tfc.mixed_precision(m, "mixed_bfloat16"), tfc.full_precision])
def test_what_is_no_built_model_of_floats(verb):
    with pytest.raises(TypeError, match="keras.Model"):
        verb(3)
    with pytest.raises(ValueError, match="built"):
        verb(keras.Sequential([L.Dense(3)]))
    model = networks.mlp()
    model.get_layer("hidden").quantize("int8")
    with pytest.raises(ValueError, match="'hidden', quantized by Keras itself"):
        verb(model)


@pytest.mark.filterwarnings("ignore:mixed_float16 is slow on a CPU:UserWarning")
def test_weights_beyond_float16():
    model = networks.mlp()
    kernel = model.layers[0].kernel
    kernel.assign(np.where(np.arange(6) == 2, 70000.0, 1.0) * np.ones((8, 6)))
    with pytest.raises(ValueError, match="Received: 70000.0 in 'hidden/kernel'. Name that layer in keep_float32"):
        tfc.mixed_precision(model, "mixed_float16")
    assert precisions(tfc.mixed_precision(model, "mixed_float16", keep_float32="hidden"))["hidden"] == "float32"
    assert precisions(tfc.mixed_precision(model, "mixed_bfloat16"))["hidden"] == "bfloat16"


@pytest.mark.filterwarnings("ignore:mixed_float16 is slow on a CPU:UserWarning")
def test_what_is_never_cast_may_be_beyond_float16():
    layers = [keras.Input((8,)), L.Dense(4), L.BatchNormalization(name="norm"), L.Dense(2, name="last")]
    model = keras.Sequential(layers)
    model.get_layer("norm").moving_variance.assign(np.full(4, 1e6))
    model.get_layer("last").bias.assign(np.full(2, 1e6))
    mixed = tfc.mixed_precision(model, "mixed_float16")
    np.testing.assert_allclose(mixed.predict(floats(4, 8), verbose=0), 1e6, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:mixed_float16 is slow on a CPU:UserWarning")
def test_an_embedding_beyond_float16():
    model = keras.Sequential(
        [keras.Input((3,), dtype="int32"), L.Embedding(4, 2, name="words"), L.Flatten(), L.Dense(1)]
    )
    model.layers[0].embeddings.assign(np.full((4, 2), 1e5))
    with pytest.raises(ValueError, match="'words/embeddings'"):
        tfc.mixed_precision(model, "mixed_float16")


def test_calibrated_ranges():
    model, x = networks.mlp(), floats(32, 8)
    calibrated = tfc.quantize(model, "int8", x)
    with pytest.raises(ValueError, match="without calibrated ranges.*Cast first, then quantize"):
        tfc.mixed_precision(calibrated, "mixed_bfloat16")
    trained = tfc.quantize(model, "int8")
    assert precisions(tfc.mixed_precision(trained, "mixed_bfloat16"))["hidden"] == "bfloat16"
    trained.compile("sgd", "mse")
    trained.fit(x, x[:, :3], verbose=0)
    with pytest.raises(ValueError, match="calibrated ranges"):
        tfc.mixed_precision(trained, "mixed_bfloat16")


@pytest.mark.parametrize(
    ("device", "policy"),
    [
        (Device("gpu", (7, 0)), "mixed_float16"),
        (Device("gpu", (9, 0)), "mixed_float16"),
        (Device("gpu", (6, 1)), "float32"),
        (Device("gpu", None), "float32"),
        (Device("tpu"), "mixed_bfloat16"),
        (Device("cpu", None, ("AVX512-BF16",)), "mixed_bfloat16"),
        (Device("cpu", None, ("AMX",)), "mixed_bfloat16"),
        (Device("cpu", None, ()), "float32"),
        (Device("cpu", None, None), "float32"),
        (Device(""), "float32"),
    ],
)
def test_auto_says_which_and_why(device, policy, monkeypatch, capsys):
    monkeypatch.setattr(policies, "device", lambda: device)
    mixed = tfc.mixed_precision(networks.mlp(), "auto")
    assert precisions(mixed)["hidden"] == policy.removeprefix("mixed_")
    assert capsys.readouterr().out == f"mixed_precision: {policy}, since Keras runs on {device}.\n"
    keras.config.disable_interactive_logging()
    try:
        tfc.mixed_precision(networks.mlp(), "auto")
    finally:
        keras.config.enable_interactive_logging()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("device", "policy", "message"),
    [
        (Device("gpu", (6, 0)), "mixed_float16", "compute capability 6.0.*come with compute capability 7.0"),
        (Device("gpu", (7, 5)), "mixed_bfloat16", "come with compute capability 8.0"),
        (Device("cpu", None, ()), "mixed_bfloat16", "neither AVX512-BF16 nor AMX.*emulated"),
        (Device("cpu", None, ("AMX",)), "mixed_float16", "'auto', which is 'mixed_bfloat16' here"),
    ],
)
def test_a_slow_device_is_a_warning(device, policy, message, monkeypatch):
    monkeypatch.setattr(policies, "device", lambda: device)
    with pytest.warns(UserWarning, match=message):
        tfc.mixed_precision(networks.mlp(), policy)


@pytest.mark.on_jax
def test_a_device_that_cannot(monkeypatch):
    monkeypatch.setattr(policies, "why_it_fails", lambda dtype: f"no dot product of {dtype}")
    with pytest.raises(ValueError, match="can run. Received: 'mixed_bfloat16'.*no dot product of bfloat16"):
        tfc.mixed_precision(networks.mlp(), "mixed_bfloat16")


def test_auto_falls_back_to_float32(monkeypatch, capsys):
    monkeypatch.setattr(policies, "device", lambda: Device("cpu", None, ("AMX",)))
    monkeypatch.setattr(policies, "why_it_fails", lambda dtype: "no kernel")
    mixed = tfc.mixed_precision(networks.mlp())
    assert {layer.compute_dtype for layer in mixed.layers} == {"float32"}
    assert "float32, since on a CPU with AMX a product of matrices in mixed_bfloat16 fails: no kernel" in (
        capsys.readouterr().out
    )


@pytest.mark.on_jax
@pytest.mark.filterwarnings("ignore:mixed_float16 is slow on a CPU:UserWarning")
def test_a_layer_that_the_device_cannot_run():
    if ON_TENSORFLOW:  # has no such kernel on a CPU
        inputs = keras.Input((4, 4, 4, 2))
        x = L.MaxPooling3D(name="the_one")(L.Conv3D(2, 1)(inputs))
        model = keras.Model(inputs, L.Dense(2)(L.Flatten()(x)))
    else:
        model = networks.transformer()
    with pytest.raises(ValueError, match="can run. Received: 'mixed_float16', with which '(the_one|flash|dot_prod)"):
        tfc.mixed_precision(model, "mixed_float16")


@pytest.mark.on_jax
def test_of_this_machine():
    here = devices.device()
    assert here.kind == "cpu"
    assert devices.why_it_fails("bfloat16") == ""
    assert devices.why_it_fails("no_such_type")


def test_instructions_of_a_cpu(tmp_path):
    file = tmp_path / "cpuinfo"
    for text, found in [
        ("flags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n", ("AVX512-BF16", "AMX")),
        ("flags : fpu avx2 avx512f\n", ()),
        ("Features : asimd bf16\n", None),
    ]:
        file.write_text(f"processor : 0\n{text}bugs : x\n")
        assert devices.cpu_instructions(str(file)) == found
    assert devices.cpu_instructions(str(tmp_path / "none")) is None
