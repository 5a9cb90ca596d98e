"""Ranges of pixels, however they were scaled and shifted: no point lies between two integers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer, activation_quantizers
from tfcompress.quantization.numerics.nudging import nudge
from tfcompress.quantization.ranges.discrete_values import MOST, DiscreteValues, spacing

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
PREPROCESSING = {
    "pixels / 127.5 - 1": lambda p: p / 127.5 - 1,
    "pixels / 255": lambda p: p / 255,
    "pixels": lambda p: p,
    "pixels - 117": lambda p: p - 117,
    "ImageNet": lambda p: (p / 255 - MEAN) / DEVIATION,
    "MNIST": lambda p: (p / 255 - 0.1307) / 0.3081,
    "one deviation": lambda p: (p - 127.5) / 58,
    "a deviation each": lambda p: (p - 127.5) / np.float32([58.0, 57.0, 57.5]),
    "mean alone": lambda p: p - np.float32([103.939, 116.779, 123.68]),
    "inverted": lambda p: 1 - p / 255,
    "negative": lambda p: p / 255 - 1,
}
ON_INTEGERS = ("pixels / 255", "pixels", "pixels - 117", "inverted", "negative")
PLACES = {
    "pixels / 127.5 - 1": lambda: L.Rescaling(1 / 127.5, -1.0),
    "pixels / 255": lambda: L.Rescaling(1 / 255),
    "pixels - 117": lambda: L.Rescaling(1.0, -117.0),
    "ImageNet": lambda: L.Normalization(mean=MEAN * 255, variance=np.square(DEVIATION * 255)),
}


def pixels(most=255, count=16):
    return np.random.default_rng(0).integers(0, most + 1, (count, 10, 10, 3)).astype("float32")


def range_of(x, bits=8, symmetric=False):
    distinct = DiscreteValues()
    for part in np.array_split(x, 3):
        distinct.add(part)
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    return distinct.range(low, high, bits, symmetric)


def places(x, low, high, bits=8, narrow=False):
    """How far each value is from the integer next to it, and how far it reaches beyond the grid, in steps."""
    start, end, scale, _ = map(float, nudge(low, high, bits, narrow))
    steps = x.astype("float64") / scale
    return np.abs(steps - np.rint(steps)), max(start - x.min(), x.max() - end) / scale


@pytest.mark.parametrize("most", [255, 247, 100])
@pytest.mark.parametrize("name", PREPROCESSING)
def test_pixels_fall_on_integers_or_at_least_not_between(name, most):
    x = PREPROCESSING[name](pixels(most)).astype("float32")
    away, beyond = places(x, *range_of(x))
    assert np.sqrt(np.mean(np.square(away))) < (1e-4 if name in ON_INTEGERS else 0.3)
    assert away.max() < 0.4995 and beyond < 0.5
    # A range of the whole scale is that of a few images, too.
    if name in ON_INTEGERS and most == 247:
        everything = PREPROCESSING[name](np.arange(256, dtype="float32")).astype("float32")
        away, beyond = places(everything, *range_of(x))
        assert away.max() < 1e-3 and beyond < 5


@pytest.mark.parametrize("name", PREPROCESSING)
def test_sixteen_bits(name):
    x = PREPROCESSING[name](pixels()).astype("float32")
    found = range_of(x, 16, symmetric=True)
    assert found is None or (found[0] == -found[1] and places(x, *found, 16, narrow=True)[1] < 0.5)
    if len(np.unique(x)) <= 256:
        assert places(x, *found, 16, narrow=True)[0].max() < 0.02


def test_a_few_values_keep_the_whole_grid():
    x = np.repeat([0.0, 1.0], 50)
    assert range_of(x) == pytest.approx((0, 1))
    assert range_of(-x) == pytest.approx((-1, 0))
    assert range_of(np.repeat(np.arange(11.0), 9))[1] == pytest.approx(10, rel=0.03)


def test_the_order_and_the_cut_do_not_count():
    x = PREPROCESSING["ImageNet"](pixels()).astype("float32")
    found = {range_of(part) for part in (x, x[::-1], np.random.default_rng(0).permutation(x))}
    distinct = DiscreteValues()
    for one in x:
        distinct.add(one)
    assert found == {distinct.range(float(x.min()), float(x.max()), 8, False)}


def test_what_is_not_discrete_has_the_range_that_it_had():
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=1000), rng.normal(size=(3000, 4)), np.full(100, 3.0), np.arange(MOST + 2.0)):
        assert range_of(x.astype("float32")) is None
    x = rng.normal(size=(64, 6)).astype("float32")
    inputs = keras.Input((6,))
    quantized = tfc.quantize(keras.Model(inputs, L.Dense(2)(inputs)), "int8", x)
    assert activation_quantizers(quantized)[0].range == (x.min(), x.max())


def test_the_spacing_of_values():
    for unit, start in ((1.0, 0.0), (1 / 127.5, -1.0), (0.3, -7.0), (1e-20, 0.0), (1e20, -3e20)):
        values = (start + unit * np.array([0, 2, 5, 9, 11])).astype("float32")
        assert spacing(values.astype("float64")) == pytest.approx(unit, rel=1e-4)
    assert spacing(np.random.default_rng(0).uniform(size=50).astype("float32").astype("float64")) is None


def network(first=None):
    inputs = x = keras.Input((10, 10, 3))
    x = x if first is None else first()(x)
    x = L.Conv2D(6, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(inputs, L.Dense(4)(L.Flatten()(x)))


@pytest.mark.parametrize(
    ("name", "inside"),
    [*((name, False) for name in list(PREPROCESSING)[:5]), *((name, True) for name in PLACES)],
)
def test_files_equal_the_simulation(name, inside, tmp_path):
    x = pixels(count=32) if inside else PREPROCESSING[name](pixels(count=32)).astype("float32")
    quantized = tfc.quantize(network(PLACES[name] if inside else None), "int8", x[:16])
    quantizer = activation_quantizers(quantized)[0]
    low, high = quantizer.range
    away = np.abs(keras.ops.convert_to_numpy(quantizer(x)) - x) / quantizer.spec.scale(low, high)
    assert away.mean() < 0.3
    # Sums of float32 are a little off, and so one integer in some thousand; between two integers a third of all was.
    least = 0.9 if PLACES.get(name) is PLACES["ImageNet"] and inside else 0.97
    for suffix in ("tflite", "onnx"):
        tfc.export(quantized, tmp_path / f"m.{suffix}")
        assert tfc.verify(quantized, tmp_path / f"m.{suffix}", x).outputs[0].equal >= least, suffix


def test_the_range_of_pixels_stays_in_training_as_long_as_data_lies_in_it():
    x = PREPROCESSING["pixels / 127.5 - 1"](pixels())
    quantized = tfc.quantize(network(), "int8", x)
    first, second, *_ = activation_quantizers(quantized)
    before, moving = first.range, second.range
    quantized.compile("sgd", "mse")
    quantized.fit(x, np.zeros((len(x), 4)), epochs=2, batch_size=4, verbose=0)
    assert first.range == before and second.range != moving
    quantized.fit(3 * x, np.zeros((len(x), 4)), batch_size=4, verbose=0)
    assert first.range[1] > before[1] and first.range[0] < before[0]


def test_learned_without_calibration_pixels_around_zero_are_kept_from_the_middle():
    quantizer = ActivationQuantizer(tfc.ActivationSpec(), margin=1 / 254)
    x = PREPROCESSING["pixels / 127.5 - 1"](np.arange(256, dtype="float32"))[None]
    quantizer(x, training=True)
    assert places(x, *quantizer.range)[0].max() < 0.4995
    quantizer = ActivationQuantizer(tfc.ActivationSpec(), margin=1 / 254)
    quantizer(x + 1, training=True)
    assert quantizer.range == (0.0, 2.0)
