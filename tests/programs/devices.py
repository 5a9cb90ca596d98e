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
import time
from collections.abc import Sequence
from typing import Any

DEVICES = 4


def copies(variable: Any) -> list[Any]:
    """Return a variable's value on each of the devices of this process; one whole value where they hold parts."""
    value = variable.value
    if hasattr(value, "addressable_shards"):
        whole = value.sharding.is_fully_replicated
        return [shard.data for shard in value.addressable_shards] if whole else [value]
    return list(getattr(value, "values", [value]))


def train(scope: Any, part: slice = slice(None), names: Sequence[str] = ()) -> dict[str, Any]:
    """Return the copies of each variable, by technique and path, after training within `scope`."""
    import keras
    import numpy as np

    from tests.programs.techniques import BATCH, EPOCHS, STEPS, TECHNIQUES, data

    x, y = (array.reshape(STEPS, BATCH, *array.shape[1:])[:, part] for array in data())
    size = x.shape[1]
    x, y = (array.reshape(-1, *array.shape[2:]) for array in (x, y))
    found = {}
    for name in names or TECHNIQUES:
        with scope():
            model = TECHNIQUES[name]()
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.SGD(0.02, momentum=0.9), loss)
            history = model.fit(x, y, batch_size=size, epochs=EPOCHS, shuffle=False, verbose=0).history
        print(name, round(time.process_time()), flush=True)
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
    """Train on one device, then on four."""
    import numpy as np
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * DEVICES)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(DEVICES)])
    np.savez(folder / "tensorflow.npz", **train(contextlib.nullcontext))
    np.savez(folder / "mirrored.npz", **train(strategy.scope))


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
