"""What zeros and few values for each kernel are worth on an NPU, by the estimates of its compiler."""

from __future__ import annotations

import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

import tfcompress as tfc
from benchmarks import data
from benchmarks.files import accuracy, outputs
from benchmarks.harness import Setting, save, show
from benchmarks.networks import Fit, fit, kept, trained_resnet8

ACCELERATOR = "ethos-u55-128"
ZEROS = 0.8
CLUSTERS = 8
BANDS, FRAMES = 128, 5
SAMPLES, TESTED = 20_000, 4_000
IMAGES = 512
"""To calibrate with."""

Judge = Callable[[pathlib.Path], dict[str, str]]


def sounds(count: int, seed: int) -> np.ndarray:
    """Return log spectra of machines: 5 frames of 128 bands, harmonics that move a little, and noise.

    Args:
        count: how many.
        seed: of all that is random.

    Returns:
        Shape (count, 640), float32, not normalized.
    """
    random = np.random.default_rng(seed)
    kind, load = random.integers(0, 4, count), random.uniform(0.3, 1, count)[:, None, None]
    pitch = np.array([6.0, 9.0, 13.0, 17.0])[kind][:, None, None] * (1 + 0.15 * (load - 0.6))
    band, frame = np.arange(BANDS)[None, None], np.arange(FRAMES)[None, :, None]
    phase = random.uniform(0, 2 * np.pi, count)[:, None, None]
    power = np.full((count, FRAMES, BANDS), 0.02)
    for harmonic in range(1, 7):
        centre = pitch * harmonic * (1 + 0.004 * np.sin(phase + frame * 1.1))
        swing = np.sin(phase * harmonic + frame * (0.5 + 0.3 * kind[:, None, None]))
        loud = load**harmonic * (1 + 0.3 * swing) / harmonic
        power += loud * np.exp(-(((band - centre) / (1.2 + 0.2 * harmonic)) ** 2))
    noisy = power * random.gamma(50.0, 0.02, power.shape)
    return np.log10(noisy + 1e-3).reshape(count, FRAMES * BANDS).astype(np.float32)


def autoencoder() -> keras.Model:
    """Return the dense autoencoder of MLPerf Tiny: 640, four of 128, 8, four of 128, 640."""
    x = inputs = keras.Input((FRAMES * BANDS,))
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(layers.Dense(width)(x)))
    return keras.Model(inputs, layers.Dense(FRAMES * BANDS)(x))


def _trained(model: keras.Model, x: np.ndarray, epochs: int, rate: float) -> keras.Model:
    """Train a model to return what it is given."""
    steps = epochs * len(x) // 128
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)), "mse")
    model.fit(x, x, batch_size=128, epochs=epochs, verbose=0)
    return model


def _pruned(model: keras.Model, steps: int) -> keras.Model:
    return tfc.prune(model, tfc.PruneConfig(tfc.PolynomialSparsity(0.0, ZEROS, 0, steps)))


def _row(network: str, way: str, model: keras.Model, path: pathlib.Path, judge: Judge) -> dict[str, Any]:
    artifact = tfc.export(model, path, inference_io="int8", overwrite=True)
    found = tfc.estimate_npu(artifact, ACCELERATOR)
    row: dict[str, Any] = {"network": network, "weights": way, "file bytes": artifact.nbytes}
    row |= {"zipped bytes": len(zlib.compress(path.read_bytes(), 9)), "flash bytes": found.flash}
    row |= {"SRAM bytes": found.sram, "ms": round(found.milliseconds, 4), "on processor": len(found.on_processor)}
    return {**row, **judge(path)}


def _rows(
    network: str, ways: dict[str, tuple[keras.Model, str]], calibration: np.ndarray, path: pathlib.Path, judge: Judge
) -> list[dict[str, Any]]:
    """Return a row for each model and its config, beside the first."""
    rows = []
    for way, (model, config) in ways.items():
        rows.append(_row(network, way, tfc.quantize(model, config, calibration, target=ACCELERATOR), path, judge))
        rows[-1]["flash less"] = f"{rows[0]['flash bytes'] / rows[-1]['flash bytes']:.2f}x"
        rows[-1]["time less"] = f"{rows[0]['ms'] / rows[-1]['ms']:.2f}x"
    return rows


