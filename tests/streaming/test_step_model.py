"""Step functions against the whole model, on long signals."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tfc
from tfcompress.streaming.step_model import StepModel, stepwise

RANDOM = np.random.default_rng(3)


def model_of(*parts: keras.layers.Layer, shape: Any = (None, 3)) -> keras.Model:
    """Return a sequential model with biases that aren't zero."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(shape), *parts])
    model.set_weights([RANDOM.normal(size=each.shape) * 0.5 for each in model.get_weights()])
    return model


def signal(frames: int, *features: int) -> np.ndarray:
    """Return noise of one sample."""
    return np.random.default_rng(7).normal(size=(1, frames, *(features or (3,)))).astype("float32")


def along(step: StepModel, x: np.ndarray) -> np.ndarray:
    """Return what a step model with one output that has frames gives, joined."""
    return np.concatenate(list(tfc.Stream(step).steps(x)), axis=1)


def check_frames(model: keras.Model, frames: int, x: np.ndarray) -> StepModel:
    """Assert that the stream is the whole model's output, as late as said, and that it isn't so before."""
    step = stepwise(model, frames)
    ((_, delay),) = step.delay.items()
    ((_, warm_up),) = step.warm_up.items()
    made, whole = along(step, x), np.asarray(model(x))
    places = np.arange(warm_up, min(made.shape[1], whole.shape[1] + delay))
    assert len(places) > 5
    np.testing.assert_allclose(made[:, places], whole[:, places - delay], rtol=1e-5, atol=1e-5)
    if warm_up > max(delay, 0):
        assert np.abs(made[:, warm_up - 1] - whole[:, warm_up - 1 - delay]).max() > 1e-4
    return step


FRAMED: dict[str, tuple[keras.layers.Layer, ...]] = {
    "causal": (
        layers.Conv1D(4, 3, padding="causal", activation="relu"),
        layers.Conv1D(3, 3, dilation_rate=2, padding="causal"),
        layers.BatchNormalization(),
    ),
    "valid": (layers.Conv1D(4, 3), layers.ReLU(), layers.DepthwiseConv1D(4), layers.Dense(2)),
    "same": (layers.Conv1D(4, 4, padding="same"), layers.SeparableConv1D(3, 5, padding="same")),
    "padded": (layers.ZeroPadding1D((2, 0)), layers.Conv1D(4, 3), layers.LayerNormalization()),
    "padded around": (layers.ZeroPadding1D(1), layers.Conv1D(4, 3), layers.Cropping1D((2, 1))),
    "recurrent": (
        layers.Conv1D(4, 2, padding="causal"),
        layers.LSTM(3, return_sequences=True),
        layers.GRU(2, return_sequences=True),
        layers.SimpleRNN(2, return_sequences=True),
    ),
}


@pytest.mark.parametrize(
    ("kind", "frames"), [("causal", 1), *((kind, 1 + place % 3) for place, kind in enumerate(FRAMED, 1))]
)
def test_a_stream_is_the_whole_model_on_a_long_signal(kind: str, frames: int) -> None:
    parts = [type(layer).from_config(layer.get_config()) for layer in FRAMED[kind]]
    check_frames(model_of(*parts), frames, signal(30))


def test_delays_and_warm_up_are_those_of_the_windows() -> None:
    causal = stepwise(model_of(layers.Conv1D(2, 5, padding="causal")))
    valid = stepwise(model_of(layers.Conv1D(2, 5)))
    same = stepwise(model_of(layers.Conv1D(2, 5, padding="same")))
    found = [(*step.delay.values(), *step.warm_up.values()) for step in (causal, valid, same)]
    assert found == [(0, 0), (4, 4), (2, 2)]


def test_strides_take_as_many_frames_as_they_skip() -> None:
    parts = (
        layers.Conv1D(4, 4, strides=2, padding="causal"),
        layers.MaxPooling1D(2),
        layers.AveragePooling1D(3, 1),
        layers.Conv1D(2, 3, padding="same"),
    )
    step = check_frames(model_of(*parts), 4, signal(80))
    assert next(iter(step.model.output.values())).shape[1] == 1


def test_branches_wait_for_the_latest() -> None:
    inputs = keras.Input((None, 3))
    first = layers.Conv1D(3, 3, padding="same")(inputs)
    second = layers.Conv1D(3, 5, padding="same")(first)
    check_frames(keras.Model(inputs, layers.Add()([inputs, first, second])), 2, signal(30))


def test_two_axes_of_which_time_is_the_first() -> None:
    parts = (
        layers.ZeroPadding2D(((4, 0), (1, 1))),
        layers.Conv2D(4, (5, 4), (1, 2)),
        layers.Conv2D(3, 3, padding="same"),
        layers.Reshape((-1, 4, 3)),
    )
    check_frames(model_of(*parts[:3], shape=(None, 8, 1)), 1, signal(20, 8, 1))


