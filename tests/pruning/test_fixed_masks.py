"""Zeros of a model without masks, which stay where it is asked for."""

import keras
import numpy as np
from keras import layers as L

import tfcompress as tfc


def clusters():
    """Three classes that are easy to tell apart."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 120)
    return (np.eye(3)[y].repeat(4, axis=1) + generator.normal(0, 0.3, (120, 12))).astype("float32"), y


def zeros(model):
    kernels = [layer.get_weights()[0] for layer in tfc.strip(model).layers if layer.weights]
    return [kernel == 0 for kernel in kernels]


def test_zeros_of_a_stripped_model_stay_while_it_is_trained_quantized():
    x, y = clusters()
    model = keras.Sequential([keras.Input((12,)), L.Dense(16, activation="relu"), L.Dense(8), L.Dense(3)])
    model = tfc.prune_once(model, 0.6, layers=["dense", "dense_1"])
    before = zeros(model)
    kept = tfc.keep_zeros(model)
    assert [type(layer).__name__ for layer in kept.layers[1:]] == ["CompressedLayer", "CompressedLayer", "Dense"]
    quantized = tfc.quantize(kept, "int8", data=x)
    quantized.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    quantized.fit(x, y, epochs=3, verbose=0)
    after = zeros(quantized)
    assert all(np.all(new[old]) for old, new in zip(before, after, strict=True))
    assert tfc.sparsity(quantized) >= tfc.sparsity(model)
    # Without it they would be filled.
    quantized = tfc.quantize(model, "int8", data=x)
    quantized.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    quantized.fit(x, y, epochs=3, verbose=0)
    assert tfc.sparsity(quantized) < tfc.sparsity(model) / 2


def test_masks_that_are_there_stay_as_they_are():
    model = keras.Sequential([keras.Input((12,)), L.Dense(16), L.Dense(3, kernel_initializer="zeros")])
    pruned = tfc.prune(model, tfc.ConstantSparsity(0.5, begin_step=10), layers="dense$")
    again = tfc.keep_zeros(pruned)
    ((_, mask),) = again.layers[1].transforms
    assert mask.config.schedule == tfc.ConstantSparsity(0.5, begin_step=10)
    assert type(again.layers[2]).__name__ == "Dense"  # nothing but zeros: it hasn't begun to learn
