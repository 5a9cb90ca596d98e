"""Operators without a kernel that in inference compute what integer runtimes compute."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfcompress.core.keras_private import context_of_its_own
from tfcompress.core.passthrough import PassThrough
from tfcompress.graph.rewrite import Call
from tfcompress.layers.names import name_of
from tfcompress.quantization.arithmetic.base import Arithmetic
from tfcompress.quantization.graph.channel_slices import has_layer
from tfcompress.quantization.graph.grids_at_hand import arithmetic_between, known, whole_numbers
from tfcompress.quantization.graph.operator_integers import OPERATORS, Between
from tfcompress.quantization.graph.surroundings import Surroundings, surroundings
from tfcompress.quantization.numerics.custom_gradient import with_gradients_of

Tensor = Any


def is_simulated(call: Call) -> bool:
    """Return whether it is known what integers runtimes make of a call's."""
    return name_of(call.operation) in OPERATORS and has_layer(call)


@keras.saving.register_keras_serializable(package="tfcompress")
class IntegerOperator(PassThrough):
    """Calls a layer and, in inference between grids, gives the integers that a runtime makes of those of the inputs.

    It stands in the quantized model in place of the layer, and says as little of it as a wrapper does. Which runtime's
    they are says the specification of the quantizer behind. Gradients are the layer's own.

    Args:
        layer: An Add, a GlobalAveragePooling2D or the like (`operator_integers.OPERATORS`).
    """

    temporary = True

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Call the layer and, in inference, compute as a runtime does."""

        def plain() -> Any:
            with context_of_its_own():
                return self.layer(inputs, *args, **self._inner_kwargs(kwargs, training))

        around = None if training or args or any(value is not None for value in kwargs.values()) else surroundings(self)
        compute = OPERATORS[name_of(self)]
        arithmetic = None if around is None else arithmetic_between(around, compute.joins)
        given = keras.tree.flatten(inputs)
        dtypes = {keras.backend.standardize_dtype(x.dtype) for x in given}
        if around is None or arithmetic is None or dtypes != {"float32"} or self.layer.compute_dtype != "float32":
            return plain()
        if len(given) != len(around.quantizers):  # constants are among them
            return plain()
        between = self._between(given, arithmetic, around)
        if not compute.takes(self.innermost, between):
            return plain()

        def exact() -> Tensor:
            return with_gradients_of(plain, compute(self.innermost, between) * between.output)

        return known(around, exact, plain)

    @staticmethod
    def _between(given: list[Tensor], arithmetic: Arithmetic, around: Surroundings) -> Between:
        assert around.behind is not None
        grids = [(None, None) if quantizer is None else quantizer.grid_now() for quantizer in around.quantizers]
        scales, zeros = zip(*grids, strict=True)
        pairs = zip(given, scales, strict=True)
        whole = (x if scale is None else ops.stop_gradient(whole_numbers(x, scale)) for x, scale in pairs)
        return Between(
            arithmetic, tuple(whole), scales, around.behind.grid_now()[0], zeros, around.behind.grid_now()[1]
        )