@pytest.mark.parametrize(
    ("parts", "frames", "window"),
    [
        ((layers.Conv1D(3, 3), layers.GlobalAveragePooling1D(), layers.Dense(2)), 2, 16),
        ((layers.Conv1D(3, 4, strides=2), layers.Flatten(), layers.Dense(2)), 2, 15),
        ((layers.Conv1D(3, 2), layers.Permute((2, 1)), layers.GlobalMaxPooling1D()), 1, 9),
    ],
)
def test_what_reads_all_frames_reads_the_latest_window(parts: Any, frames: int, window: int) -> None:
    model = model_of(*(type(layer).from_config(layer.get_config()) for layer in parts), shape=(window, 3))
    step, x = stepwise(model, frames), signal(40)
    (delay,), (warm_up,) = step.delay.values(), step.warm_up.values()
    made = list(tfc.Stream(step).steps(x))
    compared = 0
    for place in range(warm_up, len(made)):
        end = (place + 1) * frames - delay
        if end <= x.shape[1]:
            np.testing.assert_allclose(made[place], model(x[:, end - window : end]), rtol=1e-5, atol=1e-5)
            compared += 1
    assert compared > 5 and warm_up == -(-(window + delay) // frames) - 1


def test_the_last_step_of_a_recurrent_layer_goes_on() -> None:
    model = model_of(layers.LSTM(4), layers.Dense(2))
    step, x = stepwise(model), signal(12)
    last = list(tfc.Stream(step).steps(x))[-1]
    np.testing.assert_allclose(last, model(x), rtol=1e-5, atol=1e-5)
    assert "since the stream began" in step.notes[0]


def test_several_inputs_and_outputs() -> None:
    one, two = keras.Input((None, 3), name="one"), keras.Input((None, 3), name="two")
    x = layers.Conv1D(3, 3, padding="causal", name="sum")(layers.Add()([one, two]))
    model = keras.Model([one, two], {"x": x, "y": layers.Dense(1, name="y")(one)})
    stream = tfc.Stream(stepwise(model, 2))
    a, b = signal(8), signal(8) + 1
    made = [stream({"one": a[:, at : at + 2], "two": b[:, at : at + 2]}) for at in range(0, 8, 2)]
    whole = model([a, b])
    assert len(made[0]) == 2
    for name, key in zip(sorted(made[0], reverse=True), ("y", "x"), strict=True):
        np.testing.assert_allclose(np.concatenate([each[name] for each in made], 1), whole[key], rtol=1e-5, atol=1e-5)


def test_the_model_given_stays_as_it_is() -> None:
    model = model_of(layers.Conv1D(3, 3, padding="causal", name="conv"), layers.LSTM(2, name="last"))
    before = model.get_config()
    stepwise(model)
    assert model.get_config() == before


def test_a_quantized_model_stays_whole_numbers() -> None:
    inputs = keras.Input((None, 3))
    first = layers.Conv1D(8, 3, padding="causal", activation="relu")(inputs)
    second = layers.Conv1D(8, 3, dilation_rate=2, padding="causal")(first)
    model = keras.Model(inputs, layers.Dense(4, name="out")(layers.ReLU()(layers.Add()([first, second]))))
    quantized = tfc.quantize(model, "int8", np.random.default_rng(0).normal(size=(16, 20, 3)).astype("float32"))
    step, x = stepwise(quantized, 4), signal(40)
    np.testing.assert_allclose(along(step, x), quantized(x), atol=1e-6)
    for form in ("tflite", "onnx"):
        assert {one.arithmetic for one in tfc.plan_export(step.model, form).operators} == {"integer"}


@pytest.mark.parametrize(
    ("parts", "shape", "frames", "told"),
    [
        ((layers.Bidirectional(layers.LSTM(2, return_sequences=True)),), (None, 3), 1, "reads all later frames"),
        ((layers.LSTM(2, go_backwards=True),), (None, 3), 1, "reads all later frames"),
        ((layers.Conv1D(2, 3), layers.LSTM(2)), (None, 3), 1, "padding='causal'"),
        ((layers.Conv1D(2, 3, strides=2),), (None, 3), 1, "take frames=2"),
        ((layers.GlobalAveragePooling1D(),), (None, 3), 1, "a fixed number"),
        ((layers.Conv1D(2, 3, padding="causal"), layers.Flatten()), (9, 3), 1, "padding='valid'"),
        ((layers.Flatten(),), (4, 3), 6, "at least 6 frames"),
        ((layers.AveragePooling2D(3, 1, padding="same"),), (None, 6, 1), 1, "along another axis"),
        ((layers.ZeroPadding1D((2, 0)), layers.LSTM(2)), (None, 3), 1, "begins with zeros"),
        ((layers.ZeroPadding1D((0, 2)), layers.LSTM(2)), (None, 3), 1, "isn't the last one of its window"),
        ((layers.LSTM(2, return_sequences=True), layers.GlobalMaxPooling1D()), (8, 3), 1, "goes on over windows"),
        ((layers.RNN([layers.GRUCell(2), layers.GRUCell(2)]),), (None, 3), 1, "several cells"),
        ((layers.ConvLSTM1D(2, 3),), (None, 6, 2), 1, "isn't made of vectors"),
        ((layers.Masking(), layers.LSTM(2)), (None, 3), 1, "makes a mask"),
        ((layers.Reshape((-1, 4)),), (None, 8, 1), 1, "a fixed number"),
    ],
)
def test_what_no_step_can_have_is_refused_by_name(parts: Any, shape: Any, frames: int, told: str) -> None:
    model = keras.Sequential([keras.Input(shape), *(type(each).from_config(each.get_config()) for each in parts)])
    with pytest.raises(ValueError, match=told):
        stepwise(model, frames)


def test_masks_of_embeddings_are_refused_by_name() -> None:
    parts = (layers.Embedding(9, 3, mask_zero=True), layers.GRU(2))
    with pytest.raises(ValueError, match="leave mask_zero"):
        stepwise(keras.Sequential([keras.Input((None,), dtype="int32"), *parts]))


def test_constants_with_a_value_for_each_frame_are_refused() -> None:
    inputs = keras.Input((6, 3))
    with pytest.raises(ValueError, match="value for each frame"):
        stepwise(keras.Model(inputs, keras.ops.add(inputs, np.ones((6, 3), "float32"))))
    check_frames(keras.Model(inputs, keras.ops.add(inputs, np.ones((1, 3), "float32"))), 1, signal(6))


def test_a_shared_layer_keeps_its_padding() -> None:
    inputs = keras.Input((None, 4, 2))
    shared = layers.Conv2D(2, 3, padding="same")
    check_frames(keras.Model(inputs, shared(shared(inputs))), 1, signal(12, 4, 2))


def test_inputs_of_different_lengths_have_windows_of_their_own() -> None:
    one, two = keras.Input((9, 2), name="one"), keras.Input((4, 2), name="two")
    parts = [layers.Dense(1, name=f"out_{x.name}")(layers.Flatten()(x)) for x in (one, two)]
    model = keras.Model([one, two], [*parts, layers.Concatenate(name="both")(parts)])
    step = stepwise(model)
    assert set(step.delay.values()) == {0} and sorted(step.warm_up.values()) == [3, 8, 8]
    stream, a, b = tfc.Stream(step), signal(12, 2), signal(12, 2) + 1
    made = [stream({"one": a[:, at : at + 1], "two": b[:, at : at + 1]}) for at in range(12)]
    np.testing.assert_allclose(made[-1]["both"], model([a[:, 3:], b[:, 8:]])[2], rtol=1e-5, atol=1e-5)


def test_strides_of_a_free_length_are_noted() -> None:
    strided = layers.Conv1D(2, 3, strides=2, padding="same")
    (note,) = check_frames(model_of(strided), 2, signal(24)).notes
    assert "multiple of 2" in note
    again = layers.Conv1D(2, 3, strides=2, padding="same")
    assert not check_frames(model_of(again, shape=(23, 3)), 2, signal(23)).notes


def test_attention_reads_the_latest_window() -> None:
    inputs = keras.Input((6, 4))
    for y in (
        layers.Add()([inputs, layers.Attention()([inputs, inputs])]),
        layers.MultiHeadAttention(2, 2)(inputs, inputs),
        layers.MultiHeadAttention(2, 2)(layers.Conv1D(4, 3)(inputs), inputs),
    ):
        model = keras.Model(inputs, layers.GlobalAveragePooling1D()(y))
        x = signal(9, 4)
        last = list(tfc.Stream(stepwise(model)).steps(x))[-1]
        np.testing.assert_allclose(last, model(x[:, 3:]), rtol=1e-5, atol=1e-5)


def test_layers_made_here_have_the_dtype_of_the_model() -> None:
    model = model_of(layers.Conv1D(4, 3, padding="causal"))
    x = signal(12)
    whole = np.asarray(model(x))
    keras.config.set_dtype_policy("mixed_float16")
    try:
        made = along(stepwise(model), x)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(made, whole, rtol=1e-5, atol=1e-5)


def test_a_model_without_states_is_a_stream_too() -> None:
    check_frames(model_of(layers.Dense(2)), 1, signal(8))
