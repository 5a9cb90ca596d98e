"""The builders of all topics, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Builder = Callable[[], tuple[keras.Model, Any]]

STYLES: dict[str, Builder] = {}
"""Fills up as the topics are imported; `styles` imports them all."""

TOPICS = ("attention", "convolution", "generative", "graphs", "recurrent", "tables", "text")


def style(builder: Builder) -> Builder:
    """Register a builder under its name."""
    STYLES[builder.__name__] = builder
    return builder


def styles() -> dict[str, Builder]:
    """Return all builders."""
    for topic in TOPICS:
        importlib.import_module(f"tests.styles.{topic}")
    return STYLES


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Return standard normal numbers, float32."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    """Return numbers of 0 to 1, float32."""
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


def ids(*shape: int, below: int, seed: int = 0, dtype: str = "int32") -> np.ndarray:
    """Return whole numbers of 0 up to `below`, both ends among them."""
    found = np.random.default_rng(seed).integers(0, below, shape).astype(dtype)
    found.reshape(-1)[:2] = 0, below - 1
    return found


def called(model: keras.Model, x: Any) -> tuple[keras.Model, Any]:
    """Build a subclassed model by calling it, as its author would."""
    model(x)
    return model, x
