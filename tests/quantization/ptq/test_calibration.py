"""Ranges from data: the same as computed by hand, from data of any kind, and nothing else than data."""

from __future__ import annotations

import gc
import weakref
import zipfile

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW, but_rare
from tests.quantization.zoo import build, data_of
from tfcompress.core.replicas import predict_on_batch
from tfcompress.core.transform import read
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.ptq import calibration
from tfcompress.quantization.ptq.calibration import find_ranges
from tfcompress.quantization.weights.uniform import WeightQuantizer


def model_of():
    keras.utils.set_random_seed(5)
    inputs = keras.Input((6,), name="x")
    x = L.Dense(8, activation="relu", name="hidden")(inputs)
    return keras.Model(inputs, L.Dense(3, name="out")(x))


def samples(count=100, scale=1.0):
    return (np.random.default_rng(2).normal(size=(count, 6)) * scale).astype("float32")


def config(how):
    return tfc.QuantizeConfig(activations=tfc.ActivationSpec(range=how, percentile=99.0))


def ranges_of(model):
    return {q.source: q.range for q in activation_quantizers(model)}


@pytest.mark.on_jax
def test_minmax_is_what_the_float_activations_reach():
    model, x = model_of(), samples()
    quantized = tfc.quantize(model, config("minmax"), x)
    found = ranges_of(quantized)
    np.testing.assert_allclose(found["x"], (x.min(), x.max()), rtol=1e-6)
    kernel = np.asarray(keras.ops.convert_to_numpy(quantized.get_layer("hidden").transformed()[0]))
    hidden = np.maximum(x @ kernel + read(model.get_layer("hidden").bias), 0)
    np.testing.assert_allclose(found["hidden_relu"], (0, hidden.max()), rtol=1e-5)


def test_kernels_that_are_read_where_the_float_model_is_traced():
    keras.utils.set_random_seed(5)
    inputs = keras.Input((6,), name="x")
    hidden = L.Dense(8, activation="tanh")(L.Dense(8, activation="gelu")(inputs))
    model = keras.Model(inputs, L.Dense(3, name="out")(hidden))
    low, high = ranges_of(tfc.quantize(model, "int8", samples()))["out"]
    outputs = model.predict(samples(), verbose=0)
    np.testing.assert_allclose((low, high), (outputs.min(), outputs.max()), atol=0.05)


def test_ranges_are_those_of_inference_also_of_a_layer_that_trains_where_nothing_is_said():
    class Augmented(L.Layer):
        def call(self, x, training=True):
            return 100.0 * x if training else x

    model = keras.Sequential([keras.Input((4,)), Augmented(name="augmented"), L.Dense(2)])
    x = np.linspace(-3, 5, 32, dtype="float32").reshape(8, 4)
    found = ranges_of(tfc.quantize(model, config("minmax"), x))
    assert found["augmented"] == pytest.approx((-3, 5), abs=0.1)


def test_all_of_a_free_number_of_steps_are_seen_behind_a_mask():
    inputs = keras.Input((None, 2))
    steps = L.TimeDistributed(L.Dense(2, kernel_initializer="identity"), name="steps")
    model = keras.Model(inputs, L.Dense(1, kernel_initializer="ones")(steps(L.Masking()(inputs))))
    x = np.arange(1, 13, dtype="float32").reshape(1, 6, 2)
    assert ranges_of(tfc.quantize(model, config("minmax"), x))["steps"][1] == pytest.approx(12, rel=0.01)


@pytest.mark.on_jax
def test_ema_is_the_average_of_the_batches():
    x = samples(64)
    spec = tfc.ActivationSpec(range="ema", momentum=0.5)
    quantized = tfc.quantize(model_of(), tfc.QuantizeConfig(activations=spec), x)
    low, high = (np.average([end(x[:32]), end(x[32:])], weights=[1, 2]) for end in (np.min, np.max))
    np.testing.assert_allclose(ranges_of(quantized)["x"], (low, high), rtol=1e-5)


def cuts(x):
    """The same samples in other batches and orders."""
    shuffled = np.random.default_rng(0).permutation(x)
    return [(x, 32), (x, 1), (x[::-1], 32), (shuffled, 32), (x, len(x) - 1), ([x[:3], x[3:]], 32)]


