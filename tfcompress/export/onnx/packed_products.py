"""Products by weights of 4 bits as ONNX Runtime's own operator, where it is no slower than a product of floats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfcompress.export.onnx.dynamic_range import is_product
from tfcompress.export.onnx.graph_editor import Graph
from tfcompress.export.onnx.weights.matmul_nbits import BITS, DOMAIN, KIND, PackedMatrix, slower
from tfcompress.export.plan.planned_weights import PlannedWeights, digest
from tfcompress.quantization.encoding import Affine
from tfcompress.quantization.quantize_config import BLOCKS

PACKED = "for MatMulNBits, which ONNX Runtime alone has; it rounds its input to 8 bits at run time"
"""What is said of weights that are stored so."""


def pack_products(proto: Any, weights: PlannedWeights, detached: Mapping[str, bytes]) -> dict[str, str]:
    """Let products by planned matrices of 3 and 4 bits be MatMulNBits, in place, as far as that isn't slower.

    Args:
        proto: An `onnx.ModelProto`; it gets the values of its constants.
        weights: Those that are integers; they note which layers' inputs are rounded at run time.
        detached: The values of constants that it lacks, by name.

    Returns:
        {digest of the integers of a weight that isn't stored so: why}.
    """
    import onnx

    graph = Graph(proto, detached)
    others: dict[str, str] = {}
    packed: dict[str, tuple[PackedMatrix, list[str]]] = {}
    for node in graph.of_type("MatMul", "Gemm"):
        weight = graph.constants.get(node.input[1])
        found = weights.find(weight) if weight is not None and weight.ndim == 2 and is_product(node) else None
        if found is None or found.bits >= 8:
            continue
        why = _why_not(found)
        if why:
            others[digest(found.integers)] = why
            continue
        name, output = node.input[1], node.output[0]
        if name not in packed:
            matrix = PackedMatrix.of(found)
            parts = [graph.constant(f"{name}/int4", matrix.data), graph.constant(f"{name}/scales", matrix.scales)]
            packed[name] = matrix, parts
            weights.stored.setdefault(digest(found.integers), {})["int4"] = PACKED
            weights.note_rounding(found)
        matrix, parts = packed[name]
        graph.remove(node)
        added = list(node.input[2:])
        bias = graph.constants.get(added[0]) if added else None
        if bias is not None and bias.shape == found.shape[1:]:
            graph.add(KIND, [node.input[0], *parts, "", "", *added], output, **matrix.node_attributes())
        elif added:  # Gemm adds whatever broadcasts, a residual too
            product = graph.fresh(f"{output}/product")
            graph.add(KIND, [node.input[0], *parts], product, **matrix.node_attributes())
            graph.add("Add", [product, *added], output)
        else:
            graph.add(KIND, [node.input[0], *parts], output, **matrix.node_attributes())
    graph.finish()
    if packed:
        proto.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return others


def _why_not(found: Affine) -> str:
    """Return why a matrix (inputs, outputs) isn't stored so; empty: it is."""
    inputs, outputs = found.shape
    if not BITS - 1 <= found.bits <= BITS:
        return f"MatMulNBits with {found.bits} bits is slower than float, or saves nothing"
    if len(found.scale) > 1 and found.block not in BLOCKS:
        return "MatMulNBits has no such blocks"
    if slower(inputs, outputs):
        return f"MatMulNBits takes longer than float for {inputs} x {outputs}"
    return ""
