"""What a change of a model's outputs costs, without labels: the loss whose targets are the model's own outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.graph.output_activation import last_activation
from tfcompress.pipeline.losses import Losses, by_output

Tensor = Any

LEAST = 1e-7
"""A probability that is taken as 0."""


class NoScores(ValueError):
    """The loss or the gradients of a model are such that its layers can't be scored by them."""


@dataclasses.dataclass(frozen=True)
class OutputLoss:
    """The loss of one output.

    Attributes:
        kind: "classes": one of the last axis is right; "shares": each is right or not; "numbers": squared error.
        logits: Whether the output is in logits.
        scale: Of numbers: what an error counts beside, their deviation.
    """

    kind: str
    logits: bool = False
    scale: float = 1.0

    def draw(self, output: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return targets that are drawn from what a model predicts.

        The gradient of the loss with such targets is 0 on average, and the mean of its square is the curvature.
        """
        if self.kind == "classes":
            shares = _softmax(output) if self.logits else np.maximum(output, 0)
            ends = np.cumsum(shares, axis=-1)
            drawn = (generator.random((*output.shape[:-1], 1)) * ends[..., -1:] >= ends).sum(axis=-1)
            return np.eye(output.shape[-1], dtype=np.float32)[np.minimum(drawn, output.shape[-1] - 1)]
        if self.kind == "shares":
            shares = 1 / (1 + np.exp(-np.clip(output, -60, 60))) if self.logits else output
            return (generator.random(output.shape) < shares).astype(np.float32)
        return (output + self.scale * generator.standard_normal(output.shape)).astype(np.float32)

    def value(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the sum over samples of a loss whose curvature is that of Keras' mean over all places of a sample.

        Drawn targets of the places of a sample are independent: divided by the root of how many places there are, the
        squares of their gradients add up to the mean.
        """
        output = ops.cast(output, "float32")
        shape = [size if size is not None else 1 for size in output.shape[1:]]
        free = [axis + 1 for axis, size in enumerate(output.shape[1:]) if size is None]
        places: Any = float(np.prod(shape[:-1] if self.kind == "classes" else shape, initial=1))
        for axis in free:
            places = places * ops.cast(ops.shape(output)[axis], "float32")
        root = ops.sqrt(ops.cast(places, "float32"))
        return ops.sum(self._terms(output, target)) / root

    def _terms(self, output: Tensor, target: Tensor) -> Tensor:
        if self.kind == "classes":
            logs = ops.log_softmax(output, axis=-1) if self.logits else ops.log(ops.maximum(output, LEAST))
            return -ops.sum(target * logs, axis=-1)
        if self.kind == "shares":
            if self.logits:
                return ops.softplus(output) - target * output
            kept = ops.clip(output, LEAST, 1 - LEAST)
            return -target * ops.log(kept) - (1 - target) * ops.log(1 - kept)
        return ops.square(output - target) / (2 * self.scale**2)

    def rise(self, before: np.ndarray, after: np.ndarray) -> float:
        """Return the mean rise of the loss by a change of outputs, its targets those before: the divergence.

        Args:
            before: Outputs of several samples.
            after: Those of the changed model.
        """
        before, after = (np.asarray(x, np.float64) for x in (before, after))
        if self.kind == "classes":
            p, q = (_softmax(x) if self.logits else np.clip(x, LEAST, None) for x in (before, after))
            p, q = np.clip(p, LEAST, None), np.clip(q, LEAST, None)
            return float((p * np.log(p / q)).sum(axis=-1).mean())
        if self.kind == "shares":
            p, q = (1 / (1 + np.exp(-x)) if self.logits else x for x in (before, after))
            p, q = np.clip(p, LEAST, 1 - LEAST), np.clip(q, LEAST, 1 - LEAST)
            return float((p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean())
        return float(np.square(after - before).mean() / (2 * self.scale**2))


def _softmax(x: np.ndarray) -> np.ndarray:
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def losses_of(model: keras.Model, loss: Any, outputs: Sequence[np.ndarray]) -> list[OutputLoss]:
    """Return the loss of each output of a flat model.

    Args:
        model: Flat.
        loss: As for `compile`, whose kind counts: one for all outputs, a list or dict, or `Losses`; `None`: by what an
            output ends in, softmax, sigmoid or anything else: numbers.
        outputs: Of a first batch, in the model's order, which say how large numbers are.

    Raises:
        NoScores: There aren't as many losses as outputs.
    """
    try:
        given = by_output(model, loss.each if isinstance(loss, Losses) else loss, "loss")
    except ValueError as error:
        raise NoScores(str(error)) from error
    found = []
    for one, symbolic, values in zip(given, model.outputs, outputs, strict=True):
        ends_in = last_activation(symbolic)
        name = _name(one)
        spread = float(np.std(np.asarray(values, np.float64))) or 1.0
        if "categorical" in name or (not name and ends_in == "softmax"):
            found.append(OutputLoss("classes", ends_in != "softmax"))
        elif "binary" in name or (not name and ends_in == "sigmoid"):
            found.append(OutputLoss("shares", ends_in != "sigmoid"))
        else:
            found.append(OutputLoss("numbers", scale=spread))
    return found


def _name(loss: Any) -> str:
    """Return what a loss is called, in lower case; empty: there is none."""
    if loss is None:
        return ""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return str(name).lower().replace("_", "")
