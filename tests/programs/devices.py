"""Trains on one device and on several, and writes what all copies of all variables are; in a process of its own.

python -m tests.programs.devices FOLDER mirrored TECHNIQUES DEVICES
python -m tests.programs.devices FOLDER jax TECHNIQUES
python -m tests.programs.devices FOLDER jax_in_parts TECHNIQUES
python -m tests.programs.devices FOLDER two_processes PROCESS PORT

TECHNIQUES are names of `tests.programs.techniques`, between commas.
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import sys
import traceback
from collections.abc import Iterable
from typing import Any

DEVICES = 4
IN_PARTS = ("elements", "channels")
"""What is trained with weights in parts, too."""


def copies(variable: Any) -> list[Any]:
    """Return a variable's value on each of the devices of this process; one whole value where they hold parts."""
    from tfcompress.core.transform import read

    value = variable.value
    if hasattr(value, "addressable_shards"):
        whole = value.sharding.is_fully_replicated
        return [shard.data for shard in value.addressable_shards] if whole else [read(variable)]
    return list(getattr(value, "values", [value]))


def train(scope: Any, names: Iterable[str], part: slice = slice(None)) -> dict[str, Any]:
    """Return the copies of each variable, by technique and path, after training within `scope`.

    Args:
        scope: Makes the context.
        names: Of techniques.
        part: What is fed of each batch.
    """
    import keras
    import numpy as np

    from tests.programs.techniques import BATCH, EPOCHS, STEPS, TECHNIQUES, data

    x, y = (array.reshape(STEPS, BATCH, *array.shape[1:])[:, part] for array in data())
    size = x.shape[1]
    x, y = (array.reshape(-1, *array.shape[2:]) for array in (x, y))
    found = {}
    for name in names:
        with scope():
            model = TECHNIQUES[name]()
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.SGD(0.02, momentum=0.9), loss)
            history = model.fit(x, y, batch_size=size, epochs=EPOCHS, shuffle=False, verbose=0).history
        trained = getattr(model, "student", model)
        for variable in trained.variables:
            found[f"{name} {variable.path}"] = np.stack([np.asarray(copy) for copy in copies(variable)])
        for metric, values in history.items():
            found[f"{name} {metric}"] = np.array([values])
        if hasattr(trained.variables[0].value, "sharding"):
            parted = [v.path for v in trained.variables if not v.value.sharding.is_fully_replicated]
            found[f"{name} in parts"] = np.array([parted or [""]])
    return found


def on_tensorflow(folder: pathlib.Path, names: list[str], devices: int) -> None:
    """Train on one device, then on several; watch them, and ship a model from there."""
    import numpy as np
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * DEVICES)
    refuse(tf.distribute.MultiWorkerMirroredStrategy())
    np.savez(folder / "tensorflow.npz", **train(contextlib.nullcontext, names))
    # The only one in this process: what it gathers on two devices TensorFlow refuses to gather on four.
    strategy = tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(devices)])
    np.savez(folder / "mirrored.npz", **train(strategy.scope, names))
    freeze(strategy)
    ship(strategy, folder)
    watch_replicas(strategy)


