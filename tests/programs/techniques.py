"""What is trained on several devices: every technique, on a small model that always begins with the same weights."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as L

import tfcompress as tfc
from tfcompress import PruneConfig

BATCH, STEPS, EPOCHS = 16, 4, 3
KERNELS = ("conv", "second", "hidden", "shared", "y")
SOON = tfc.ConstantSparsity(0.25, begin_step=2, frequency=3)
LATER = tfc.ConstantSparsity(0.5, begin_step=2, frequency=3)


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return classes, and inputs whose spread grows within each batch: every device sees another range."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(STEPS, BATCH, 6, 6, 2)) * np.linspace(0.5, 2.0, BATCH)[:, None, None, None]
    return x.reshape(-1, 6, 6, 2).astype("float32"), generator.integers(0, 4, BATCH * STEPS)


def small(seed: int = 3) -> keras.Model:
    """Return a model with batch normalization over the whole batch and a layer that is called twice."""
    keras.utils.set_random_seed(seed)
    # On JAX the batch is one anyway.
    together = {"synchronized": True} if keras.backend.backend() == "tensorflow" else {}
    inputs = keras.Input((6, 6, 2), name="x")
    h = L.BatchNormalization(name="norm", **together)(L.Conv2D(8, 3, padding="same", name="conv")(inputs))
    h = L.Conv2D(8, 3, strides=3, name="second", activation="relu")(L.ReLU(name="relu")(h))
    h = L.Dense(8, activation="relu", name="hidden")(L.Flatten(name="flat")(h))
    shared = L.Dense(8, activation="relu", name="shared")
    return keras.Model(inputs, L.Dense(4, name="y")(shared(shared(h))), name="small")


def elements() -> keras.Model:
    """Return a model whose layers are pruned in as many ways, that learns its ranges, and from the dense one."""
    rising = tfc.PolynomialSparsity(0.0, 0.75, begin_step=1, end_step=9, frequency=2)
    model = tfc.prune(small(), PruneConfig(rising, scope="global"), layers="conv")
    model = tfc.prune(model, PruneConfig(LATER, "gradient", tfc.Block(2, 1)), layers="second")
    model = tfc.prune(model, PruneConfig(tfc.ConstantSparsity(0.5), granularity=tfc.NofM(2, 4)), layers="hidden")
    model = tfc.prune(model, PruneConfig(LATER, "movement"), layers="y")
    regrown = tfc.prune(model, PruneConfig(tfc.Regrowth(0.5, begin_step=0, end_step=10, frequency=2)), layers="shared")
    return tfc.distill(tfc.quantize(regrown), small(), alpha=0.75)


def channels() -> keras.Model:
    """Return a model that loses channels, begins with ranges from data, and freezes them and batch normalization."""
    firing = PruneConfig(LATER, "activation_frequency", "channel", "flops")
    model = tfc.prune(small(), firing, layers="conv", data=data()[0][:37])
    model = tfc.prune(model, PruneConfig(LATER, "gradient", "channel", "global"), layers=["hidden", "shared"])
    config = tfc.QuantizeConfig(
        weights=tfc.WeightSpec(range="mse"),
        activations=tfc.ActivationSpec(range="percentile", momentum=0.9),
        freeze_ranges_step=9,
        freeze_batch_norm_step=9,
    )
    return tfc.quantize(model, config, data()[0][:37])


def others() -> keras.Model:
    """Return a model pruned by chance, thresholds and data; in int8 per tensor, folded, equalized, with corrections."""
    model = tfc.prune(small(), PruneConfig(LATER, "random"), layers="hidden")
    model = tfc.prune(model, PruneConfig(LATER, "threshold", threshold=0.1), layers="y")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    now = PruneConfig(tfc.ConstantSparsity(0.5, frequency=1), "gradient")
    model = tfc.prune(model, now, layers="shared", data=data(), loss=loss)
    model = tfc.prune(model, PruneConfig(LATER, "l2", tfc.Block(2, 1)), layers="second")
    corrected = {"equalize": True, "reestimate_batch_norm": True, "correct_bias": True}
    return tfc.quantize(model, "int8_per_tensor", data()[0][:37], **corrected)


def scales() -> keras.Model:
    """Return a model that loses channels by the scales behind them, with activations in 16 bits."""
    # With another seed one number is just where it may be rounded up or down, and training goes on from there.
    model = tfc.prune(small(4), PruneConfig(SOON, "bn_scale", "channel", "bytes"), layers="conv")
    return tfc.quantize(model, "int16x8", data()[0][:37])


def heads() -> keras.Model:
    """Return a model that loses heads of its attention, with weights in int8."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 2), name="x")
    h = L.Dense(8, name="wide")(L.Reshape((18, 4), name="rows")(inputs))
    h = L.GlobalAveragePooling1D(name="pool")(L.MultiHeadAttention(4, 2, name="attention")(h, h))
    model = keras.Model(inputs, L.Dense(4, name="y")(h))
    return tfc.quantize(tfc.prune(model, PruneConfig(SOON, granularity="attention_head")), "dynamic_int8")


def half() -> keras.Model:
    """Return a pruned and quantized model in bfloat16."""
    model = tfc.mixed_precision(small(), "mixed_bfloat16")
    return tfc.quantize(tfc.prune(model, 0.5), "int8")


TECHNIQUES = {
    "elements": elements,
    "channels": channels,
    "others": others,
    "scales": scales,
    "heads": heads,
    "half": half,
}
