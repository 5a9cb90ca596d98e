"""The verb: what comes back is an ordinary model, near the one given, that trains, saves and loads."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import but_rare, in_turn
from tests.layers import LAYERS, model_of
from tests.quantization.zoo import ZOO, build, data_of, outputs_of
from tfcompress.core.transform import read
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.graph.batch_norm_freezing import FreezingBatchNorm
from tfcompress.quantization.quantize_config import RECIPES


def targets_of(model, x):
    made = keras.tree.map_structure(np.zeros_like, outputs_of(model, x))
    return made.get("output", made)


def output_of(model, x):
    """Return what a model of one output computes."""
    return outputs_of(model, x)["output"]


def signal_to_noise(values, expected):
    """Return decibels."""
    return 10 * np.log10(np.var(expected) / np.mean(np.square(values - expected)))


def train(model, x, epochs=1, **how):
    model.compile(keras.optimizers.SGD(1e-3), "mse", **how)
    model.fit(x, targets_of(model, x), batch_size=16, epochs=epochs, verbose=0, shuffle=False)


# The layers of "mobile", and two outputs, are compared with files in tests/export/test_quantized.py.
@pytest.mark.parametrize("name", but_rare(ZOO, ("mobile", "two_heads")))
def test_a_quantized_model_is_near_trains_saves_and_strips(name, tmp_path):
    model = build(name)
    x = data_of(model)
    before = [read(v) for v in model.variables]
    expected = outputs_of(model, x)
    quantized = tfc.quantize(model, "int8", x)
    found = outputs_of(quantized, x)
    for label, values in found.items():
        assert 15 < signal_to_noise(values, expected[label]) < 60, label  # near, and yet quantized
    if hasattr(model, "output_names"):
        assert quantized.output_names == model.output_names
    # Three steps take less than to trace one, which is done for the two models of most operators and the longest loop.
    train(quantized, x, run_eagerly=name not in ("residual", "recurrent"))
    trained = outputs_of(quantized, x)
    quantized.save(tmp_path / "q.keras")
    loaded = keras.models.load_model(tmp_path / "q.keras")
    for label, values in outputs_of(loaded, x).items():
        np.testing.assert_array_equal(values, trained[label])
    stripped = tfc.strip(loaded)
    assert not wrapped_layers(stripped) and not activation_quantizers(stripped)
    assert stripped.output_names == quantized.output_names
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, read(variable))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_of_the_pruning_tests_quantizes(name):
    model = model_of(name)
    generator = np.random.default_rng(0)
    shape = (16, *LAYERS[name][1])
    x = generator.integers(0, 20, shape) if name == "embedding" else generator.normal(size=shape).astype("float32")
    quantized = tfc.quantize(model, "int8", x)
    expected, found = output_of(model, x), output_of(quantized, x)
    assert np.abs(found - expected).max() < 0.1 * np.ptp(expected)


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "int4_blockwise"])  # no layer has 32 inputs
def test_recipes(recipe):
    model = build("residual")
    x = data_of(model)
    quantized = tfc.quantize(model, recipe, x)
    error = np.abs(output_of(quantized, x) - output_of(model, x)).max()
    narrow = dict.fromkeys(("w4a8", "int4_weights", "dynamic_int4"), 0.5) | {"int2_weights": 2}
    assert 0 < error < ({"float16": 1e-3, "int16x8": 0.02, "int8_weights": 0.02} | narrow).get(recipe, 0.05)


@pytest.mark.filterwarnings("ignore:No runtime has kernels")
def test_finer_grids_are_nearer():
    model = build("residual")
    x = data_of(model)
    expected = output_of(model, x)
    errors = []
    for bits in (4, 6, 8):
        config = tfc.QuantizeConfig(tfc.WeightSpec(bits=bits), tfc.ActivationSpec(bits=bits))
        errors.append(np.square(output_of(tfc.quantize(model, config, x), x) - expected).mean())
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.filterwarnings("ignore:No runtime has kernels")
def test_training_lowers_the_loss_that_coarse_grids_cost():
    keras.utils.set_random_seed(1)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(256, 6)).astype("float32")
    y = np.tanh(x @ generator.normal(size=(6, 2))).astype("float32")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, L.Dense(2)(L.Dense(32, activation="relu")(inputs)))
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, y, epochs=40, verbose=0)
    config = tfc.QuantizeConfig(tfc.WeightSpec(bits=3), tfc.ActivationSpec(bits=4, range="ema"))
    quantized = tfc.quantize(model, config, x)
    # Steps that get smaller: else weights end on whichever side of a rounding's edge the last step left them.
    quantized.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, 320)), "mse")
    before = quantized.evaluate(x, y, verbose=0)
    quantized.fit(x, y, epochs=40, verbose=0)
    assert quantized.evaluate(x, y, verbose=0) < 0.85 * before


# With XLA a layer that learns its range is trained in the tests of its numbers.
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.rare)])
def test_ranges_are_learned_without_calibration(jit):
    model = build("residual")
    x = data_of(model)
    quantized = tfc.quantize(model)
    assert not any(q.calibrated for q in activation_quantizers(quantized) if q.learns)
    train(quantized, x, jit_compile=jit)
    assert all(q.calibrated for q in activation_quantizers(quantized))


@pytest.mark.parametrize("recipe", ["int8", "dynamic_int8"])
def test_an_input_that_is_an_output_too_stays_itself(recipe, tmp_path):
    inputs = keras.Input((8,), name="s")
    model = keras.Model(inputs, {"p": L.Dense(3, activation="relu", name="d")(inputs), "same": inputs})
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    quantized = tfc.quantize(model, recipe, x)
    assert [t.name for t in quantized.inputs] == ["s"]
    assert quantized.output_names == model.output_names == ["d", "s"]
    made = quantized.predict(x, verbose=0)
    np.testing.assert_array_equal(made["same"], x)
    for file in ("m.tflite", "m.onnx"):
        artifact = tfc.export(quantized, tmp_path / file)
        assert set(artifact.inputs) == {"s"} and set(artifact.outputs) == {"p", "same"}
        np.testing.assert_array_equal(artifact.predict(x)["same"], x)


def test_only_behind_a_relu_is_the_minimum_known():
    inputs = keras.Input((8,))
    x = keras.layers.Dense(4, activation="relu", name="positive")(inputs)
    x = keras.layers.Dense(4, name="signed")(x)
    outputs = keras.layers.LeakyReLU(name="leaky")(x)
    quantized = tfc.quantize(keras.Model(inputs, outputs), "int8")
    known = {q.source: q.nonnegative for q in activation_quantizers(quantized)}
    assert [source for source, holds in known.items() if holds] == ["positive_relu"]


def test_without_ranges_activations_stay_float():
    model = build("residual")
    x = data_of(model)
    only_weights = tfc.QuantizeConfig(activations=None)
    np.testing.assert_allclose(
        output_of(tfc.quantize(model), x),
        output_of(tfc.quantize(model, only_weights), x),
        atol=1 / 256,  # softmax's range is fixed
    )


@pytest.mark.on_jax
def test_zeros_of_a_pruned_model_stay_in_training():
    inputs = keras.Input((6, 6, 3))
    y = L.ReLU()(L.BatchNormalization()(L.SeparableConv2D(4, 3)(inputs)))
    model = keras.Model(inputs, L.Dense(5)(L.GlobalAveragePooling2D()(y)))
    x = data_of(model)
    pruned = tfc.prune(model, tfc.ConstantSparsity(0.5, frequency=1))
    pruned(x, training=True)
    quantized = tfc.quantize(pruned, "int8", x)
    train(quantized, x, epochs=2)
    masks = 0
    for layer in wrapped_layers(quantized):
        for position, transform in layer.transforms:
            if type(transform).__name__ == "Mask":
                masks += 1
                seen = keras.ops.convert_to_numpy(layer.transformed()[position])
                assert np.all(seen[~read(transform.mask)] == 0)
    assert masks == 3  # the separable convolution has two kernels
    assert tfc.sparsity(quantized) >= 0.49


def test_frozen_ranges_and_batch_normalization(tmp_path):
    model = build("residual")
    x = data_of(model)
    config = tfc.QuantizeConfig(freeze_ranges_step=3, freeze_batch_norm_step=6)
    quantized = tfc.quantize(model, config, x)

    def state():
        ranges = [q.range for q in activation_quantizers(quantized)]
        norms = [layer for layer in quantized._flatten_layers() if isinstance(layer, FreezingBatchNorm)]
        return ranges, [read(layer.layer.moving_mean).tolist() for layer in norms]

    assert len(state()[1]) == 2
    train(quantized, x, run_eagerly=True)  # three steps
    first = state()
    train(quantized, x, run_eagerly=True)  # three more: ranges stay, statistics move
    second = state()
    quantized.save(tmp_path / "q.keras")
    quantized = keras.models.load_model(tmp_path / "q.keras")
    train(quantized, x)  # traced
    third = state()
    assert first[0] == second[0] == third[0]
    assert first[1] != second[1] and second[1] == third[1]
    assert not any(isinstance(layer, FreezingBatchNorm) for layer in tfc.strip(quantized)._flatten_layers())


def test_first_aid_switches_help_a_badly_scaled_net():
    model = build("residual")
    x = data_of(model, 96)
    generator = np.random.default_rng(0)
    inputs = keras.Input((8, 8, 3))
    first, second = L.Conv2D(8, 3, name="first", activation="relu"), L.Conv2D(8, 3, name="second", activation="relu")
    out = L.Dense(4, name="out")(L.GlobalAveragePooling2D()(second(first(inputs))))
    model = keras.Model(inputs, out)
    factors = np.exp(generator.uniform(-3, 3, 8)).astype("float32")  # channels of very different size
    first.kernel.assign(read(first.kernel) * factors)
    second.kernel.assign(read(second.kernel) / factors[None, None, :, None])
    x = generator.normal(size=(64, 8, 8, 3)).astype("float32")
    expected = output_of(model, x)

    def error(**switches):
        return np.square(output_of(tfc.quantize(model, "int8_per_tensor", x, **switches), x) - expected).mean()

    plain = error()
    assert error(equalize=True) < 0.5 * plain
    assert error(correct_bias=True) < plain


def test_reestimation_moves_the_statistics_of_batch_normalization():
    model = build("residual")
    x = data_of(model)
    config = tfc.QuantizeConfig(tfc.WeightSpec(bits=4), tfc.ActivationSpec())
    plain = tfc.quantize(model, config, x)
    again = tfc.quantize(model, config, x, reestimate_batch_norm=True)
    assert (
        np.abs(read(plain.get_layer("stem_norm").moving_mean) - read(again.get_layer("stem_norm").moving_mean)).max()
        > 0
    )


def test_mixed_precision():
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        model = build("residual")
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    x = data_of(model)
    quantized = tfc.quantize(model, "int8", x)
    train(quantized, x)
    assert quantized.predict(x, verbose=0).dtype == np.float16
    assert all(
        keras.backend.standardize_dtype(q.ends.dtype) == "float32" for q in activation_quantizers(quantized) if q.learns
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, x: tfc.quantize("m"), TypeError, r"Expected .*keras\.Model"),
        (lambda m, x: tfc.quantize(keras.Sequential([L.Dense(2)])), ValueError, "Expected a built model"),
        (lambda m, x: tfc.quantize(m, "int9"), ValueError, "Did you mean 'int8'"),
        (lambda m, x: tfc.quantize(m, layers="stim"), ValueError, "Did you mean 'stem'"),
        (lambda m, x: tfc.quantize(m, layers="stem_relu"), ValueError, "Expected layers with a kernel"),
        (lambda m, x: tfc.quantize(tfc.quantize(m)), ValueError, "Expected a model that isn't quantized yet"),
        (
            lambda m, x: tfc.quantize(m, correct_bias=True),
            ValueError,
            "Expected data with correct_bias=True",
        ),
        (lambda m, x: tfc.quantize(m, "int8", x[:0]), ValueError, "Expected at least one batch"),
        (
            lambda m, x: tfc.quantize(keras.Sequential([keras.Input((3,)), L.ELU()]), "int8_weights"),
            ValueError,
            "Expected a model with layers to quantize",
        ),
    ],
)
def test_bad_input(call, error, message):
    model = build("residual")
    with pytest.raises(error, match=message):
        call(model, data_of(model))


FALLBACKS = {
    "recurrent": (
        (6, 3),
        lambda: [L.LSTM(4, activation="relu", name="a"), L.RepeatVector(6), L.GRU(3, name="b")],
        {"a", "b"},
    ),
    "three dimensions": ((4, 4, 4, 2), lambda: [L.Conv3D(3, 2, name="a")], {"a"}),
    "channels first": ((3, 8, 8), lambda: [L.Conv2D(4, 3, data_format="channels_first", name="a")], {"a"}),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_a_model_of_float_fallbacks_alone_says_so(name, tmp_path):
    shape, layers, fallbacks = FALLBACKS[name]
    model = keras.Sequential([keras.Input(shape), *layers()], name="m")
    x = np.random.default_rng(0).normal(size=(8, *shape)).astype("float32")
    with pytest.warns(UserWarning, match="No activation of 'm' is quantized, since no layer .* has an integer kernel"):
        quantized = tfc.quantize(model, "int8", x)
    quantized.save(tmp_path / "q.keras")
    for one in (quantized, keras.models.load_model(tmp_path / "q.keras")):
        shown = tfc.summary(one)
        assert set(shown.fallbacks) == fallbacks
        assert all("float fallback: " in row.status for row in shown.rows if row.layer in fallbacks)
        assert f"{len([r for r in shown.rows if r.fallback])} float fallback" in str(shown)
        with pytest.raises(ValueError, match="no layer of 'm' that is quantized has an integer kernel"):
            tfc.export(one, tmp_path / "m.tflite", inference_io="int8")
    assert not tfc.summary(tfc.quantize(model, "int8_weights")).fallbacks


def test_weights_that_are_not_finite_are_named():
    model = build("residual")
    model.get_layer("stem").kernel.assign(np.full((3, 3, 3, 8), np.nan, "float32"))
    with pytest.raises(ValueError, match="of layer 'stem', which holds NaN"):
        tfc.quantize(model)


def test_a_model_that_keras_has_quantized():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="d")])
    model.get_layer("d").quantize("int8")
    verbs = (tfc.quantize, lambda m: tfc.prune(m, 0.5), lambda m: tfc.prune_once(m, 0.5), tfc.shrink, tfc.sparsity)
    x = np.ones((4, 4), "float32")
    verbs += (lambda m: tfc.calibrate(m, x), lambda m: tfc.sensitivity(m, (x, x[:, 0])), tfc.mixed_precision)
    verbs += (lambda m: tfc.check_float16(m, x),)
    for verb in verbs:
        with pytest.raises(ValueError, match=r"layer 'd', quantized by Keras itself \(int8\).*exported as it is"):
            verb(model)
    assert "quantized by Keras itself" in str(tfc.summary(model))
    teacher = keras.Sequential([keras.Input((4,)), L.Dense(3)])
    with pytest.raises(ValueError, match=r"layer 'd', quantized by Keras itself \(int8\), whose kernels are integers"):
        tfc.distill(model, teacher)
    tfc.distill(teacher, model)  # a teacher may be


@pytest.mark.parametrize("policy", ["float8_from_float32", "int4_from_mixed_bfloat16", "int8_from_float32"])
def test_layers_that_a_policy_of_keras_quantizes(policy, tmp_path):
    layers = [L.Embedding(5, 4, name="e"), L.EinsumDense("abc,cd->abd", (None, 3), name="d", dtype=policy)]
    model = keras.Sequential([keras.Input((4,), dtype="int32"), *layers])
    said = rf"layer 'd', quantized by Keras itself \({policy.split('_')[0]}\)"
    for verb in (tfc.quantize, lambda m: tfc.prune_once(m, 0.5), tfc.full_precision):
        with pytest.raises(ValueError, match=said):
            verb(model)
    assert "quantized by Keras itself" in " ".join(row.status for row in tfc.summary(model).rows)
    if policy.startswith("float8"):
        for suffix in (".tflite", ".onnx"):
            with pytest.raises(ValueError, match=f"numbers TFLite and ONNX have. Received: {said}"):
                tfc.export(model, tmp_path / f"m{suffix}")


@pytest.mark.parametrize(("mode", "suffix"), in_turn(["int8", "int4"], [".tflite", ".onnx"]))
def test_what_keras_has_quantized_is_exported_and_said_to_be_so(mode, suffix, tmp_path):
    model = keras.Sequential([keras.Input((4,)), L.Dense(6, "relu", name="one"), L.Dense(3, name="two")])
    for layer in model.layers:
        layer.quantize(mode)
    artifact = tfc.export(model, tmp_path / f"model{suffix}")
    assert f"Layers that Keras itself quantized ({mode}: one, two) are {artifact.precision} in" in artifact.notes[0]