def freeze(strategy: Any) -> None:
    """Check that statistics that will be frozen are the mean over all samples: Keras lets each device move its own.

    A device without samples, as the last batch may leave it, moves its own to NaN.
    """
    import keras
    import numpy as np

    from tfcompress.quantization.graph.batch_norm_freezing import FreezingBatchNorm

    with strategy.scope():
        norm = keras.layers.BatchNormalization(momentum=0.5)
        norm.build((None, 1))
        layer = FreezingBatchNorm(norm, freeze_step=2)
        layer.build()

    devices = strategy.num_replicas_in_sync

    def samples(replica: int, step: int) -> Any:
        rows = 2 if step != 1 else (2, 2, 1, 0)[replica - devices]
        return np.float32([[1 + replica], [10 * step]])[:rows]

    for step in range(3):
        parts = strategy.experimental_distribute_values_from_function(
            lambda context, step=step: samples(context.replica_id_in_sync_group, step)
        )
        strategy.run(lambda x: layer(x, training=True), args=(parts,))
    means = [np.asarray(copy) for copy in copies(norm.moving_mean)]
    np.testing.assert_array_equal(means, means[:1] * devices)
    first, second = (np.concatenate([samples(i, step) for i in range(devices)]).mean() for step in range(2))
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
        inside = tfc.quantize(model, data=x[:37])
    outside = tfc.quantize(tfc.prune(model, 0.5), data=x[:37])
    for made in (inside, outside, tfc.distill(outside, model).student):
        assert {len(copies(variable)) for variable in made.variables} == {strategy.num_replicas_in_sync}
        assert made.distribute_strategy is strategy
    assert {len(copies(variable)) for variable in tfc.strip(outside).variables} == {1}
    once = tfc.prune_once(model, 0.5)
    assert {len(copies(variable)) for variable in once.variables} == {strategy.num_replicas_in_sync}
    assert tfc.sparsity(once) == 0.5
    alone = tfc.quantize(small(), data=x[:37])
    mirrored, single = (tfc.evaluate(made, x[:37], y[:37]) for made in (inside, alone))
    assert mirrored.samples == 37
    np.testing.assert_array_equal(mirrored.confusion_matrix, single.confusion_matrix)
    inside.save(folder / "mirrored.keras")
    np.testing.assert_array_equal(tfc.load(folder / "mirrored.keras")(x), inside(x))
    for suffix in (".tflite", ".onnx"):
        path = tfc.export(inside, folder / f"mirrored{suffix}").path
        assert tfc.verify(inside, path, x)["y"].max_steps < 1.01


def watch_replicas(strategy: Any) -> None:
    """Check that a monitor sees nothing without data, and with data of its own, and leaves training as it is."""
    import keras
    import numpy as np

    import tfcompress as tfc

    keras.config.set_dtype_policy("mixed_float16")
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    y = np.random.default_rng(1).normal(size=(32, 4)).astype("float32")
    monitor = tfc.callbacks.PrecisionMonitor(data=(x[:8], y[:8]), every=1, verbose=0)
    results, refused = [], []
    for callbacks in ([tfc.callbacks.PrecisionMonitor()], [], [monitor]):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            layers = [
                keras.layers.Dense(8, name="dense"),
                keras.layers.Dropout(0.5, seed=1),
                keras.layers.Dense(4, name="head"),
            ]
            model = keras.Sequential([keras.Input((8,)), *layers])
            # Gradients that overflow on one of four devices alone would make all weights NaN: Keras adds them up.
            optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), initial_scale=2.0**10)
            model.compile(optimizer, "mse")
        try:
            model.fit(x, y, batch_size=8, epochs=1, verbose=0, callbacks=callbacks)
        except ValueError as error:
            refused.append(str(error))
            continue
        results.append([keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(v.value)) for v in model.weights])
    assert len(refused) == 1 and f"{strategy.num_replicas_in_sync} replicas" in refused[0], refused
    for alone, watched in zip(*results, strict=True):
        np.testing.assert_array_equal(alone, watched)
    seen = monitor.report["dense"]
    assert (monitor.report.steps, seen.overflow, seen.underflow) == (4, 0.0, 0.0), str(monitor.report)
    keras.config.set_dtype_policy("float32")


def on_jax(folder: pathlib.Path, names: list[str], whole: bool) -> None:
    """Train on one device, then on four, with weights in parts; and with whole ones, if they are asked for."""
    import keras
    import numpy as np

    assert len(keras.distribution.list_devices()) == DEVICES
    np.savez(folder / "jax.npz", **train(contextlib.nullcontext, names))
    if whole:
        np.savez(folder / "data_parallel.npz", **train(keras.distribution.DataParallel().scope, names))
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), keras.distribution.list_devices())
    layouts = keras.distribution.LayoutMap(mesh)
    divide(layouts)
    parallel = keras.distribution.ModelParallel(layout_map=layouts)
    np.savez(folder / "model_parallel.npz", **train(parallel.scope, [name for name in names if name in IN_PARTS]))
    copy_from_there(mesh)
    learn_from_elsewhere()