def normalized_sounds() -> tuple[np.ndarray, np.ndarray]:
    """Return samples to train with and to test with, normalized by the first."""
    train, test = sounds(SAMPLES, 0), sounds(TESTED, 1)
    mean, deviation = train.mean(0), train.std(0)
    return (train - mean) / deviation, (test - mean) / deviation


def trained_autoencoder(x: np.ndarray, cache: pathlib.Path) -> keras.Model:
    """Return the autoencoder, trained once."""

    def make() -> keras.Model:
        keras.utils.set_random_seed(0)
        return _trained(autoencoder(), x, 20, 2e-3)

    return kept(cache / "autoencoder.keras", make)


def of_autoencoder(setting: Setting) -> list[dict[str, Any]]:
    """Return rows: int8, trained as long as the others; zeros; zeros and few values."""
    x, tested = normalized_sounds()

    def judge(path: pathlib.Path) -> dict[str, str]:
        return {"quality": f"error {float(np.mean((outputs(path, tested) - tested) ** 2)):.4f}"}

    model = trained_autoencoder(x, setting.cache)
    keras.utils.set_random_seed(0)
    pruned = tfc.strip(_trained(_pruned(model, 6 * len(x) // 128), x, 10, 1e-3))
    few = _trained(tfc.cluster(tfc.fold_batch_norms(pruned), tfc.ClusterConfig(CLUSTERS, "kmeans")), x, 6, 5e-4)
    ways = {
        "int8": (_trained(model, x, 16, 1e-3), "int8"),
        "80 % zeros": (pruned, "int8"),
        "80 % zeros, one scale": (pruned, "int8_per_tensor"),
        "80 % zeros, 8 values, one scale": (few, "int8_per_tensor"),
    }
    return _rows("autoencoder", ways, x[:IMAGES], setting.cache / "npu.tflite", judge)


def of_resnet8(setting: Setting) -> list[dict[str, Any]]:
    """Return rows: int8; zeros; zeros and few values."""
    train, (images, labels) = data.cifar10(setting.data)
    x, calibration = images.astype(np.float32), train[0][:IMAGES].astype(np.float32)

    def judge(path: pathlib.Path) -> dict[str, str]:
        return {"quality": f"accuracy {accuracy(outputs(path, x), labels):.2f} %"}

    def once(name: str, make: Callable[[], keras.Model]) -> keras.Model:
        return kept(setting.cache / "npu_resnet8" / f"{name}.keras", make)

    def trained(model: keras.Model, epochs: int, rate: float) -> keras.Model:
        fit(Fit(epochs, rate, seed=0, augment=True), keras, model, train)
        return tfc.strip(model)

    model = trained_resnet8(setting.data)
    steps = Fit(1, 0.0, seed=0).steps(train)
    pruned = once("pruned", lambda: trained(_pruned(model, 5 * steps), 8, 1e-3))
    config = tfc.ClusterConfig(CLUSTERS, "kmeans")
    few = once("few", lambda: trained(tfc.cluster(tfc.fold_batch_norms(pruned), config), 4, 3e-4))
    ways = {
        "int8": (model, "int8"),
        "80 % zeros": (pruned, "int8"),
        "80 % zeros, 8 values, one scale": (few, "int8_per_tensor"),
    }
    return _rows("ResNet-8", ways, calibration, setting.cache / "npu.tflite", judge)


def npu(setting: Setting) -> None:
    """Estimate, print and save."""
    setting.cache.mkdir(parents=True, exist_ok=True)
    rows = [*of_autoencoder(setting), *of_resnet8(setting)]
    show(f"On an {ACCELERATOR}, as Vela estimates", rows)
    save("small_npu", rows, setting.command)
