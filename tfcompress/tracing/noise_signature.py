"""How a model is called whose random numbers are inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.keras_private import flatten_layers
from tfcompress.data.named_inputs import TensorInfo, count_samples, fit_inputs
from tfcompress.graph.inputs.sizes import batch_of
from tfcompress.tracing.float32_view import float32_view
from tfcompress.tracing.random_draws import EXPECTED, Draw, drawn, find_draws, given_graph
from tfcompress.tracing.signature import Signature
from tfcompress.tracing.trace import plainly


@dataclasses.dataclass(frozen=True)
class NoiseSignature(Signature):
    """A signature with what is drawn behind the inputs.

    Attributes:
        own: the model's, without draws.
        kinds: {name of an input that is drawn: a key of `EXPECTED`}.
    """

    own: Signature = dataclasses.field(kw_only=True)
    kinds: dict[str, str] = dataclasses.field(kw_only=True)

    @property
    def own_inputs(self) -> dict[str, TensorInfo]:
        """The inputs without draws."""
        return self.own.inputs

    @property
    def sampled_inputs(self) -> dict[str, TensorInfo]:
        """The inputs without draws, whose number depends on these."""
        return self.own.inputs

    def call(self, model: keras.Model, tensors: Sequence[Any]) -> dict[str, Any]:
        """Call `model` with inputs and draws; return {name: tensor}."""
        return self.caller(model)(tensors)

    def caller(self, model: keras.Model) -> Callable[[Sequence[Any]], dict[str, Any]]:
        """Return what calls `model` in a graph in which given numbers stand where it draws.

        A graph is made for each shape of inputs: variables must not have other values meanwhile.
        """
        made: dict[Any, tuple[Any, list[str]]] = {}

        def call(tensors: Sequence[Any]) -> dict[str, Any]:
            inputs = tensors[: len(self.own.inputs)]
            key = tuple(tuple(x.shape) for x in inputs)
            if key not in made:
                concrete, order, draws = self._traced(model, inputs)
                lead = {name: self.inputs[name].shape for name in draws}
                made[key] = given_graph(concrete, len(inputs), {n: (draws[n], lead[n]) for n in self.kinds}), order
            concrete, order = made[key]
            outputs = concrete(*tensors)
            return {name: outputs[name] for name in order}

        return call

    def _traced(self, model: keras.Model, tensors: Sequence[Any]) -> tuple[Any, list[str], dict[str, Draw]]:
        import tensorflow as tf

        order: list[str] = []

        def inference(*inputs: Any) -> dict[str, Any]:
            outputs = self.own.call(model, inputs)
            order[:] = outputs
            return {name: tf.identity(x) for name, x in outputs.items()}

        specs = [tf.TensorSpec(x.shape, x.dtype, name=name) for name, x in zip(self.own.inputs, tensors, strict=True)]
        function = tf.function(inference, input_signature=specs, autograph=False)
        concrete = plainly(function.get_concrete_function(), len(specs))
        layers = frozenset(layer.name for layer in flatten_layers(model, include_self=False))
        draws = find_draws(concrete, self.own.inputs, layers, model.name)
        if {name: draw.kind for name, draw in draws.items()} != self.kinds:
            raise ValueError(
                "Expected the model to draw the random numbers that its file takes, "
                f"{', '.join(self.kinds)}. Received: {model.name!r}, which draws {', '.join(draws) or 'none'}. Let "
                "what it draws depend on its layers alone."
            )
        return concrete, order, draws

    def completed(
        self, model: keras.Model, inputs: Mapping[str, np.ndarray], random: np.random.Generator | None = None
    ) -> dict[str, np.ndarray]:
        """Return inputs with numbers drawn behind them, as many as `model` draws for them."""
        random = np.random.default_rng(0) if random is None else random
        samples = count_samples(inputs)
        shapes = {name: self.inputs[name].shape[1:] for name in self.kinds}
        if any(None in shape for shape in shapes.values()):
            batch = batch_of(spec.shape for spec in self.inputs.values()) or 1
            tensors = [keras.ops.convert_to_tensor(x[:batch] if x.ndim else x) for x in inputs.values()]
            with float32_view(model):
                found = self._traced(model, tensors)[2]
            shapes = {name: found[name].shape[len(found[name].shape) - len(shapes[name]) :] for name in shapes}
        made = {name: drawn(kind, (samples, *map(_size, shapes[name])), random) for name, kind in self.kinds.items()}
        return {**inputs, **made}

    def fitted(self, model: keras.Model, data: Any) -> dict[str, np.ndarray]:
        """Return data to compare on by input name, with numbers drawn where it has none; refuse what doesn't fit."""
        if isinstance(data, Mapping) and not self.kinds.keys().isdisjoint(data):
            return fit_inputs(data, self.inputs, finite=True)
        return self.completed(model, fit_inputs(data, self.own.inputs, finite=True))

    def notes(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """Say what each input that is drawn expects."""
        each = "; ".join(f"{name}: {EXPECTED[kind]}" for name, kind in self.kinds.items())
        return (f"Random numbers are inputs: draw new ones for each run, float32, each of its own. {each}.",)


def _size(size: int | None) -> int:
    return size or 1