def divide(layouts: Any) -> None:
    """Divide the outputs of each kernel of the plain model; masks lie as they do."""
    from tests.programs.techniques import KERNELS

    layouts[f"({'|'.join(KERNELS[:2])})/kernel"] = (None, None, None, "model")
    layouts[f"({'|'.join(KERNELS[2:])})/kernel"] = (None, "model")


def copy_from_there(mesh: Any) -> None:
    """Check that copies lie as the model does, or is to, whatever their paths are, in the scope and outside."""
    import keras
    import numpy as np
    from keras import layers as L

    import tfcompress as tfc

    def nested() -> Any:
        inner = keras.Sequential([keras.Input((8,)), L.Dense(8, name="b")], name="inner")
        return keras.Sequential([keras.Input((8,)), L.Dense(8, name="a", activation="relu"), inner], name="outer")

    layouts = keras.distribution.LayoutMap(mesh)
    layouts["(outer|inner)/./kernel"] = (None, "model")
    parallel = keras.distribution.ModelParallel(layout_map=layouts)
    local = nested()
    with parallel.scope():
        there = nested()
        made = [tfc.prune(there, 0.5), tfc.prune(local, 0.5), tfc.quantize(local)]
    made += [tfc.prune(there, 0.5), tfc.quantize(tfc.prune(there, 0.5), data=np.eye(8)[:5])]
    made += [tfc.prune_once(there, 0.5)]
    for model in made:
        for variable in model.variables:
            divided = variable.path.endswith(("kernel", "mask"))
            assert len(variable.value.sharding.device_set) == DEVICES, variable.path
            assert variable.value.sharding.is_fully_replicated != divided, variable.path
    assert all(len(v.value.sharding.device_set) == 1 for v in tfc.strip(there).variables)
    with parallel.scope():  # made outside, and trained
        made[3].compile("sgd", "mse")
        made[3].fit(np.ones((8, 8)), np.ones((8, 8)), verbose=0)


def learn_from_elsewhere() -> None:
    """Check that a teacher on one device teaches what it would teach on all."""
    import keras
    import numpy as np

    import tfcompress as tfc
    from tests.programs.techniques import data, small

    x, y = (array[:16] for array in data())
    teacher, parallel = small(), keras.distribution.DataParallel()
    with parallel.scope():
        there = small()
        found = []
        for model in (teacher, there):
            distilled = tfc.distill(tfc.prune(teacher, 0.5), model, alpha=0.75)
            distilled.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            losses = distilled.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history["loss"]
            found.append([losses, *(np.asarray(variable.value) for variable in distilled.student.variables)])
    for elsewhere, same in zip(*found, strict=True):
        np.testing.assert_array_equal(elsewhere, same)
    assert {type(variable.value.sharding).__name__ for variable in teacher.variables} == {"SingleDeviceSharding"}


def in_two_processes(folder: pathlib.Path, process: int, port: int) -> None:
    """Train on two devices of each of two processes, which feed half a batch each, or divide the weights."""
    import keras
    import numpy as np

    from tfcompress.pipeline.distribution import Devices

    keras.distribution.initialize(f"127.0.0.1:{port}", 2, process)
    parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
    half = slice(8 * process, 8 * (process + 1))
    found = train(parallel.scope, ["elements"], half)
    mesh = keras.distribution.DeviceMesh((1, DEVICES), ("batch", "model"), keras.distribution.list_devices())
    layouts = keras.distribution.LayoutMap(mesh)
    divide(layouts)
    divided = keras.distribution.ModelParallel(layout_map=layouts, auto_shard_dataset=False)
    found |= train(divided.scope, ["channels"])
    np.savez(folder / f"process_{process}.npz", **found)
    watch(parallel, process, folder)
    model = take_over(divided, process, folder)
    Devices("model_parallel", DEVICES, 1, process, 2).leave()
    if process == 0:
        alone(model)


