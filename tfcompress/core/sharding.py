"""Where values lie on the devices of a `keras.distribution` mesh, maybe those of several processes (JAX alone)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core import keras_private

Tensor = Any


def gathered(x: Tensor) -> np.ndarray:
    """Return a tensor as an array, also one in parts on several machines: then all processes have to ask for it.

    >>> gathered(ops.array([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    if not getattr(x, "is_fully_addressable", True) and not x.is_fully_replicated:
        from jax.experimental.multihost_utils import process_allgather

        x = process_allgather(x, tiled=True)
    return np.asarray(ops.convert_to_numpy(x))


def lent(x: Tensor) -> np.ndarray:
    """Return a tensor as an array that is only looked at: `gathered`, without a copy where TensorFlow lends it.

    >>> lent(ops.array([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    if keras.backend.backend() != "tensorflow":
        return gathered(x)
    try:
        return np.asarray(memoryview(x.read_value() if hasattr(x, "read_value") else x))
    except (TypeError, ValueError, BufferError):  # of float16's kind, or in parts
        return gathered(x)


def of_first_process(value: np.ndarray) -> np.ndarray:
    """Return what process 0 has, in every process; all have to call this, with arrays of one shape.

    What each process computes for itself may differ in the last bit from machine to machine, and what goes onto the
    devices of all must not.

    >>> of_first_process(np.ones(2)).tolist()
    [1.0, 1.0]
    """
    if keras.backend.backend() != "jax":
        return value
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return np.asarray(broadcast_one_to_all(value))


def layout_of(variable: keras.Variable | None) -> Any:
    """Return the `TensorLayout` of a variable on a mesh; `None` for one that is on a device of its own."""
    layout = keras_private.layout_of(variable)
    return layout if isinstance(layout, keras.distribution.TensorLayout) else None


def spans_processes(variable: keras.Variable) -> bool:
    """Return whether a variable is on devices of several processes."""
    layout = layout_of(variable)
    return layout is not None and not layout.backend_layout.is_fully_addressable


def layout_like(weight: keras.Variable | None, shape: Any) -> Any:
    """Return how state that goes with a weight lies on the devices; `None` where `keras.distribution` isn't used.

    A `LayoutMap` knows the paths of weights. A mask lies as its weight does; what has another shape is on all devices.

    Args:
        weight: The weight, or `None`.
        shape: That of the state.
    """
    layout = layout_of(weight)
    if layout is None or weight is None or tuple(weight.shape) == tuple(shape):
        return layout
    return keras.distribution.TensorLayout([None] * len(shape), layout.device_mesh)


def lay_like(old: keras.Variable, new: keras.Variable) -> None:
    """Let the copy of a variable lie on the current distribution's devices as the original does, or as it is to.

    A copy may have another path ("a/kernel" for "model/a/kernel"), which a `LayoutMap` doesn't name.

    Args:
        old: The original, of the same shape.
        new: The copy; it is to be assigned next.
    """
    distribution = keras.distribution.distribution()
    if distribution is None or layout_of(new) is None:
        return
    theirs = layout_of(old)
    if theirs is not None and not _same_mesh(theirs.device_mesh, distribution.device_mesh):
        theirs = None
    named = None
    with contextlib.suppress(NotImplementedError):
        named = distribution.get_tensor_layout(old.path)
    for layout in (theirs, named):
        if layout is not None and any(axis is not None for axis in layout.axes):
            keras_private.set_layout(new, layout)
            return


@contextlib.contextmanager
def mesh_of(model: keras.Model) -> Iterator[None]:
    """Make variables on the mesh that a model is on, unless `keras.distribution` says where they go."""
    layouts = (layout_of(variable) for variable in getattr(model, "variables", ()))  # whatever it is, is checked later
    mesh = next((layout.device_mesh for layout in layouts if layout is not None), None)
    if mesh is None or keras.distribution.distribution() is not None:
        yield
        return
    everywhere = keras.distribution.LayoutMap(mesh)
    with keras.distribution.ModelParallel(layout_map=everywhere, auto_shard_dataset=False).scope():
        yield


def same_place(one: keras.Model, other: keras.Model) -> bool:
    """Return whether the variables of two models are on the same devices; always, where there are no meshes."""
    meshes = []
    for model in (one, other):
        layouts = [layout_of(variable) for variable in model.variables]
        meshes.append([None if layout is None else layout.device_mesh for layout in layouts])
    return all(_same_mesh(a, b) for a in meshes[0][:1] for b in meshes[1])


@contextlib.contextmanager
def not_distributed() -> Iterator[None]:
    """Within the block `keras.distribution` distributes nothing: batches may have any number of samples."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def _same_mesh(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or (
        tuple(one.shape) == tuple(other.shape)
        and tuple(one.axis_names) == tuple(other.axis_names)
        and bool(np.all(one.devices == other.devices))
    )
