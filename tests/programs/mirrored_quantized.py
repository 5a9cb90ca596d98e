"""Trains a quantized model on two virtual CPUs; run in a process of its own, since devices are set up once."""

from __future__ import annotations

import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L

import tfcompress as tfc
from tfcompress.quantization.quantizers import ActivationQuantizer, activation_quantizers
from tfcompress.wrapper import wrapped_layers

BATCH, STEPS, MOMENTUM = 8, 12, 0.9


def model_and_data() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """Return a model that isn't quantized yet, and what it can learn."""
    keras.utils.set_random_seed(1)
    x = np.random.default_rng(0).normal(size=(BATCH * STEPS // 2, 8, 8, 2)).astype("float32")
    inputs = keras.Input((8, 8, 2), name="x")
    h = L.BatchNormalization(name="norm")(L.Conv2D(4, 3, padding="same", name="conv")(inputs))
    h = L.GlobalAveragePooling2D(name="mean")(L.ReLU(name="relu")(h))
    return keras.Model(inputs, L.Dense(2, name="y")(h)), x, np.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], -1)


def quantized(model: keras.Model) -> keras.Model:
    """Return the quantized model, compiled."""
    activations = tfc.ActivationSpec(momentum=MOMENTUM)
    made = tfc.quantize(model, tfc.QuantizeConfig(activations=activations, freeze_ranges_step=STEPS - 2))
    made.compile(keras.optimizers.SGD(0.1), "mse")
    return made


def moving_average(batches: list[np.ndarray]) -> np.ndarray:
    """Return the range that a quantizer learns from batches, by the formula of Adam's unbiased average."""
    ends, weight = np.zeros(2), 0.0
    for batch in batches:
        ends = MOMENTUM * ends + (1 - MOMENTUM) * np.array([min(batch.min(), 0), max(batch.max(), 0)])
        weight = MOMENTUM * weight + (1 - MOMENTUM)
    return ends / weight


def copies(variable: keras.Variable) -> list[np.ndarray]:
    """Return the value on each replica."""
    return [np.asarray(copy) for copy in variable.value.values]


def main(folder: str) -> None:
    """Train, and check what all replicas hold, what it was learned from, and that it can be shipped."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    model, x, y = model_and_data()
    with strategy.scope():
        mirrored = quantized(model_and_data()[0])
    history = mirrored.fit(x, y, batch_size=BATCH, epochs=2, verbose=0, shuffle=False).history["loss"]
    assert history[-1] < history[0]

    quantizers: list[ActivationQuantizer] = [q for q in activation_quantizers(mirrored) if q.learns]
    assert len(quantizers) == 4
    for quantizer in quantizers:
        ends, counts = copies(quantizer.ends), copies(quantizer.counts)
        np.testing.assert_array_equal(*ends)
        np.testing.assert_array_equal(counts, [[STEPS - 2, STEPS]] * 2)
        assert ends[0][0] <= 0 < ends[0][1]
    for layer in wrapped_layers(mirrored):
        assert [int(copy) for copy in copies(layer.step)] == [STEPS, STEPS]
        for weight in layer.layer.weights:
            np.testing.assert_array_equal(*copies(weight))

    # The ranges are those of the first replica, which has the first half of each batch.
    batches = [x[i : i + BATCH // 2] for i in range(0, len(x), BATCH)] * 2
    expected = moving_average(batches[: STEPS - 2])
    received = next(q for q in quantizers if q.source == "x").range
    np.testing.assert_allclose(received, expected, rtol=1e-5)

    alone = quantized(model)
    alone.fit(x, y, batch_size=BATCH, epochs=2, verbose=0, shuffle=False)
    for quantizer, other in zip(quantizers, [q for q in activation_quantizers(alone) if q.learns], strict=True):
        np.testing.assert_allclose(quantizer.range, other.range, rtol=0.3, atol=0.1)

    for suffix in (".tflite", ".onnx"):
        path = tfc.export(mirrored, pathlib.Path(folder) / f"model{suffix}").path
        assert tfc.verify(mirrored, path, x)["y"].max_steps < 1.01
    print("ranges and weights are equal on both replicas")


if __name__ == "__main__":
    main(sys.argv[1])
