"""The fake-quantizers that a traced graph holds, those that a layer's own call makes too."""

from __future__ import annotations

from tfcompress.quantization.numerics.grid import Grid
from tfcompress.tracing.constant_parts import constant_tensors, values_of
from tfcompress.tracing.function_graph import captured_by
from tfcompress.tracing.trace import Trace


def fake_quantizer_grids(trace: Trace) -> list[tuple[str, Grid]]:
    """Return the fake-quantizers of a traced graph by name, with their grids; none whose range depends on arguments.

    Args:
        trace: Of a model.
    """
    operations = trace.concrete.graph.get_operations()
    fixed = [op for op in operations if op.type == "FakeQuantWithMinMaxArgs"]
    ranges = [(op, op.get_attr("min"), op.get_attr("max")) for op in fixed]
    others = [op for op in operations if op.type == "FakeQuantWithMinMaxVars"]
    if others:
        known = constant_tensors(trace.concrete, captured_by(trace.concrete, len(trace.inputs)))
        others = [op for op in others if all(x.name in known for x in op.inputs[1:])]
        ends = values_of(trace, [x for op in others for x in op.inputs[1:]])
        ranges += zip(others, ends[::2], ends[1::2], strict=True)
    return [
        (op.name, Grid.of_range(float(low), float(high), op.get_attr("num_bits"), op.get_attr("narrow_range")))
        for op, low, high in ranges
    ]
