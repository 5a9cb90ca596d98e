"""What is trained on several devices: every technique, on a small model that always begins with the same weights."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as L

import tfcompress as tfc
from tfcompress import PruneConfig

BATCH, STEPS, EPOCHS = 16, 4, 3
KERNELS = ("conv", "second", "hidden", "shared", "y")
LATER = tfc.ConstantSparsity(0.5, begin_step=2, frequency=3)


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return classes, and inputs whose spread grows within each batch: every device sees another range."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(STEPS, BATCH, 6, 6, 2)) * np.linspace(0.5, 2.0, BATCH)[:, None, None, None]
    return x.reshape(-1, 6, 6, 2).astype("float32"), generator.integers(0, 4, BATCH * STEPS)


def small() -> keras.Model:
    """Return a model with batch normalization over the whole batch and a layer that is called twice."""
    keras.utils.set_random_seed(3)
    # On JAX the batch is one anyway.
    together = {"synchronized": True} if keras.backend.backend() == "tensorflow" else {}
    inputs = keras.Input((6, 6, 2), name="x")
    h = L.BatchNormalization(name="norm", **together)(L.Conv2D(8, 3, padding="same", name="conv")(inputs))
    h = L.Conv2D(8, 3, strides=3, name="second", activation="relu")(L.ReLU(name="relu")(h))
    h = L.Dense(8, activation="relu", name="hidden")(L.Flatten(name="flat")(h))
    shared = L.Dense(8, activation="relu", name="shared")
    return keras.Model(inputs, L.Dense(4, name="y")(shared(shared(h))), name="small")


def elements() -> keras.Model:
    """Return a model whose layers are pruned in as many ways."""
    rising = tfc.PolynomialDecay(0.0, 0.75, begin_step=1, end_step=9, frequency=2)
    model = tfc.prune(small(), PruneConfig(rising, scope="global"), layers="conv")
    model = tfc.prune(model, PruneConfig(LATER, "gradient", tfc.Block(2, 1)), layers="second")
    model = tfc.prune(model, PruneConfig(tfc.ConstantSparsity(0.5), granularity=tfc.NofM(2, 4)), layers="hidden")
    model = tfc.prune(model, PruneConfig(LATER, "movement"), layers="y")
    return tfc.prune(model, PruneConfig(tfc.Regrowth(0.5, begin_step=0, end_step=10, frequency=2)), layers="shared")


def channels() -> keras.Model:
    """Return a model whose layers lose channels."""
    model = tfc.prune(small(), PruneConfig(LATER, "bn_scale", "channel", "flops"), layers="conv")
    return tfc.prune(model, PruneConfig(LATER, "gradient", "channel", "global"), layers=["hidden", "shared"])


def calibrated() -> keras.Model:
    """Return a quantized model that begins with ranges from data and freezes them, and batch normalization."""
    config = tfc.QuantizeConfig(
        weights=tfc.WeightSpec(range="mse"),
        activations=tfc.ActivationSpec(range="percentile", momentum=0.9),
        freeze_ranges_step=9,
        freeze_batch_norm_step=9,
    )
    return tfc.quantize(small(), config, data()[0][:37])


def distilled() -> keras.Model:
    """Return a model that loses channels that seldom fire, learns its ranges, and learns from the dense one."""
    config = PruneConfig(LATER, "activation_frequency", "channel")
    pruned = tfc.prune(small(), config, layers="second", data=data()[0][:37])
    return tfc.distill(tfc.quantize(pruned), small(), alpha=0.75)


TECHNIQUES = {made.__name__: made for made in (elements, channels, calibrated, distilled)}