# Each estimator has such a test of its own in tests/quantization/ranges/test_histograms.py.
@pytest.mark.parametrize(
    "how", but_rare([None, "minmax", "percentile", "mse", "entropy"], ("minmax", "percentile", "entropy"))
)
def test_one_set_of_data_gives_one_range_however_it_is_cut_and_ordered(how):
    x = np.sort(np.random.default_rng(0).lognormal(0, 1, (70, 6)).astype("float32"), axis=0)
    made = config(how) if how else "int8"
    found = [ranges_of(tfc.quantize(model_of(), made, data, batch_size=size)) for data, size in cuts(x)]
    for other in found[1:]:
        for source, expected in found[0].items():
            np.testing.assert_allclose(other[source], expected, rtol=1e-5, err_msg=source)
    if how is None:
        assert found[0]["x"] == (0.0, x.max())


@pytest.mark.parametrize(("how", "sizes"), [("minmax", [4] * 25), ("ema", [32, 32, 32, 4])])
def test_batches_of_very_large_tensors_are_cut(how, sizes, monkeypatch):
    model, x, seen = tfc.quantize(model_of(), config(how), samples()), samples(), []
    before = ranges_of(model)

    def watched(observer, batch, *rest):
        seen.append(len(batch[0]))
        return predict_on_batch(observer, batch, *rest)

    monkeypatch.setattr(calibration, "predict_on_batch", watched)
    monkeypatch.setattr(calibration, "LARGEST", 7 * 8 * 4)  # the hidden layer's output for seven samples
    find_ranges(model, x, 32)
    assert (seen, ranges_of(model)) == (sizes, before)


