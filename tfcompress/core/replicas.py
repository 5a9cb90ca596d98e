"""Several devices: what the replicas of a step know together, and where a model lives.

Under `tf.distribute` each device runs a step of its own on its part of the batch. On Keras' JAX backend a step is one
program over the whole batch, whatever the devices: there nothing has to be put together.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfcompress.core.arguments import running
from tfcompress.core.quiet_output import without_retracing_warnings
from tfcompress.core.sharding import gathered, layout_like, mesh_of, not_distributed, spans_processes

__all__ = [
    "NO_MULTI_WORKER",
    "layout_like",
    "mean_over_replicas",
    "not_distributed",
    "place_of",
    "predict_on_batch",
    "range_over_replicas",
    "replicas",
    "sum_over_replicas",
    "takes_value_at_once",
    "without_scopes",
    "writes_files",
]

Tensor = Any

NO_MULTI_WORKER = (
    "MultiWorkerMirroredStrategy, under which `fit` of Keras 3 fails for any model "
    "(github.com/keras-team/keras/issues/20585). For several machines take Keras' JAX backend: KERAS_BACKEND=jax with "
    "keras.distribution.initialize and keras.distribution.DataParallel; for several devices of one machine "
    "tf.distribute.MirroredStrategy."
)


def sum_over_replicas(x: Tensor) -> Tensor:
    """Return the sum of a tensor (float, any shape) over the replicas of this step; with one replica, the tensor.

    Under `tf.distribute` Keras divides the loss by the number of replicas: gradients summed so are those of the
    whole batch.

    >>> float(sum_over_replicas(ops.array(2.0)))
    2.0
    """
    context = _context()
    return x if context is None else context.all_reduce("SUM", x)


def mean_over_replicas(x: Tensor, samples: Tensor) -> Tensor:
    """Return the mean of a tensor over the replicas of this step; with one replica, the tensor.

    Args:
        x: float, any shape; of a replica without samples it may be anything, NaN too.
        samples: How many samples this replica has, a scalar: so much its `x` counts.

    >>> float(mean_over_replicas(ops.array(2.0), ops.array(8)))
    2.0
    """
    context = _context()
    if context is None:
        return x
    own = ops.cast(samples, x.dtype)
    total = context.all_reduce("SUM", own)
    return context.all_reduce("SUM", ops.where(own > 0, x, ops.zeros_like(x)) * (own / total))


def range_over_replicas(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least `low` and the greatest `high` (float scalars) of the replicas of this step.

    Both are NaN where a replica has one that isn't finite.

    >>> [float(end) for end in range_over_replicas(ops.array(-1.0), ops.array(2.0))]
    [-1.0, 2.0]
    """
    context = _context()
    if context is None:
        return low, high
    # All hardware reduces sums, and not all of it extremes: each replica fills a row of its own.
    count = context.num_replicas_in_sync
    own = ops.equal(ops.arange(count, dtype="int32"), ops.cast(context.replica_id_in_sync_group, "int32"))
    row = ops.where(ops.expand_dims(own, 1), ops.expand_dims(ops.stack([low, high]), 0), 0.0)
    rows = context.all_reduce("SUM", row)
    finite = ops.all(ops.isfinite(rows))
    return ops.where(finite, ops.min(rows[:, 0]), math.nan), ops.where(finite, ops.max(rows[:, 1]), math.nan)


def replicas() -> int:
    """Return the number of replicas of this step.

    >>> replicas()
    1
    """
    context = _context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def _context() -> Any:
    """Return TensorFlow's replica context where there is more than one replica, else `None`."""
    if not _on_tensorflow():
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return None if context is None or context.num_replicas_in_sync == 1 else context


def takes_value_at_once(old: keras.Variable) -> bool:
    """Return whether the copy of a variable can begin with its value: on TensorFlow, where both are on one device."""
    if not _on_tensorflow():
        return False
    import tensorflow as tf

    return not tf.distribute.has_strategy() and not hasattr(old.value, "values")


