"""Models whose inputs leave sizes free are tried with sizes that suit them, by every verb."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.check import but_rare
from tfcompress.graph import rebuild
from tfcompress.graph.inputs.declared import given_shapes, inputs_given
from tfcompress.graph.inputs.sizes import NoSizeFits, candidates, find_sizes, hints_of
from tfcompress.graph.sample_inputs.samples import random_inputs

pytestmark = pytest.mark.filterwarnings("ignore:The structure of `inputs`")


def image():
    """Sees 14 pixels."""
    inputs = x = keras.Input((None, None, 3))
    for _ in range(3):
        x = L.Conv2D(4, 5, activation="relu")(x)
    return keras.Model(inputs, L.Dense(2)(L.MaxPooling2D(2)(x)))


def cropped():
    inputs = keras.Input((None, 4))
    x = L.Conv1D(4, 1)(inputs)
    x = x + L.Conv1D(4, 11, dilation_rate=4, padding="same", activation="relu")(x)
    return keras.Model(inputs, L.Dense(3, activation="softmax")(L.Cropping1D(500)(x)))


def pooled():
    """Gives NaN, rather than an error, for what is too short."""
    inputs = keras.Input((None, 4))
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling1D()(L.Conv1D(4, 11, dilation_rate=30)(inputs))))


def deep():
    """Makes in between, of what is too small, tensors without entries, whose mean in TensorFlow is any number."""
    inputs = x = keras.Input((None, None, 1))
    for _ in range(4):
        x = L.MaxPooling2D(2)(x)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(L.Conv2D(2, 5)(x))))


def together():
    inputs = [keras.Input((None, 3), name=name) for name in "ab"]
    return keras.Model(inputs, L.Dense(2)(inputs[0] + inputs[1]))


def half():
    first, second = keras.Input((None, None, 3), name="a"), keras.Input((None, None, 2), name="b")
    return keras.Model([first, second], L.Conv2D(2, 3)(L.Concatenate()([L.MaxPooling2D(2)(first), second])))


def one_less():
    first, second = keras.Input((None, 3), name="a"), keras.Input((None, 3), name="b")
    return keras.Model([first, second], L.Dense(2)(first[:, 1:] + second))


@keras.saving.register_keras_serializable("tests")
class Positions(L.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=(50, 4), name="table")

    def call(self, x):
        return x + self.table


def as_long_as_a_weight():
    inputs = keras.Input((None, 4))
    return keras.Model(inputs, L.Dense(2)(Positions()(inputs)))


def fixed_batch(size):
    inputs = keras.Input(batch_shape=(size, 5, 4))
    return keras.Model(inputs, L.Dense(2)(inputs) + ops.arange(size, dtype="float32")[:, None, None])


MODELS = {
    "image": image,
    "cropped": cropped,
    "pooled": pooled,
    "together": together,
    "half": half,
    "one_less": one_less,
    "as_long_as_a_weight": as_long_as_a_weight,
    "batch_1": lambda: fixed_batch(1),
    "batch_4": lambda: fixed_batch(4),
}


@pytest.mark.parametrize("name", MODELS)
def test_samples_suit_the_model(name):
    model = MODELS[name]()
    outputs = model(random_inputs(model), training=False)
    assert np.isfinite(outputs).all() and np.size(outputs)
    fixed = model.inputs[0].shape[0]
    assert fixed is None or len(outputs) == fixed


# Verbs take the samples that are made above; what is rare differs in these alone.
@pytest.mark.parametrize("name", but_rare(MODELS, ("half", "cropped", "pooled", "as_long_as_a_weight", "batch_1")))
def test_every_verb_takes_it(name, tmp_path):
    model = MODELS[name]()
    data = random_inputs(model, 8)
    pruned = tfc.prune_once(model, 0.5, scope="flops")
    quantized = tfc.quantize(pruned, "int8", data)
    tfc.mixed_precision(model, "mixed_bfloat16")
    assert tfc.benchmark(model, runs=1, warmup=1).runs == 1
    for exported, file in ((quantized, "model.tflite"), (pruned, "model.onnx")):
        artifact = tfc.export(exported, tmp_path / file)
        assert artifact.parity.samples >= 4, file
        assert artifact.parity.outputs, file
        assert tfc.benchmark(artifact.path, runs=1, warmup=1).runs == 1, file


def test_a_size_with_which_nothing_within_is_empty():
    assert random_inputs(deep(), 2).shape == (2, 128, 128, 1)


def test_channels_of_a_free_size():
    model = image()
    smaller = tfc.shrink(tfc.prune_once(model, 0.5, granularity="channel", scope="flops"))
    assert smaller.count_params() < model.count_params()


def test_fixed_batches_of_calibration_are_full():
    model = fixed_batch(4)
    quantized = tfc.quantize(model, "int8", np.random.default_rng(0).normal(size=(10, 5, 4)).astype("float32"))
    assert quantized.inputs[0].shape == (4, 5, 4)


def test_sizes_that_the_user_gives(tmp_path):
    class Divides(keras.layers.Layer):
        def call(self, x):
            return ops.mean(ops.reshape(x, (-1, 37, ops.shape(x)[1] // 37, 2)), axis=2)

    inputs = keras.Input((None, 2), name="x")
    model = keras.Model(inputs, L.Dense(1)(Divides()(inputs)))
    with pytest.raises(ValueError, match=r"(?s)other sizes.*input_shapes="):
        tfc.export(model, tmp_path / "model.onnx")
    for shapes in ((74, 2), (None, 74, 2), {"x": (74, 2)}, [(74, 2)]):
        assert tfc.export(model, tmp_path / "model.onnx", input_shapes=shapes, overwrite=True).parity.samples == 16
    for wrong in ((74, 3), {"y": (74, 2)}, [(74, 2), (74, 2)]):
        with pytest.raises(ValueError, match="Expected input_shapes"):
            tfc.quantize(model, "int8_weights", input_shapes=wrong)
    for wrong in ((0, 2), 74, "long"):
        with pytest.raises(ValueError, match="Expected input_shapes"):
            tfc.prune(model, 0.5, input_shapes=wrong)


def test_sizes_of_calibration_data_are_tried_first():
    """No size that is tried by itself is a multiple of 37."""
    seen = []

    class Notes(keras.layers.Layer):
        def call(self, x):
            seen.append(x.shape[1])
            return x * 1.0

    inputs = keras.Input((None, 2))
    model = keras.Model(inputs, L.Dense(1)(Notes()(inputs)))
    seen.clear()
    tfc.quantize(model, "int8", np.random.default_rng(0).normal(size=(8, 37, 2)).astype("float32"))
    assert set(seen) <= {None, 37}


def test_what_no_size_suits_says_what_failed_first():
    def run(shapes):
        raise ValueError(f"not {shapes[0][1]}")

    with pytest.raises(NoSizeFits, match="not 32") as caught:
        find_sizes([(2, None)], run)
    assert caught.value.tried > 30


def test_nothing_large_is_made():
    for made in candidates([(1, None, None, 3), (1, None, 8)], [7, 9]):
        assert all(np.prod(shape) <= 2**21 for shape in made)


def test_hints_come_from_weights_and_inputs():
    assert {50, 3} <= set(hints_of(as_long_as_a_weight(), [(None, None, 3)]))


def test_what_is_given_ends_with_the_block():
    with inputs_given((64, 2)):
        assert given_shapes(["x"], [(None, None, 2)]) == [(None, 64, 2)]
        with inputs_given(None, "int32"):
            assert given_shapes(["x"], [(None, None, 2)]) == [(None, 64, 2)]
    assert given_shapes(["x"], [(None, None, 2)]) == [(None, None, 2)]


def test_a_copy_is_compared_at_a_size_that_it_runs_with():
    inputs = keras.Input((None, 2))
    model = keras.Model(inputs, L.Cropping1D(300)(L.Rescaling(3.0)(inputs)))
    with pytest.raises(ValueError, match="compute the same"):
        rebuild(model, lambda layer: L.Rescaling(2.0) if isinstance(layer, L.Rescaling) else layer)
