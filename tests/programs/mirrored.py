"""Trains a pruned model on two virtual CPUs; run in a process of its own, since devices are set up once."""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L

import tfcompress as tfc
from tfcompress.wrapper import wrapped_layers


def main(scope: str, criterion: str = "magnitude") -> None:
    """Train, and check that all replicas hold the same masks and the same, really sparse, weights."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    generator = np.random.default_rng(0)
    x = generator.normal(size=(32, 8, 8, 2)).astype("float32")
    y = generator.normal(size=(32, 3)).astype("float32")
    schedule = tfc.PolynomialDecay(0.0, 0.75, begin_step=1, end_step=5, frequency=2)
    with strategy.scope():
        shared = L.Conv2D(2, 3, padding="same", name="conv")
        inputs = keras.Input((8, 8, 2))
        model = keras.Model(inputs, L.Dense(3, name="head")(L.Flatten()(shared(shared(inputs)))))
        mirrored = tfc.prune(model, tfc.PruneConfig(schedule, criterion, scope=scope))
        mirrored.compile(keras.optimizers.SGD(0.05), "mse")
    mirrored.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    for layer in wrapped_layers(mirrored):
        assert [int(copy) for copy in layer.step.value.values] == [8, 8]
        for position, transform in layer.transforms:
            masks = [np.asarray(copy) for copy in transform.mask.value.values]
            weights = [np.asarray(copy) for copy in layer.layer.weights[position].value.values]
            assert len(masks) == len(weights) == 2
            np.testing.assert_array_equal(*masks)
            np.testing.assert_array_equal(*weights)
            assert np.all(weights[0][~masks[0]] == 0)
            for statistic in transform.gathering.values.values():
                copies = [np.asarray(copy) for copy in statistic.value.values]
                np.testing.assert_array_equal(*copies)
                assert np.abs(copies[0]).sum() > 0
    assert abs(tfc.sparsity(mirrored) - 0.75) < 0.01, tfc.sparsity(mirrored)
    print("masks and weights are equal on both replicas")


if __name__ == "__main__":
    main(*sys.argv[1:])
