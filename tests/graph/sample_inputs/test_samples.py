"""What samples hold that a model is tried on."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tfcompress.graph import rebuild
from tfcompress.graph.sample_inputs.contents import contents
from tfcompress.graph.sample_inputs.input_paths import CALIBRATED, NOISE, Content
from tfcompress.graph.sample_inputs.samples import draw, random_inputs


def model_of(*layers, shape=(4,), dtype=None):
    inputs = x = keras.Input(shape, dtype=dtype, name="x")
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def columns(count=200):
    """In 0..1, about 50, about 36,000, and 0 or 1."""
    random = np.random.default_rng(0)
    parts = [random.random(count), random.normal(50, 10, count), random.lognormal(10.5, 0.3, count)]
    return np.stack([*parts, random.integers(0, 2, count)], axis=-1).astype("float32")


def ends(x):
    axes = tuple(range(x.ndim - 1))
    return x.min(axes), x.max(axes)


@pytest.mark.filterwarnings("ignore:Channels of")
def test_calibrated_ranges_of_each_channel(tmp_path):
    x = columns()
    model = tfc.quantize(model_of(L.Dense(3)), "int8", x)
    for found in (
        model,
        tfc.quantize(model_of(L.Normalization(mean=[0, 50, 4e4, 0], variance=[1, 100, 1e8, 1]), L.Dense(2)), "int8", x),
    ):
        made = random_inputs(found, 200)
        np.testing.assert_allclose(ends(made), ends(x), rtol=1e-5)
        assert set(made[:, 3]) == {0, 1}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(random_inputs(loaded), random_inputs(model))
    for file in ("model.tflite", "model.onnx"):
        artifact = tfc.export(loaded, tmp_path / file)
        assert "16 samples drawn from the calibrated range of each channel" in str(artifact)


@pytest.mark.filterwarnings("ignore:Channels of")
def test_ranges_do_not_depend_on_how_data_is_cut():
    x = columns()
    whole, cut = (tfc.quantize(model_of(L.Dense(3)), "int8", x, batch_size=size) for size in (200, 7))
    assert contents(whole)[0].low.tolist() == contents(cut)[0].low.tolist()
    tfc.calibrate(cut, x * 2)
    assert contents(cut)[0].high.tolist() == (2 * contents(whole)[0].high).tolist()


def test_normalization_and_batch_normalization():
    x = columns(2000)[:, :3]
    layer = L.Normalization()
    layer.adapt(x)
    norm = L.BatchNormalization()
    model = model_of(norm, L.Dense(1), shape=(3,))
    norm.moving_mean.assign(x.mean(0))
    norm.moving_variance.assign(x.var(0))
    for one in (model, model_of(layer, L.Dense(1), shape=(3,))):
        made = random_inputs(one, 2000)
        np.testing.assert_allclose(made.mean(0), x.mean(0), rtol=0.1)
        np.testing.assert_allclose(made.std(0), x.std(0), rtol=0.1)
    fresh = model_of(L.BatchNormalization(), L.Dense(1))
    assert contents(fresh)[0].about == NOISE.about


@pytest.mark.parametrize(
    "name",
    ["rescaling", "centred", "rescaling_layer_in_model", "divided", "minus", "imagenet", "uint8"],
)
def test_pixels(name):
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    rescaling = L.Rescaling(1 / 255)
    front = {
        "rescaling": rescaling,
        "centred": L.Rescaling(1 / 127.5, -1),
        "rescaling_layer_in_model": keras.Sequential([keras.Input((8, 8, 3)), L.RandomFlip(), rescaling]),
        "divided": lambda x: x / 255.0,
        "minus": lambda x: x - 117.0,
        "imagenet": lambda x: (x / 255.0 - mean) / deviation,
        "uint8": lambda x: ops.cast(x, "float32") / 127.5 - 1,
    }[name]
    dtype = "uint8" if name == "uint8" else "float32"
    made = random_inputs(model_of(front, L.Conv2D(2, 3), shape=(8, 8, 3), dtype=dtype))
    assert (made.min(), made.max()) == (0, 255)
    assert np.all(made == np.rint(made))
    assert made.dtype == dtype


def test_other_scales_and_nothing_known():
    made = random_inputs(model_of(L.Rescaling(1 / 16), L.Dense(1)), 500)
    assert (made.min(), made.max()) == (0, 16)
    made = random_inputs(model_of(L.Dense(1)), 500)
    assert made.min() < -2
    assert abs(made.std() - 1) < 0.1


def test_tables_at_both_ends_and_padding():
    model = model_of(L.Embedding(1000, 4, mask_zero=True), L.LSTM(3), shape=(20,), dtype="int32")
    made = random_inputs(model)
    assert (made.min(), made.max()) == (0, 999)
    lengths = {int(np.max(np.nonzero(row)[0], initial=-1)) + 1 for row in made}
    assert len(lengths) > 3
    assert min(lengths) >= 1
    assert np.all(made[0][1:] != 0) or made[0].any()


@pytest.mark.filterwarnings("ignore:Channels of")
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_columns_of_a_wide_table(dtype):
    """Each column has a table of its own; the last two are numbers."""
    inputs = keras.Input((4,), name="x", dtype=dtype)
    parts = [L.Flatten()(L.Embedding(size, 2)(inputs[:, at : at + 1])) for at, size in enumerate((3, 50))]
    numbers = ops.cast(inputs[:, 2:], "float32")
    model = keras.Model(inputs, L.Dense(1)(L.Concatenate()([*parts, numbers])))
    made = random_inputs(model, 200)
    assert made.max(0)[:2].tolist() == [2, 49]
    assert made.min() == 0
    if dtype == "float32":
        assert np.all(made[:, :2] == np.rint(made[:, :2]))
        assert np.any(made[:, 2:] != np.rint(made[:, 2:]))
        x = np.stack([*np.random.default_rng(0).integers(0, (3, 50), (64, 2)).T, *columns(64)[:, 1:3].T], -1)
        made = random_inputs(tfc.quantize(model, "int8", x.astype("float32")), 300)
        assert made.max(0)[:2].tolist() == [2, 49]
        np.testing.assert_allclose(made.max(0)[2:], x.max(0)[2:], rtol=1e-5)


def test_offset_tables():
    """One table for all columns, each with an offset of its own."""
    offsets = np.int32([0, 10, 15])
    model = model_of(lambda x: x + offsets, L.Embedding(40, 2), shape=(3,), dtype="int32")
    made = random_inputs(model, 400)
    assert made.max(0).tolist() == [39, 29, 24]


@pytest.mark.parametrize(
    "front",
    [L.CategoryEncoding(num_tokens=7, output_mode="one_hot"), lambda x: ops.one_hot(x[:, 0], 7)],
    ids=["encoding", "one_hot"],
)
def test_encodings(front):
    made = random_inputs(model_of(front, L.Dense(1), shape=(1,), dtype="int32"), 100)
    assert (made.min(), made.max()) == (0, 6)


def test_both_sides_of_boundaries():
    boundaries = [-100.0, 3.0, 5000.0]
    made = random_inputs(model_of(L.Discretization(bin_boundaries=boundaries), L.Embedding(4, 2)))
    assert set(np.digitize(made, boundaries).ravel()) == {0, 1, 2, 3}
    made = random_inputs(model_of(lambda x: ops.cast(x > 700.0, "float32"), L.Dense(1)))
    assert 0.2 < np.mean(made > 700) < 0.8


def test_masking_pads():
    made = random_inputs(model_of(L.Masking(-1.0), L.LSTM(2), shape=(10, 3)))
    assert any(np.all(sample[-1] == -1) for sample in made)


def test_values_of_every_dtype():
    for dtype in ("float32", "float16", "bfloat16", "int8", "uint8", "int64", "bool"):
        made = draw((16, 3), dtype, Content("some", 0, 300, "int" in dtype))
        assert made.shape == (16, 3)
        assert made.dtype.name == dtype
    assert draw((16, 3), "int8", Content("some", 0, 300, True)).max() == 127
    assert draw((), "float32").shape == ()


def test_a_copy_that_differs_far_out_is_seen():
    """Standard normal noise stays below 6."""
    model = model_of(L.ReLU(max_value=8.0, name="limit"), L.Dense(2), shape=(16,))
    with pytest.raises(ValueError, match="compute the same"):
        rebuild(model, lambda layer: L.ReLU(name="limit") if isinstance(layer, L.ReLU) else layer)


@pytest.mark.filterwarnings("ignore:Channels of")
def test_what_is_printed(tmp_path):
    artifact = tfc.export(model_of(L.Dense(2)), tmp_path / "a.onnx")
    assert "compared on 16 samples of standard normal noise: nothing is known of the inputs" in str(artifact)
    artifact = tfc.export(model_of(L.Dense(2)), tmp_path / "b.onnx", verify=np.ones((5, 4)))
    assert "compared on 5 samples of the data given" in str(artifact)
    model = model_of(L.Rescaling(1 / 255), L.Dense(2))
    assert "pixels from 0 to 255, as 'rescaling" in str(tfc.export(model, tmp_path / "c.tflite"))
    assert contents(tfc.quantize(model, "int8", np.float32(columns())))[0].about == CALIBRATED
