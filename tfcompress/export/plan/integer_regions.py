"""What of a quantized graph computes in integers, what is folded, and which quantizers stand around a tensor."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfcompress.core.passthrough import innermost
from tfcompress.export.plan.materialized_layers import scale_and_offset
from tfcompress.export.plan.scheme import Scheme
from tfcompress.graph.index import index_of
from tfcompress.graph.rewrite import Call
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.graph.affine_maps import QuantizedMap
from tfcompress.quantization.graph.float_layers import kept_reason
from tfcompress.quantization.graph.op_policies import KERNEL, RELU, TABLE, TRANSPARENT
from tfcompress.quantization.graph.operator_status import alone
from tfcompress.quantization.graph.placement import place, shares_range
from tfcompress.quantization.graph.quantizer_sources import quantizer_of
from tfcompress.quantization.numerics.grid import Grid
from tfcompress.quantization.weights.uniform import weight_quantizers


class IntegerRegions:
    """A quantized graph, and what of it a file computes in integers.

    Args:
        model: Quantized, one flat graph.
        scheme: What it computes in; `None`: in float.

    Attributes:
        floating: Calls that compute in float between integers.
        alone: Calls of kernels whose weights alone are integers.
        folded: Affine maps that become part of what is before them.
    """

    def __init__(self, model: keras.Model, scheme: Scheme | None):
        self.model = model
        self.scheme = scheme
        self.graph = index_of(model)
        self.placement = place(self.graph)
        self.static = scheme is not None and scheme.activations == "static"
        self.floating = {call for call in self.graph if self.is_floating(call)}
        # Old files don't say how activations are meant to be quantized.
        said = self.static and any(t.activations is not None for t in weight_quantizers(model))
        self.alone = {call for call in self.graph if said and self.is_alone(call)}
        self.folded = self.folds()

    def folds(self) -> set[Call]:
        """Return the affine maps that become part of what is before them: without integers, of a kernel alone."""
        found: set[Call] = set()
        for call in self.graph:
            if call not in self.placement.folded:
                continue
            before = self.graph.producer(call.inputs[0])
            if before in self.floating:
                self.floating.add(call)
            elif self.static or before in found or (before and self.placement.rules[before].kind == KERNEL):
                found.add(call)
        return found

    def is_floating(self, call: Call) -> bool:
        """Return whether a call is to compute in float between integers."""
        unfit = isinstance(call.operation, QuantizedMap) and not call.operation.fits()
        return self.static and (unfit or kept_reason(call.operation) is not None)

    def is_alone(self, call: Call) -> bool:
        """Return whether weights alone of a kernel are integers, between tensors of integers."""
        return self.placement.rules[call].kind in (KERNEL, TABLE) and alone(call.operation)

    def least_scale(self, call: Call) -> float:
        """Return the smallest scale of the grids that a call's output is rounded to; infinite if there is none."""
        return min((q.grid.scale for q in self.behind(call.outputs[0]) or ()), default=np.inf)

    def grid(self, x: Any) -> Grid | None:
        """Return the grid of the 8 bits quantizer with a zero point that a tensor comes from, if it does."""
        quantizer = self.source(x)
        return None if quantizer is None or quantizer.spec.symmetric or quantizer.spec.bits != 8 else quantizer.grid

    def source(self, x: Any) -> ActivationQuantizer | None:
        """Return the quantizer that a tensor, or what it is moved from, comes from."""
        return quantizer_of(x, self.graph.producer)

    def following(self, call: Call) -> tuple[Any, Any] | None:
        """Return the affine maps that are folded into a call, as one."""
        total: tuple[Any, Any] | None = None
        readers = self.graph.readers(call.outputs[0])
        while len(readers) == 1 and readers[0] in self.folded:
            scale, offset = scale_and_offset(readers[0])
            total = (scale, offset) if total is None else (total[0] * scale, total[1] * scale + offset)
            readers = self.graph.readers(readers[0].outputs[0])
        return total

    def behind(self, x: Any) -> list[ActivationQuantizer] | None:
        """Return the quantizers that read a tensor, also those that a concatenation takes on; `None` if others do."""
        found: list[ActivationQuantizer] = []
        for call in self.graph.readers(x):
            if isinstance(call.operation, ActivationQuantizer):
                found.append(call.operation)
            elif self.static and self.takes_on(call):
                more = self.behind(call.outputs[0])
                if not more:
                    return None
                found += more
            else:
                return None
        return found

    def implied(self, call: Call) -> bool:
        """Return whether the ranges behind a ReLU cut off what it does."""
        output = call.outputs[0]
        quantizers = self.behind(output)
        if not quantizers or any(x is output for x in self.model.outputs) or not self.static:
            return False
        inner = innermost(call.operation)
        most = 6.0 if name_of(call.operation) == "relu6" else getattr(inner, "max_value", None)
        limit = np.inf if most is None else float(most) * (1 + 1e-6)
        return all(q.range[0] >= 0 and q.range[1] <= limit for q in quantizers)

    def takes_on(self, call: Call) -> bool:
        """Return whether the range of what reads a call's output is that of its inputs, too."""
        rule = self.placement.rules[call]
        return shares_range(call, rule) or (rule.kind == RELU and self.implied(call))

    def read_by_quantizers(self, call: Call) -> bool:
        """Return whether a quantizer reads what a call makes."""
        readers = self.graph.readers_of_call(call)
        return any(isinstance(reader.operation, ActivationQuantizer) for reader in readers)

    def on_grid(self, x: Any) -> bool:
        """Return whether a tensor, or what it is moved from, comes from a quantizer."""
        call = self.graph.producer(x)
        if call is None:
            return False
        if isinstance(call.operation, ActivationQuantizer):
            return True
        if self.placement.rules[call].kind == TABLE:
            return call not in self.alone
        return self.placement.rules[call].kind == TRANSPARENT and any(self.on_grid(y) for y in call.inputs)

    def scale(self, x: Any) -> float | None:
        """Return the scale of the grid on which an output lies."""
        quantizer = self.source(x) if self.static else None
        return None if quantizer is None else quantizer.grid.scale
