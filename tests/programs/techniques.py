"""What is trained on several devices: each technique, or kind of pruning, on a small model with seeded weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import layers as L

import tfcompress as tfc
from tfcompress.quantization.quantizers import ActivationQuantizer
from tfcompress.wrapper import CompressedLayer

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
BATCH, STEPS, EPOCHS = 16, 6, 2
CONSTANT = {"begin_step": 2, "frequency": 3}


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return inputs, whose spread grows from sample to sample so that each device sees another range, and classes."""
    generator = np.random.default_rng(0)
    scales = np.linspace(0.5, 2.0, BATCH * STEPS).reshape(STEPS, BATCH).T.reshape(-1)
    x = generator.normal(size=(BATCH * STEPS, 6, 6, 2)) * scales[:, None, None, None]
    return x.astype("float32"), generator.integers(0, 4, BATCH * STEPS)


def small() -> keras.Model:
    """Return a model with batch normalization over the whole batch, always with the same weights."""
    keras.utils.set_random_seed(3)
    together = {"synchronized": True} if ON_TENSORFLOW else {}  # on JAX the batch is one
    inputs = keras.Input((6, 6, 2), name="x")
    h = L.Conv2D(8, 3, padding="same", name="conv")(inputs)
    h = L.ReLU(name="relu")(L.BatchNormalization(name="norm", **together)(h))
    h = L.Flatten(name="flat")(L.Conv2D(4, 3, strides=2, name="second", activation="relu")(h))
    return keras.Model(inputs, L.Dense(4, name="y")(L.Dense(8, activation="relu", name="hidden")(h)), name="small")


def pruned(schedule: Any = None, data: Any = None, **how: Any) -> Callable[[], keras.Model]:
    """Return what makes a model that prunes itself."""
    schedule = schedule or tfc.ConstantSparsity(0.5, **CONSTANT)
    return lambda: tfc.prune(small(), tfc.PruneConfig(schedule, **how), data=data)


def quantized(config: Any, calibrated: bool = False, **how: Any) -> Callable[[], keras.Model]:
    """Return what makes a quantized model."""
    return lambda: tfc.quantize(small(), config, data()[0][:40] if calibrated else None, **how)


def both() -> keras.Model:
    """Return a model that is pruned and quantized."""
    return tfc.quantize(pruned()())


def distilled() -> keras.Model:
    """Return a pruned model that learns from the dense one."""
    return tfc.distill(pruned()(), small(), alpha=0.75)


TECHNIQUES: dict[str, Callable[[], keras.Model]] = {
    "magnitude": pruned(tfc.PolynomialDecay(0.0, 0.75, begin_step=1, end_step=9, frequency=2), scope="global"),
    "gradient in blocks": pruned(criterion="gradient", granularity=tfc.Block(2, 1)),
    "movement": pruned(criterion="movement", scope="bytes"),
    "2 of 4": pruned(granularity=tfc.NofM(2, 4)),
    "regrowth": pruned(tfc.Regrowth(0.5, begin_step=0, end_step=10, frequency=2)),
    "channels by gradient": pruned(criterion="gradient", granularity="channel", scope="flops"),
    "channels by scale": pruned(criterion="bn_scale", granularity="channel", layers="conv")
    if False
    else pruned(criterion="bn_scale", granularity="channel"),
    "channels by activation": pruned(criterion="activation_frequency", granularity="channel", data=data()[0][:40]),
    "int8": quantized("int8"),
    "int8 calibrated, frozen": quantized(
        tfc.QuantizeConfig(weights=tfc.WeightSpec(range="mse"), freeze_ranges_step=9, freeze_batch_norm_step=9),
        calibrated=True,
    ),
    "dynamic_int8": quantized("dynamic_int8"),
    "pruned and int8": both,
    "distilled": distilled,
}
