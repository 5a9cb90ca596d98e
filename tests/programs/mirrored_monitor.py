"""Trains on two devices with and without a PrecisionMonitor."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

import tfcompress as tfc


def main() -> None:
    """Print what the test wants to read."""
    (device,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    keras.config.set_dtype_policy("mixed_float16")
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    y = np.random.default_rng(1).normal(size=(32, 4)).astype("float32")
    results = []
    monitor = tfc.callbacks.PrecisionMonitor(data=(x[:8], y[:8]), every=1, verbose=0)
    for callbacks in ([tfc.callbacks.PrecisionMonitor()], [], [monitor]):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            layers = [
                keras.layers.Dense(8, name="dense"),
                keras.layers.Dropout(0.5, seed=1),
                keras.layers.Dense(4, name="head"),
            ]
            model = keras.Sequential([keras.Input((8,)), *layers])
            model.compile(keras.optimizers.Adam(), "mse")
        try:
            model.fit(x, y, batch_size=8, epochs=1, verbose=0, callbacks=callbacks)
        except ValueError as error:
            assert "2 replicas" in str(error), error
            print("refused without data")
            continue
        results.append([keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(v.value)) for v in model.weights])
    same = all(np.array_equal(a, b) for a, b in zip(*results, strict=True))
    report = monitor.report
    seen = report.steps == 4 and report["dense"].overflow == 0.0 and report["dense"].underflow == 0.0
    print("same, and seen" if same and seen else f"{same} {report}")


if __name__ == "__main__":
    main()
