"""Quantization carried through operators that only move, or pick, values."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.export.onnx.graph_editor import Graph, attributes
from tfcompress.export.onnx.simplify import quantized_as

FUSED = ("Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Movers that ONNX Runtime runs on the integers where it finds DequantizeLinear, mover, QuantizeLinear."""

PLAIN = ("DepthToSpace", "Expand", "Pad", "ReduceMax", "ReduceMin", "Resize", "SpaceToDepth", "Split", "Tile")
"""Movers that it runs in float there, and on the integers only if that is what they are given."""


def carry(graph: Graph) -> None:
    """Bring quantization to both sides of every mover that has it on one: exact, for the grid is the same.

    So a runtime moves bytes, and what comes before and after sees that it is quantized.
    """
    _pull(graph)
    _fold_constants(graph)
    _push(graph)
    for node in graph.of_type(*PLAIN):
        _in_integers(graph, node)


def moves_only(graph: Graph, node: Any) -> bool:
    """Whether each output value is one of the first input's, or zero."""
    given = attributes(node)
    if node.op_type == "Resize":
        return bool(given.get("mode", b"nearest") == b"nearest")
    if node.op_type == "Pad":
        name = node.input[2] if len(node.input) > 2 else ""
        value = graph.constants.get(name) if name else np.zeros(())
        return given.get("mode", b"constant") != b"constant" or (value is not None and not value.any())
    if node.op_type == "MaxPool":
        return len(node.output) == 1
    return node.op_type in (*FUSED, *PLAIN)


def _pull(graph: Graph) -> None:
    """Quantize in front of movers what is quantized behind them."""
    waiting = graph.of_type("QuantizeLinear")
    while waiting:
        node = waiting.pop()
        mover = graph.producer(node.input[0], *FUSED, *PLAIN)
        if mover is None or len(mover.output) > 1 or not moves_only(graph, mover):
            continue
        if graph.only_reader(node.input[0]) is None or quantized_as(graph, mover.input[0]) is not None:
            continue
        source, parameters = mover.input[0], list(node.input[1:])
        integers = graph.add("QuantizeLinear", [source, *parameters], graph.fresh(f"{source}/quantized"))
        floats = graph.add("DequantizeLinear", [integers, *parameters], graph.fresh(f"{source}/dequantized"))
        if source in graph.shapes:
            graph.shapes[integers] = graph.shapes[floats] = graph.shapes[source]
        graph.set_input(mover, 0, floats)
        waiting.append(graph.producer(integers))


def _fold_constants(graph: Graph) -> None:
    """Store quantized constants (the table of an Embedding) as integers."""
    for node in graph.of_type("QuantizeLinear"):
        value = graph.constants.get(node.input[0])
        scale, zero = (graph.constants.get(name) for name in node.input[1:3])
        if value is None or scale is None or zero is None or scale.size != 1:
            continue
        limits = np.iinfo(zero.dtype)
        steps = np.rint(value / np.float32(scale.item())) + float(zero.item())
        graph.remove(node)
        graph.constants[node.output[0]] = np.clip(steps, limits.min, limits.max).astype(zero.dtype)
        graph.shapes[node.output[0]] = value.shape


def _push(graph: Graph) -> None:
    """Quantize behind movers what is quantized in front of them."""
    graph.sort()
    for node in graph.of_type(*FUSED, *PLAIN):
        dequantize = graph.producer(node.input[0], "DequantizeLinear")
        if dequantize is None or quantized_as(graph, node.input[0]) is None or not moves_only(graph, node):
            continue
        parameters = list(dequantize.input[1:])
        for output in list(node.output):
            if output and not _quantized_alike(graph, output, parameters):
                _repeat(graph, output, parameters)


def _quantized_alike(graph: Graph, name: str, parameters: list[str]) -> bool:
    readers = graph.readers(name)
    alike = all(node.op_type == "QuantizeLinear" and list(node.input[1:]) == parameters for node in readers)
    return bool(readers) and not graph.is_output(name) and alike


def _repeat(graph: Graph, output: str, parameters: list[str]) -> None:
    moved = graph.fresh(f"{output}/moved")
    readers = graph.readers(output)
    graph.rename(output, moved)
    integers = graph.add("QuantizeLinear", [moved, *parameters], graph.fresh(f"{output}/quantized"))
    graph.add("DequantizeLinear", [integers, *parameters], output)
    if moved in graph.shapes:
        graph.shapes[integers] = graph.shapes[output] = graph.shapes[moved]
    for reader in readers:
        for index, name in enumerate(reader.input):
            if name == moved:
                graph.set_input(reader, index, output)


def _in_integers(graph: Graph, node: Any) -> None:
    """Take away the DequantizeLinear in front of a mover and the QuantizeLinear behind it."""
    dequantize = graph.producer(node.input[0], "DequantizeLinear")
    known = quantized_as(graph, node.input[0])
    if dequantize is None or known is None or known[1].dtype.itemsize != 1 or not moves_only(graph, node):
        return  # of 16 bits there are no kernels
    parameters = list(dequantize.input[1:])
    if not all(_quantized_alike(graph, output, parameters) for output in node.output if output):
        return
    graph.set_input(node, 0, dequantize.input[0])
    if node.op_type == "Pad" and attributes(node).get("mode", b"constant") == b"constant":
        if len(node.input) == 2:
            node.input.append("")
        graph.set_input(node, 2, parameters[1])
    for output in list(node.output):
        for quantize in graph.readers(output):
            graph.remove(quantize)
            graph.replace(quantize.output[0], output)