def _on_tensorflow() -> bool:
    return bool(keras.backend.backend() == "tensorflow")


@contextlib.contextmanager
def place_of(model: keras.Model) -> Iterator[None]:
    """Make variables where a model has its own: in the scope of the `tf.distribute` strategy that it was made in.

    On JAX they go where `keras.distribution` says at this time, as all variables there do; if it says nothing, to
    the mesh that the model is on.

    Args:
        model: A model that another is made of.

    Raises:
        ValueError: If the strategy, that of the model or the one whose scope this is, is MultiWorkerMirroredStrategy.
    """
    if not _on_tensorflow():
        with mesh_of(model):
            yield
        return
    import tensorflow as tf

    here = tf.distribute.get_strategy()
    theirs = getattr(model, "distribute_strategy", here)
    if any(isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) for strategy in (here, theirs)):
        raise ValueError(f"Expected a strategy that Keras can train with. Received: {NO_MULTI_WORKER}")
    scope = contextlib.nullcontext() if tf.distribute.has_strategy() or theirs is here else theirs.scope()
    with scope, without_scopes():
        yield


@contextlib.contextmanager
def without_scopes() -> Iterator[None]:
    """Let TensorFlow know the variables that are made in the block by their own names, without those of layers.

    For each new name it makes a kernel, keeps it, and takes four times as long. Keras' names and paths are the same.
    """
    if not _on_tensorflow():
        yield
        return
    import tensorflow as tf

    def creator(create: Any, **how: Any) -> Any:
        with tf.name_scope(""):
            return create(**how)

    with tf.variable_creator_scope(creator):
        yield


def predict_on_batch(model: keras.Model, batch: Any, beside: Any = None, any_size: bool = False) -> Any:
    """Return what a model gives for one batch, in inference, wherever its variables are.

    `model.predict_on_batch` gives it once for each replica of a `tf.distribute` strategy, one behind the other, and
    under `keras.distribution` refuses a batch that the devices can't share evenly. Of a model on the devices of several
    processes all of them have to ask for it, with the same batch.

    Args:
        model: A built model.
        batch: Arrays, in the structure of its inputs.
        beside: More tensors, which are no samples; the model is then called with both, in a tuple.
        any_size: Whether batches of other sizes follow: TensorFlow then traces the model once for all of them.
    """
    with running(f"the model {model.name!r}", batch), without_retracing_warnings():
        if any_size and _on_tensorflow() and model.predict_function is None:
            _trace_for_any_size(model, batch, beside)
        return _predicted(model, batch if beside is None else (batch, beside))


def _trace_for_any_size(model: keras.Model, batch: Any, beside: Any) -> None:
    import tensorflow as tf

    def spec(x: Any, size: Any = ()) -> Any:
        return tf.TensorSpec((*size[: len(x.shape)], *x.shape[len(size) :]), x.dtype)

    if any(array.dtype.kind not in "biuf" for array in tree.flatten(batch)):
        return
    samples = tree.map_structure(lambda x: spec(x, (None,)), batch)
    model.make_predict_function()
    model.predict_function.get_concrete_function(
        [(samples if beside is None else (samples, tree.map_structure(spec, beside)),)]
    )


def _predicted(model: keras.Model, batch: Any) -> Any:
    if _on_tensorflow():
        strategy = getattr(model, "distribute_strategy", None)
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            return tree.map_structure(lambda x: np.asarray(ops.convert_to_numpy(x)), model(batch, training=False))
        return model.predict_on_batch(batch)
    with not_distributed():
        if any(spans_processes(variable) for variable in model.variables):
            return tree.map_structure(gathered, model(batch, training=False))  # Keras reads what is here alone
        return model.predict_on_batch(batch)


def writes_files() -> bool:
    """Return whether this is the process that prints and writes files: of several on a `keras.distribution`, the first.

    >>> writes_files()
    True
    """
    if keras.backend.backend() != "jax":
        return True
    import jax

    return bool(jax.process_index() == 0)