def test_a_range_of_large_targets_is_not_cut_off():
    """A moving average of each batch's extremes doubled the error here; "minmax" costs next to nothing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 4)).astype("float32")
    y = np.exp(x @ rng.normal(0, 0.7, (4, 1))).astype("float32")
    model = keras.Sequential([keras.Input((4,)), L.Dense(32, "relu"), L.Dense(32, "relu"), L.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(x, y, batch_size=100, epochs=12, verbose=0)

    def error(candidate):
        return float(np.sqrt(np.mean(np.square(keras.ops.convert_to_numpy(candidate(x)) - y))))

    order = np.argsort(y[:, 0])
    for data, size in ((x, 32), (x[order], 32), (x[order][::-1], 32), (x, 4)):
        assert error(tfc.quantize(model, "int8", data, batch_size=size)) < error(model) + 0.01 * y.std()


def test_calibration_reads_what_is_there_and_leaves_nothing_behind():
    quantized = tfc.quantize(model_of(), "int8", samples())
    nodes = [len(layer._inbound_nodes) for layer in quantized._flatten_layers()]
    tfc.calibrate(quantized, samples())
    assert [len(layer._inbound_nodes) for layer in quantized._flatten_layers()] == nodes


@pytest.mark.skipif(not ON_TENSORFLOW, reason="counts TensorFlow's traces")
def test_one_trace_serves_batches_of_all_sizes_and_holds_no_transforms_of_weights(monkeypatch):
    quantized, made = tfc.quantize(model_of(), "int8"), []
    apply = WeightQuantizer.apply
    monkeypatch.setattr(WeightQuantizer, "apply", lambda self, value: made.append(value) or apply(self, value))
    find_ranges(quantized, samples(100), batch_size=32)
    assert len(made) == 2
    function = next(value for name, value in vars(quantized).items() if name.endswith("_observer")).predict_function
    assert function.experimental_get_tracing_count() == 1


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="looks at TensorFlow's graphs")
def test_calibrating_again_and_again_keeps_no_graph():
    def graphs():
        gc.collect()
        return sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects())

    quantized, x = tfc.quantize(model_of(), "int8"), samples()
    tfc.calibrate(quantized, x)
    before = graphs()
    for _ in range(3):
        tfc.calibrate(quantized, x)
    assert graphs() <= before


def test_what_calibration_keeps_goes_with_the_model_and_into_no_file(tmp_path):
    quantized, x = tfc.quantize(model_of(), "int8", samples()), samples()
    tfc.calibrate(quantized, x)
    quantized.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), quantized.predict(x, verbose=0))
    assert len(loaded.variables) == len(quantized.variables)
    assert not any(
        "observer" in name for name in zipfile.ZipFile(tmp_path / "m.keras").read("config.json").decode().split('"')
    )
    kept = weakref.ref(quantized)
    del quantized
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("recipe", ["int8", "int16x8"])
def test_an_activation_that_is_always_zero_is_named_and_exact(recipe):
    model = model_of()
    model.get_layer("hidden").bias.assign(np.full(8, -100.0, "float32"))
    model.get_layer("out").bias.assign(np.float32([0.5, -1.0, 2.0]))
    with pytest.warns(UserWarning, match="nothing but zeros from 'hidden_relu' on the calibration data"):
        quantized = tfc.quantize(model, recipe, samples())
    assert ranges_of(quantized)["hidden_relu"] == (-1.0 if recipe == "int16x8" else 0.0, 1.0)
    np.testing.assert_allclose(
        quantized.predict(samples(), verbose=0), model.predict(samples(), verbose=0), rtol=0, atol=0.01
    )
    with pytest.warns(UserWarning, match="nothing but zeros from 'x', 'hidden_relu'"):
        tfc.calibrate(quantized, np.zeros((4, 6), "float32"))


def test_a_range_that_no_tflite_file_holds_is_widened_and_named(tmp_path):
    model = model_of()
    for weight in model.get_layer("hidden").weights:
        weight.assign(weight * 3e-8)
    with pytest.warns(UserWarning, match="span 1.01e-06 at least.*less from 'hidden_relu'"):
        quantized = tfc.quantize(model, "int8", samples())
    low, high = ranges_of(quantized)["hidden_relu"]
    assert low == 0 and high == pytest.approx(1.01e-6)
    if not ON_TENSORFLOW:
        return
    step = high / 255
    for file in [tfc.export(quantized, tmp_path / f"m{suffix}") for suffix in (".tflite", ".onnx")]:
        np.testing.assert_allclose(file.predict(samples()), quantized.predict(samples(), verbose=0), atol=step)


@pytest.mark.parametrize("how", ["percentile", "entropy"])
def test_outliers_are_cut_off(how):
    x = samples(2000)
    x[7] = 400.0
    quantized = tfc.quantize(model_of(), config(how), x)
    assert 1.0 < ranges_of(quantized)["x"][1] < 200


@pytest.mark.on_jax
def test_data_of_any_kind_gives_the_same_ranges():
    x = samples(96)
    expected = ranges_of(tfc.quantize(model_of(), "int8", x))

    class Sequence(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return x[index * 32 : index * 32 + 32], np.zeros(32)

    pieces = [x[:32], x[32:64], x[64:]]
    for data in ({"x": x}, pieces, iter(pieces), lambda: iter(pieces), [(p, np.zeros(32)) for p in pieces], Sequence()):
        assert ranges_of(tfc.quantize(model_of(), "int8", data)) == expected


def test_several_inputs_by_name_or_in_order():
    model = build("two_heads")
    data = data_of(model, 32)
    by_name = ranges_of(tfc.quantize(model, "int8", data))
    assert ranges_of(tfc.quantize(model, "int8", [data["image"], data["meta"]])) == by_name
    assert ranges_of(tfc.quantize(model, "int8", [(data, np.zeros(32))])) == by_name


def test_calibrating_anew_forgets_the_old_ranges():
    quantized = tfc.quantize(model_of(), config("minmax"), samples(scale=10.0))
    tfc.calibrate(quantized, samples())
    assert ranges_of(quantized) == ranges_of(tfc.quantize(model_of(), config("minmax"), samples()))


def test_calibration_changes_nothing_but_ranges():
    quantized = tfc.quantize(model_of())
    before = [read(v) for v in quantized.trainable_variables]
    tfc.calibrate(quantized, samples())
    for old, variable in zip(before, quantized.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, read(variable))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, 6), "float32"), "Expected at least one batch of data. Received: none"),
        (iter([]), "Expected at least one batch of data. Received: none"),
        (np.zeros((4, 5), "float32"), r"Expected batches of shape \(None, 6\) for input 'x'. Received: \(4, 5\)"),
        ({"y": np.zeros((4, 6))}, r"Expected one array for each of the inputs \['x'\]. Received: \['y'\]"),
        ({"x": samples(4), "z": samples(4)}, r"Received: \['x', 'z'\]"),
        (7, "Expected an array, or something that yields batches"),
        ("data.npz", "Expected an array, or something that yields batches. Received: data of type str"),
        ([samples(4), samples(0)], "at least one sample in every batch. Received: batch 1, counted from 0, with none"),
        (np.full((4, 6), "a"), r"Expected real numbers for input 'x'. Received: dtype <U1. Convert it with .astype"),
        (np.full((4, 6), None), "Expected real numbers for input 'x'. Received: dtype object"),
        (np.ones((4, 6), "complex64"), "Expected real numbers for input 'x'. Received: dtype complex64"),
        (np.full((4, 6), np.nan, "float32"), "Expected finite numbers in input 'x'. Received: NaN in row 0, column 0"),
    ],
)
def test_data_that_does_not_serve(data, message):
    quantized = tfc.quantize(model_of(), "int8", samples())
    before = ranges_of(quantized)
    with pytest.raises(ValueError, match=message):
        tfc.calibrate(quantized, data)
    assert ranges_of(quantized) == before


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True, "8"])
def test_batch_sizes_that_are_none(batch_size):
    for call in (
        lambda: tfc.quantize(model_of(), "int8", samples(), batch_size=batch_size),
        lambda: tfc.calibrate(tfc.quantize(model_of()), samples(), batch_size=batch_size),
    ):
        with pytest.raises(ValueError, match="Expected batch_size to be an integer of at least 1. Received: b"):
            call()


@pytest.mark.on_jax
def test_inputs_of_one_batch_hold_as_many_samples():
    model = build("two_heads")
    data = data_of(model, 8)
    with pytest.raises(ValueError, match=r"Expected as many samples for each input, or rows"):
        tfc.quantize(model, "int8", [{"image": data["image"], "meta": data["meta"][:7]}])


def test_the_layer_that_overflows_is_named():
    model = model_of()
    model.get_layer("hidden").kernel.assign(np.full((6, 8), 3e38, "float32"))
    with pytest.raises(ValueError, match="from 'hidden_relu' on the calibration data"):
        tfc.quantize(model, "int8", np.abs(samples()) + 1)
    model.get_layer("hidden").kernel.assign(np.full((6, 8), 0.1, "float32"))
    with pytest.raises(ValueError, match=r"Received: -3e\+38 to 3e\+38 from 'x' on the .* no float32 range holds"):
        tfc.quantize(model, "int8", np.float32([[3e38] * 6, [-3e38] * 6]))


def test_models_without_ranges():
    with pytest.raises(ValueError, match="Expected a model with ranges of activations to find"):
        tfc.calibrate(model_of(), samples())
    with pytest.raises(ValueError, match="Expected a model with ranges of activations to find"):
        tfc.calibrate(tfc.quantize(model_of(), "int8_weights"), samples())
    with pytest.raises(TypeError, match=r"to be a keras\.Model"):
        tfc.calibrate("model", samples())
    with pytest.raises(ValueError, match="Expected calibration data"):
        tfc.calibrate(tfc.quantize(model_of()), None)


class Summed(keras.layers.Layer):
    """Adds up what may be none."""

    def call(self, x):
        return keras.ops.sum(x, axis=1)


def test_data_may_hold_none_of_something():
    inputs = keras.Input((4,)), keras.Input((None, 4))
    outputs = keras.layers.Dense(3)(keras.layers.Dense(4)(inputs[0]) + Summed()(inputs[1]))
    model = keras.Model(inputs, outputs)
    x = [np.random.default_rng(0).normal(size=(16, 4)).astype("float32"), np.zeros((16, 0, 4), "float32")]
    with pytest.warns(UserWarning, match="nothing but zeros from 'summed'"):
        quantized = tfc.quantize(model, "int8", data=x)
    np.testing.assert_allclose(quantized(x), model(x), atol=0.1)


@pytest.mark.on_jax
def test_states_are_those_of_the_data_alone_and_left_as_they_were():
    x = np.random.default_rng(0).normal(size=(6, 3, 2)).astype("float32")
    layers = [keras.Input(batch_shape=(1, 3, 2)), L.GRU(3, stateful=True, name="memory"), L.Dense(2)]
    model = tfc.quantize(keras.Sequential(layers), "int8", data=x)
    memory = model.get_layer("memory")
    assert not np.any(memory.states[0])
    found = [quantizer.range for quantizer in activation_quantizers(model)]
    model(x[:1])
    before = np.array(memory.states[0])
    tfc.calibrate(model, x)
    assert [quantizer.range for quantizer in activation_quantizers(model)] == found
    np.testing.assert_array_equal(memory.states[0], before)
