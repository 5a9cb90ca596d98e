"""One check that every wrapped layer goes through: train, save, load, strip, export, parity."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tests.layers import LAYERS
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.pruning import Mask
from tfcompress.pruning.running_statistics import DECAY

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
ALMOST = {"rtol": 0, "atol": 1e-5}


def on_jax(cases: Any, central: Any, rare: Any = ()) -> list[Any]:
    """Return cases for `parametrize`: those that are central run on JAX in `make test`, too, rare ones not at all."""
    return but_rare([pytest.param(case, marks=pytest.mark.on_jax) if case in central else case for case in cases], rare)


def but_rare(cases: Any, rare: Any) -> list[Any]:
    """Return cases for `parametrize`, of which some are rare: another case goes through the same code."""
    return [pytest.param(case, marks=pytest.mark.rare) if case in rare else case for case in cases]


def in_turn(cases: Any, others: Any) -> list[Any]:
    """Return pairs for `parametrize`: each case beside one of the others, in turn; the other pairs are rare."""
    others = list(others)
    return [
        pytest.param(case, other, marks=() if place % len(others) == turn else pytest.mark.rare)
        for place, case in enumerate(cases)
        for turn, other in enumerate(others)
    ]


def data_for(*names: str, samples: int = 8) -> tuple[Any, np.ndarray]:
    """Return seeded inputs and targets for `tests.layers.model_of(*names)`."""
    generator = np.random.default_rng(7)
    found = {}
    for name in names:
        shape = (samples, *LAYERS[name][1])
        x = generator.integers(0, 20, shape) if name == "embedding" else generator.standard_normal(shape)
        found[f"{name}_features"] = x.astype("int32" if name == "embedding" else "float32")
    x = found if len(names) > 1 else found[f"{names[0]}_features"]
    return x, generator.standard_normal((samples, 2 * len(names)))


def zeros_of(model: keras.Model) -> dict[str, tuple[int, int]]:
    """Return, for each masked weight, how many values the mask removes and how many of the weight are zero."""
    counts = {}
    for layer in wrapped_layers(model):
        for position, transform in layer.transforms:
            mask = keras.ops.convert_to_numpy(transform.mask.value)
            weight = keras.ops.convert_to_numpy(layer.layer.weights[position].value)
            counts[layer.layer.weights[position].path] = (
                int((~mask).sum()),
                int((weight == 0).sum()),
                mask.size,
            )
    return counts


def gathered(mask: Mask, name: str) -> np.ndarray:
    """Return what a mask has gathered of all steps; JAX adds that of the last one at the beginning of the next."""
    value = keras.ops.convert_to_numpy(mask.gathering.values[name].value)
    if ON_TENSORFLOW:
        return value
    return DECAY * value + keras.ops.convert_to_numpy(mask.gathering._news[name].value)


def outputs_of(model: keras.Model, x: Any) -> np.ndarray:
    """Return what a model of one output computes; on TensorFlow without tracing it, which takes longer."""
    return np.asarray(model(x, training=False)) if ON_TENSORFLOW else model.predict(x, verbose=0)


def train(model: keras.Model, x: Any, y: np.ndarray, **how: bool) -> None:
    """Train for three steps."""
    model.compile(keras.optimizers.Adam(1e-2), "mse", **how)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False)


def check_wrapper(model: keras.Model, x: Any, y: np.ndarray, folder: pathlib.Path, **how: bool) -> None:
    """Prune a model to one half, train it, and follow it as far as it goes.

    Args:
        model: A built model.
        x: Inputs.
        y: Targets of its one output.
        folder: Where files may be written.
        **how: `run_eagerly`, `jit_compile`: how it is trained.
    """
    before = [keras.ops.convert_to_numpy(v.value) for v in model.variables]
    pruned = tfc.prune(model, tfc.ConstantSparsity(0.5, begin_step=1, frequency=2))
    train(pruned, x, y, **how)

    # On schedule, exactly half, and on TensorFlow really zero.
    counts = zeros_of(pruned)
    assert counts, "nothing was wrapped"
    for path, (masked, zero, size) in counts.items():
        assert masked == size - max(round(size / 2), 1), path
        assert not ON_TENSORFLOW or zero >= masked, path
    assert {int(layer.step.numpy() if ON_TENSORFLOW else layer.step) for layer in wrapped_layers(pruned)} == {4}

    # Saved and loaded: the same numbers, and the same masks.
    expected = outputs_of(pruned, x)
    pruned.save(folder / "pruned.keras")
    loaded = keras.models.load_model(folder / "pruned.keras")
    np.testing.assert_array_equal(outputs_of(loaded, x), expected)
    assert zeros_of(loaded) == counts

    # Stripped: plain layers, the same numbers.
    stripped = tfc.strip(loaded)
    assert not wrapped_layers(stripped)
    tolerance = ALMOST if expected.dtype == "float32" else {"rtol": 0, "atol": 2e-2}
    np.testing.assert_allclose(outputs_of(stripped, x), expected, **tolerance)
    assert abs(tfc.sparsity(stripped) - tfc.sparsity(pruned)) < 1e-12

    assert stripped.output_names == getattr(model, "output_names", stripped.output_names)

    # The model that was given is as it was.
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(variable.value))


def check_exports(model: keras.Model, x: Any, folder: pathlib.Path) -> None:
    """Export a wrapped model to both formats and compare what the runtimes compute."""
    expected = outputs_of(model, x).astype("float32")
    for suffix in (".tflite", ".onnx"):
        artifact = tfc.export(model, folder / f"model{suffix}")
        found = artifact.predict(x)
        for column in range(expected.shape[1]):  # each as exactly as it is large
            most = 1e-4 * max(1, np.abs(expected[:, column]).max())
            np.testing.assert_allclose(found[:, column], expected[:, column], rtol=0, atol=most)
