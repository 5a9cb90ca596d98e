"""Training on several devices: of one machine, or of several through Keras' JAX backend."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfcompress.core.arguments import check_count
from tfcompress.core.limits import MOST, MOST_DEVICES
from tfcompress.core.replicas import NO_MULTI_WORKER
from tfcompress.core.transform import read
from tfcompress.data.splits import Split
from tfcompress.graph import rebuild

LEAST_THREADS = 16
"""Of JAX's CPU devices. Computations of several processes wait for each other, each in a thread of its own: with fewer
threads than computations that wait, as on two cores, all wait for ever."""

KINDS = ("none", "mirrored", "data_parallel", "model_parallel", "multi_worker_mirrored")


@dataclasses.dataclass(frozen=True)
class Devices:
    """What a model is trained on.

    Attributes:
        kind: Of `KINDS`.
        count: Number of devices, of all machines together.
        parts: Into how many parts each batch is divided; batches have a multiple of as many samples.
        process: Number of this process, from 0.
        processes: How many there are.
        scope: Makes the context in which a model like the given one is made and trained.
    """

    kind: str = "none"
    count: int = 1
    parts: int = 1
    process: int = 0
    processes: int = 1
    scope: Callable[[keras.Model], contextlib.AbstractContextManager[Any]] = lambda model: contextlib.nullcontext()

    def __post_init__(self) -> None:
        if self.parts % self.processes and self.processes % self.parts:
            raise ValueError(
                f"Expected each part of a batch on devices of one process, or of some whole processes. Received: "
                f"{self.parts} parts and {self.processes} processes. Take model_devices that make a multiple of "
                f"{self.processes} parts, or that are the devices of whole processes."
            )

    def __str__(self) -> str:
        """Return the number of devices, in words."""
        text = f"{self.count} device{'s' * (self.count != 1)}"
        return text if self.processes == 1 else f"{text} in {self.processes} processes"

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.process == 0

    def train(self, model: keras.Model, fit: Callable[[keras.Model], None]) -> None:
        """Train a model in place: a copy of it lives on the devices as long as that takes.

        Args:
            model: A built model; afterwards it has the weights and the state of the trained copy, and is compiled as
                that is, with the state of its optimizer.
            fit: Compiles and fits the model that it is given.
        """
        if self is ONE:
            return fit(model)
        with self.scope(model):
            copy = rebuild(model)
            if _names(copy) != _names(model):
                raise ValueError(
                    f"Expected a flat functional model. Received: {model.name!r}, which holds models or composite "
                    "layers. Take tfcompress.graph.rebuild(model)."
                )
            fit(copy)
            values = [read(variable) for variable in copy.variables]
            optimizer = keras.saving.serialize_keras_object(copy.optimizer)
            slots = [read(variable) for variable in copy.optimizer.variables]
        for variable, value in zip(model.variables, values, strict=True):
            variable.assign(value)
        model.compile(keras.saving.deserialize_keras_object(optimizer), copy.loss)
        model.optimizer.build(model.trainable_variables)
        for variable, value in zip(model.optimizer.variables, slots, strict=True):
            variable.assign(value)
        return None

    def leave(self) -> None:
        """Part from the other processes; to be called in all, when nothing more is done together.

        Otherwise JAX lets each that ends wait for the others, at most five minutes, and then takes them for lost: too
        short a time for one that evaluates and exports a model by itself.
        """
        if self.processes > 1:
            import jax

            jax.distributed.shutdown()

    def batches(self, split: Split, batch_size: int, begun: int = 0, skipped: int = 0) -> Any:
        """Return the part of each shuffled batch that this process feeds; several devices leave out an incomplete last.

        Args:
            split: What to train with.
            batch_size: Samples in a batch, of all devices together.
            begun: Epochs that are done.
            skipped: Batches of the next epoch that are done, too.

        Raises:
            ValueError: If the devices can't share a batch evenly, or there are fewer samples than one.
        """
        if self is ONE:
            return split.shuffled(batch_size, begun=begun, skipped=skipped)
        if batch_size % self.parts:
            raise ValueError(
                f"Expected a batch size that {self.parts} devices share evenly. Received: {batch_size}. Take "
                f"{math.ceil(batch_size / self.parts) * self.parts}."
            )
        if split.samples < batch_size:
            raise ValueError(
                f"Expected at least one batch of {batch_size} samples. Received: {split.samples}. Take a smaller batch "
                "size."
            )
        feeding = min(self.parts, self.processes)
        part = self.process * feeding // self.processes
        return split.shuffled(batch_size, part=part, parts=feeding, begun=begun, whole=True, skipped=skipped)


ONE = Devices()
"""Training as Keras does it by itself."""


def start(
    kind: str = "none",
    *,
    devices: int | None = None,
    model_devices: int | None = None,
    job_addresses: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Devices:
    """Set up devices; call it before anything is computed, in each process if there are several.

    Args:
        kind: "none"; "mirrored": `tf.distribute.MirroredStrategy`; "data_parallel" and "model_parallel":
            `keras.distribution.DataParallel` and `ModelParallel`, on Keras' JAX backend.
        devices: How many of this machine; `None` for all GPUs or TPUs, or one CPU. On a machine that has CPUs alone
            they are virtual ones, to try it out.
        model_devices: With "model_parallel", how many devices share the weights of one copy of the model; `None`: all.
        job_addresses: With several processes, "host:port" of process 0, as of `keras.distribution.initialize`.
        num_processes: How many there are.
        process_id: The number of this one, from 0.

    Raises:
        ValueError: If `kind` is none of these or needs another backend, an argument doesn't go with it, there are
            fewer devices, or the processes can't share them evenly.

    Example:

    >>> start("none").parts
    1
    """
    counts = {
        "devices": (devices, MOST_DEVICES),
        "model_devices": (model_devices, MOST),
        "num_processes": (num_processes, MOST),
    }
    for name, (value, most) in counts.items():
        if value is not None:
            check_count(name, value, most=most)
    if process_id is not None:
        check_count("process_id", process_id, 0, MOST if num_processes is None else num_processes - 1)
    if kind not in KINDS:
        raise ValueError(f"Expected one of {', '.join(KINDS)}. Received: {kind!r}.")
    several = {"job_addresses": job_addresses, "num_processes": num_processes, "process_id": process_id}
    given = [name for name, value in several.items() if value is not None]
    if kind == "multi_worker_mirrored":
        raise ValueError(f"Expected a strategy that Keras can train with. Received: {NO_MULTI_WORKER}")
    backend = keras.backend.backend()
    on_jax = kind in ("data_parallel", "model_parallel")
    if kind != "none" and backend != ("jax" if on_jax else "tensorflow"):
        needed = "jax" if on_jax else "tensorflow"
        raise ValueError(
            f"Expected Keras' {needed} backend for {kind!r}. Received: {backend!r}. Set the environment variable "
            f"KERAS_BACKEND={needed}"
            + ("; on TensorFlow there is 'mirrored'." if on_jax else ", or take 'data_parallel'.")
        )
    if given and not on_jax:
        raise ValueError(f"Expected {given[0]} with 'data_parallel' or 'model_parallel' alone. Received: {kind!r}.")
    if model_devices is not None and kind != "model_parallel":
        raise ValueError(f"Expected model_devices with 'model_parallel' alone. Received: {kind!r}.")
    if devices is not None and kind == "none":
        raise ValueError("Expected devices with one of the distributions. Received: 'none'.")
    if kind == "none":
        return ONE
    if kind == "mirrored":
        return _mirrored(devices)
    return _on_jax(kind, devices, model_devices, several)


def _names(model: keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


def _mirrored(devices: int | None) -> Devices:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus and devices is not None:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    found = tf.config.list_logical_devices("GPU" if gpus else "CPU")
    _check_count(devices, len(found))
    strategy = tf.distribute.MirroredStrategy([device.name for device in found[:devices]])
    count = strategy.num_replicas_in_sync
    return Devices("mirrored", count, count, scope=lambda model: strategy.scope())


def _on_jax(kind: str, devices: int | None, model_devices: int | None, several: dict[str, Any]) -> Devices:
    import jax

    if devices is not None:
        jax.config.update("jax_num_cpu_devices", devices)  # without effect where there are GPUs or TPUs
    if any(value is not None for value in several.values()) or "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ:
        if not {"NPROC", "PJRT_NPROC"} & set(os.environ):  # XLA reads either
            os.environ["PJRT_NPROC"] = str(max(LEAST_THREADS, os.cpu_count() or 1))
        keras.distribution.initialize(**several)
    by_process: dict[int, list[str]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(f"{device.platform}:{device.id}")
    for found in by_process.values():
        _check_count(devices, len(found))
    chosen = [by_process[process][:devices] for process in sorted(by_process)]
    names = [name for found in chosen for name in found]
    process, processes = jax.process_index(), jax.process_count()
    if kind == "data_parallel":
        parts = batch_parts([len(found) for found in chosen], 1)
        parallel = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
        return Devices(kind, len(names), parts, process, processes, lambda model: parallel.scope())
    parts = batch_parts([len(found) for found in chosen], model_devices)
    shape = (parts, len(names) // parts)
    mesh = keras.distribution.DeviceMesh(shape, ("batch", "model"), names)

    def scope(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
        layouts = layout_map(model, mesh)
        return keras.distribution.ModelParallel(layout_map=layouts, auto_shard_dataset=False).scope()

    return Devices(kind, len(names), parts, process, processes, scope)


def batch_parts(counts: Sequence[int], model_devices: int | None) -> int:
    """Return into how many parts a batch is divided.

    Args:
        counts: The number of devices of each process.
        model_devices: How many devices share one copy of the model; `None`: all.

    Raises:
        ValueError: If the processes don't have equally many, or `model_devices` doesn't divide the sum.

    >>> batch_parts([4, 4], 2)
    4
    """
    if len(set(counts)) > 1:
        raise ValueError(
            f"Expected equally many devices in each process. Received: {', '.join(map(str, counts))}. Ask for "
            f"devices={min(counts)}."
        )
    total = sum(counts)
    sharing = total if model_devices is None else model_devices
    if sharing < 1 or total % sharing:
        raise ValueError(f"Expected model_devices to divide the number of devices, {total}. Received: {sharing}.")
    return total // sharing


def _check_count(asked: int | None, found: int) -> None:
    if asked is not None and found < asked:
        raise ValueError(f"Expected {asked} devices. Received: {found} on this machine. Ask for {found}.")


def layout_map(model: keras.Model, mesh: Any, axis: str = "model") -> Any:
    """Return a `keras.distribution.LayoutMap` that divides the outputs of each kernel among devices.

    Biases and other vectors are on all devices, and so are kernels whose outputs the devices can't share evenly. Masks
    lie as their kernels do.

    Args:
        model: A built model, plain or wrapped.
        mesh: The `keras.distribution.DeviceMesh`.
        axis: The name of the mesh's axis along which the model is divided.
    """
    layouts = keras.distribution.LayoutMap(mesh)
    devices = mesh.shape[list(mesh.axis_names).index(axis)]
    for path, shape in {variable.path: tuple(variable.shape) for variable in model.trainable_variables}.items():
        if len(shape) > 1 and shape[-1] % devices == 0:
            layouts[path] = (None,) * (len(shape) - 1) + (axis,)
    return layouts