def take_over(parallel: Any, process: int, folder: pathlib.Path) -> Any:
    """Check that what each process computed by itself gives way to what the first has; bring a model back.

    The first alone says and writes how far it is pruned.
    """
    import keras
    import numpy as np

    import tfcompress as tfc
    from tests.programs.techniques import data, small
    from tfcompress.core.sharding import of_first_process
    from tfcompress.core.transform import read

    x, y = (array[:37] for array in data())
    log = folder / f"log_{process}"
    local = tfc.quantize(small(), data=x * (1 + process))
    with parallel.scope():
        there = tfc.prune(local, 0.5)
        tfc.calibrate(there, x[:16] * (1 + process))
    for variable in there.variables:
        np.testing.assert_array_equal(read(variable), of_first_process(read(variable)), err_msg=variable.path)
    low, high = there.get_layer("x_quantizer").range
    assert low <= x[:16].min() and 0.9 * x[:16].max() < high < 1.1 * x[:16].max()
    assert len(tfc.summary(there).rows) > 4
    assert tfc.sparsity(there) == tfc.sparsity(local)
    with parallel.scope():
        there.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            there.fit(x[:16], y[:16], batch_size=16, verbose=0, callbacks=[tfc.callbacks.PruningSummaries(log)])
    assert (log.exists(), "50.0 % of the kernels" in said.getvalue()) == (process == 0, process == 0)
    return tfc.strip(there)


def watch(parallel: Any, process: int, folder: pathlib.Path) -> None:
    """Check that a monitor sees the same in both processes, with half a batch each; the first writes and prints."""
    import keras
    import numpy as np

    import tfcompress as tfc
    from tests.programs.techniques import data, small
    from tfcompress.core.sharding import of_first_process

    x, y = (array[8 * process : 8 * (process + 1)] for array in data())
    log, said = folder / f"watched_{process}", io.StringIO()
    monitor = tfc.callbacks.PrecisionMonitor(log, every=1)
    with parallel.scope():
        model = tfc.prune(tfc.mixed_precision(small(), "mixed_float16"), 0.5)
        model.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        with contextlib.redirect_stdout(said):
            model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[monitor])
    report = monitor.report
    assert (report.steps, report.skipped, report.scale) == (2, 0, 32768.0)
    seen = np.array([(row.largest, row.underflow, row.overflow) for row in report.rows], "float32")
    assert np.isfinite(seen[[row.layer == "conv" for row in report.rows]]).all()
    np.testing.assert_array_equal(seen, of_first_process(seen))
    assert (log.exists(), "conv" in said.getvalue()) == (process == 0, process == 0)


def alone(model: Any) -> None:
    """Check that one process goes on without the other."""
    import jax

    import tfcompress as tfc
    from tests.programs.techniques import data

    x, y = data()
    assert not jax.distributed.is_initialized()
    assert tfc.evaluate(model, x[:5], y[:5]).samples == 5


if __name__ == "__main__":
    target, mode = pathlib.Path(sys.argv[1]), sys.argv[2]
    if mode == "mirrored":
        on_tensorflow(target, sys.argv[3].split(","), int(sys.argv[4]))
    else:
        count = DEVICES // 2 if mode == "two_processes" else DEVICES
        os.environ["KERAS_BACKEND"] = "jax"
        os.environ["PJRT_NPROC"] = "16"  # as `tfcompress.pipeline.distribution.start` has it, for the same reason
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
        if mode in ("jax", "jax_in_parts"):
            on_jax(target, sys.argv[3].split(","), whole=mode == "jax")
        else:
            try:
                in_two_processes(target, int(sys.argv[3]), int(sys.argv[4]))
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)  # else it waits for the other, which waits for it
