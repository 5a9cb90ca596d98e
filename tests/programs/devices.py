"""Trains on one device and on several, and writes what all copies of all variables are; in a process of its own.

python -m tests.programs.devices FOLDER mirrored
python -m tests.programs.devices FOLDER jax
python -m tests.programs.devices FOLDER two_processes PROCESS PORT
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
from typing import Any

DEVICES = 4


def copies(variable: Any) -> list[Any]:
    """Return a variable's value on each of the devices of this process; one whole value where they hold parts."""
    value = variable.value
    if hasattr(value, "addressable_shards"):
        whole = value.sharding.is_fully_replicated
        return [shard.data for shard in value.addressable_shards] if whole else [value]
    return list(getattr(value, "values", [value]))


def train(scope: Any, part: slice = slice(None)) -> dict[str, Any]:
    """Return the copies of each variable, by technique and path, after training within `scope`."""
    import keras
    import numpy as np

    from tests.programs.techniques import BATCH, EPOCHS, STEPS, TECHNIQUES, data

    x, y = (array.reshape(STEPS, BATCH, *array.shape[1:])[:, part] for array in data())
    size = x.shape[1]
    x, y = (array.reshape(-1, *array.shape[2:]) for array in (x, y))
    found = {}
    for name, make in TECHNIQUES.items():
        with scope():
            model = make()
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.SGD(0.02, momentum=0.9), loss)
            history = model.fit(x, y, batch_size=size, epochs=EPOCHS, shuffle=False, verbose=0).history
        trained = getattr(model, "student", model)
        for variable in trained.variables:
            found[f"{name} {variable.path}"] = np.stack([np.asarray(copy) for copy in copies(variable)])
        for metric, values in history.items():
            found[f"{name} {metric}"] = np.array([values])
        if name == "elements" and hasattr(trained.variables[0].value, "sharding"):
            parted = [v.path for v in trained.variables if not v.value.sharding.is_fully_replicated]
            found["in parts"] = np.array([parted or [""]])
    return found


def on_tensorflow(folder: pathlib.Path) -> None:
    """Train on one device, then on four; ship a model from there."""
    import numpy as np
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * DEVICES)
    refuse(tf.distribute.MultiWorkerMirroredStrategy())
    strategy = tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(DEVICES)])
    np.savez(folder / "tensorflow.npz", **train(contextlib.nullcontext))
    np.savez(folder / "mirrored.npz", **train(strategy.scope))
    freeze(strategy)
    ship(strategy, folder)


def freeze(strategy: Any) -> None:
    """Check that statistics that will be frozen are the mean over all devices: Keras lets each move its own."""
    import keras
    import numpy as np

    from tfcompress.quantization.freezing import FreezingBatchNorm

    with strategy.scope():
        norm = keras.layers.BatchNormalization(momentum=0.5)
        norm.build((None, 1))
        layer = FreezingBatchNorm(norm, freeze_step=2)
        layer.build()
    for step in range(3):
        parts = strategy.experimental_distribute_values_from_function(
            lambda context, step=step: np.float32([[context.replica_id_in_sync_group], [10 * step]])
        )
        strategy.run(lambda x: layer(x, training=True), args=(parts,))
    means = [np.asarray(copy) for copy in copies(norm.moving_mean)]
    np.testing.assert_array_equal(means, means[:1] * DEVICES)
    first, second = 1.5 / 2, (1.5 + 10) / 2
    np.testing.assert_allclose(means[0], [0.25 * first + 0.5 * second], rtol=1e-6)


def refuse(strategy: Any) -> None:
    """Check that what Keras can't train with is refused, with the reason."""
    import tfcompress as tfc
    from tests.programs.techniques import small

    model = small()
    for verb in (lambda: tfc.prune(model, 0.5), lambda: tfc.quantize(model), lambda: tfc.distill(small(), model)):
        with strategy.scope():
            try:
                verb()
            except ValueError as error:
                assert "keras/issues/20585" in str(error)
                assert "KERAS_BACKEND=jax" in str(error)
            else:
                raise AssertionError("MultiWorkerMirroredStrategy was not refused")


def ship(strategy: Any, folder: pathlib.Path) -> None:
    """Check that a model stays where it was made, whoever compresses it, and can be judged and shipped from there."""
    import numpy as np

    import tfcompress as tfc
    from tests.programs.techniques import data, small

    x, y = data()
    with strategy.scope():
        model = small()
        inside = tfc.quantize(model, calibration_data=x[:37])
    outside = tfc.quantize(tfc.prune(model, 0.5), calibration_data=x[:37])
    for made in (inside, outside, tfc.distill(outside, model).student):
        assert {len(copies(variable)) for variable in made.variables} == {DEVICES}
        assert made.distribute_strategy is strategy
    assert {len(copies(variable)) for variable in tfc.strip(outside).variables} == {1}
    alone = tfc.quantize(small(), calibration_data=x[:37])
    mirrored, single = (tfc.evaluate(made, x[:37], y[:37]) for made in (inside, alone))
    assert mirrored.samples == 37
    np.testing.assert_array_equal(mirrored.confusion_matrix, single.confusion_matrix)
    inside.save(folder / "mirrored.keras")
    np.testing.assert_array_equal(tfc.load(folder / "mirrored.keras")(x), inside(x))
    for suffix in (".tflite", ".onnx"):
        path = tfc.export(inside, folder / f"mirrored{suffix}").path
        assert tfc.verify(inside, path, x)["y"].max_steps < 1.01


def on_jax(folder: pathlib.Path) -> None:
    """Train on one device, then on four, with whole weights and with weights in parts."""
    import keras
    import numpy as np

    from tests.programs.techniques import KERNELS

    assert len(keras.distribution.list_devices()) == DEVICES
    np.savez(folder / "jax.npz", **train(contextlib.nullcontext))
    np.savez(folder / "data_parallel.npz", **train(keras.distribution.DataParallel().scope))
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), keras.distribution.list_devices())
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[f"(small/)?({'|'.join(KERNELS[:2])})/kernel"] = (None, None, None, "model")
    layouts[f"(small/)?({'|'.join(KERNELS[2:])})/kernel.*"] = (None, "model")
    parallel = keras.distribution.ModelParallel(layout_map=layouts)
    np.savez(folder / "model_parallel.npz", **train(parallel.scope))


def in_two_processes(folder: pathlib.Path, process: int, port: int) -> None:
    """Train on two devices of each of two processes, which feed one half of each batch."""
    import keras
    import numpy as np

    keras.distribution.initialize(f"127.0.0.1:{port}", 2, process)
    parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
    half = slice(8 * process, 8 * (process + 1))
    np.savez(folder / f"process_{process}.npz", **train(parallel.scope, half))


if __name__ == "__main__":
    target, mode = pathlib.Path(sys.argv[1]), sys.argv[2]
    if mode == "mirrored":
        on_tensorflow(target)
    else:
        count = DEVICES if mode == "jax" else DEVICES // 2
        os.environ["KERAS_BACKEND"] = "jax"
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
        if mode == "jax":
            on_jax(target)
        else:
            in_two_processes(target, int(sys.argv[3]), int(sys.argv[4]))
