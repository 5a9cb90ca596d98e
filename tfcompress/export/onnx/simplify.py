"""The float graph put in the form that integer kernels are found in, without changing what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.export.onnx.graph_editor import Graph, attributes, set_attribute

POOLS = ("MaxPool", "AveragePool")


def simplify(graph: Graph) -> None:
    """Apply every rewriting of this module but `global_pools`, which wants quantization carried first."""
    transposes_behind_dequantize(graph)
    constant_shapes(graph)
    biases_into_convolutions(graph)
    drop_implied_limits(graph)
    pads_into_kernels(graph)


def quantized_as(graph: Graph, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (scale, zero point) of a tensor that a DequantizeLinear of one scale makes; None for others."""
    node = graph.producer(name, "DequantizeLinear")
    if node is None or len(node.input) < 3:
        return None
    scale, zero = graph.constants.get(node.input[1]), graph.constants.get(node.input[2])
    return (scale, zero) if scale is not None and zero is not None and scale.size == 1 else None


def quantize(value: float, scale: np.ndarray, zero: np.ndarray) -> int:
    """Return the integer of a value, as QuantizeLinear does."""
    limits = np.iinfo(zero.dtype)
    steps = np.rint(np.float32(value) / np.float32(scale.item()))
    return int(np.clip(steps + int(zero.item()), limits.min, limits.max))


def transposes_behind_dequantize(graph: Graph) -> None:
    """Move a Transpose that parts a QuantizeLinear from its DequantizeLinear behind that."""
    for node in graph.of_type("Transpose"):
        readers = graph.readers(node.output[0])
        if (
            graph.producer(node.input[0], "QuantizeLinear") is None
            or graph.is_output(node.output[0])
            or not all(quantized_as(graph, reader.output[0]) for reader in readers)
        ):
            continue
        for reader in readers:
            graph.remove(reader)
            inner = graph.fresh(f"{reader.output[0]}/untransposed")
            graph.add("DequantizeLinear", [node.input[0], *reader.input[1:]], inner)
            graph.add("Transpose", [inner], reader.output[0], **attributes(node))
            graph.shapes[inner] = graph.shapes.get(node.input[0], ())
        graph.remove(node)


def constant_shapes(graph: Graph) -> None:
    """Let a Reshape whose result has at most one free size know the others, and compute nothing at run time.

    Computing a shape reads a tensor in float, which would else be needed as integers alone.
    """
    for node in graph.of_type("Reshape"):
        shape = graph.shapes.get(node.output[0])
        if node.input[1] in graph.constants or not shape or sum(size is None for size in shape) > 1 or 0 in shape:
            continue
        sizes = np.array([-1 if size is None else size for size in shape], np.int64)
        graph.set_input(node, 1, graph.constant(f"{node.output[0]}/shape", sizes))


def biases_into_convolutions(graph: Graph) -> None:
    """Let a convolution add what is added to its channels behind it, also behind a Squeeze (a Conv1D has one)."""
    for node in graph.of_type("Conv", "ConvTranspose"):
        squeeze = graph.only_reader(node.output[0], "Squeeze")
        if len(node.input) > 2 or (squeeze is not None and not _spatial_axes(graph, squeeze)):
            continue
        product = squeeze.output[0] if squeeze is not None else node.output[0]
        add = graph.only_reader(product, "Add")
        channels = graph.shapes.get(node.output[0], (None, None))[1]
        if add is None or channels is None:
            continue
        other = graph.constants.get(next((name for name in add.input if name != product), ""))
        rank = graph.rank(product)
        if other is None or rank is None or other.size != channels:
            continue
        if other.shape[max(0, other.ndim - rank + 1) :] != (channels, *[1] * (rank - 2)) or other.ndim > rank:
            continue
        graph.append_input(node, graph.constant(f"{add.output[0]}/bias", other.reshape(-1)))
        if list(add.input).index(product):
            first, second = add.input
            graph.set_input(add, 0, second)
            graph.set_input(add, 1, first)
        graph.bypass(add)


def _spatial_axes(graph: Graph, squeeze: Any) -> bool:
    """Whether a Squeeze leaves the axes of samples and channels alone."""
    axes = graph.constants.get(squeeze.input[1]) if len(squeeze.input) > 1 else None
    rank = graph.rank(squeeze.input[0])
    return axes is not None and rank is not None and all(int(axis) % rank >= 2 for axis in axes)


def drop_implied_limits(graph: Graph) -> None:
    """Drop Relu, and Clip, in front of a QuantizeLinear that saturates no later; limit the integers of others.

    A kernel can then compute in integers, whose output is quantized at once.
    """
    for node in graph.of_type("Relu", "Clip"):
        low, high = _limits(graph, node)
        readers = graph.readers(node.output[0])
        if low is None or high is None or not readers or graph.is_output(node.output[0]):
            continue
        if all(_saturates(graph, reader, low, high) for reader in readers):
            graph.bypass(node)
        elif all(_grid(graph, reader) is not None for reader in readers):
            for reader in readers:
                _limit_behind(graph, reader, low, high)
            graph.bypass(node)


def _grid(graph: Graph, node: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (scale, zero point) of a QuantizeLinear of one scale, to 8 bits."""
    if node.op_type != "QuantizeLinear" or len(node.input) < 3:
        return None
    scale, zero = graph.constants.get(node.input[1]), graph.constants.get(node.input[2])
    if scale is None or zero is None or scale.size != 1 or zero.dtype.itemsize != 1:
        return None
    return scale, zero


def _limit_behind(graph: Graph, node: Any, low: float, high: float) -> None:
    """Clip what a QuantizeLinear makes: rounding keeps the order, so that it is the same as in front of it."""
    grid = _grid(graph, node)
    if grid is None or _saturates(graph, node, low, high):
        return
    output, (scale, zero) = node.output[0], grid
    readers, integers = graph.readers(output), graph.fresh(f"{output}/open")
    ends = [
        graph.constant(f"{output}/{name}", np.asarray(quantize(end, scale, zero), zero.dtype))
        if np.isfinite(end)
        else ""
        for name, end in (("low", low), ("high", high))
    ]
    graph.rename(output, integers)
    graph.add("Clip", [integers, *ends], output)
    if integers in graph.shapes:
        graph.shapes[output] = graph.shapes[integers]
    for reader in readers:
        for index, name in enumerate(reader.input):
            if name == integers:
                graph.set_input(reader, index, output)


def _limits(graph: Graph, node: Any) -> tuple[float | None, float | None]:
    if node.op_type == "Relu":
        return 0.0, np.inf
    ends: list[float | None] = []
    for place, open_end in ((1, -np.inf), (2, np.inf)):
        name = node.input[place] if len(node.input) > place else ""
        value = graph.constants.get(name)
        ends.append(open_end if not name else None if value is None else float(value.item()))
    return ends[0], ends[1]


def _saturates(graph: Graph, node: Any, low: float, high: float) -> bool:
    if node.op_type != "QuantizeLinear" or len(node.input) < 3:
        return False
    scale, zero = graph.constants.get(node.input[1]), graph.constants.get(node.input[2])
    if scale is None or zero is None or scale.size != 1:
        return False
    limits = np.iinfo(zero.dtype)
    lowest = limits.min if low == -np.inf else quantize(low, scale, zero)
    highest = limits.max if high == np.inf else quantize(high, scale, zero)
    return lowest == limits.min and highest == limits.max


def pads_into_kernels(graph: Graph) -> None:
    """Let convolutions and pools pad for themselves, where that is the same."""
    for node in graph.of_type("Pad"):
        _move_behind(graph, node)
        spatial = _zero_pads(graph, node)
        if spatial is None:
            continue
        readers = graph.readers(node.output[0])
        if not readers or graph.is_output(node.output[0]):
            continue
        if not all(_can_pad(graph, node, reader, spatial) for reader in readers):
            continue
        source = node.input[0]
        for reader in readers:
            given = attributes(reader)
            before = given.get("pads", [0] * len(spatial))
            set_attribute(reader, "pads", [old + new for old, new in zip(before, spatial, strict=True)])
            if reader.op_type == "AveragePool":
                set_attribute(reader, "count_include_pad", 1)
            graph.set_input(reader, 0, source)


def _move_behind(graph: Graph, pad: Any) -> None:
    """Swap a Pad and what moves its result on, up to the convolution (an Unsqueeze begins a one-dimensional one)."""
    while True:
        mover = graph.only_reader(pad.output[0], "Unsqueeze", "Transpose")
        pads = graph.constants.get(pad.input[1])
        if mover is None or pads is None or (len(pad.input) > 3 and pad.input[3]):
            return
        if mover.op_type == "Transpose":
            order = [int(axis) for axis in attributes(mover)["perm"]]
            moved = np.concatenate([half[order] for half in np.split(pads, 2)])
        else:
            axes = graph.constants.get(mover.input[1])
            if axes is None or axes.size != 1:
                return
            axis = int(axes.item()) % (len(pads) // 2 + 1)
            moved = np.concatenate([np.insert(half, axis, 0) for half in np.split(pads, 2)])
        source, between, output = pad.input[0], pad.output[0], mover.output[0]
        graph.set_input(mover, 0, source)
        graph.rename(output, graph.fresh(f"{output}/unpadded"))
        graph.rename(between, output)
        graph.replace(mover.output[0], output)
        graph.set_input(pad, 0, mover.output[0])
        graph.set_input(pad, 1, graph.constant(f"{pad.input[1]}/moved", moved.astype(np.int64)))
        shape = graph.shapes.pop(output, None)
        graph.shapes.pop(mover.output[0], None)
        known = graph.shapes.get(source)
        if shape is not None and known is not None:
            inner = tuple(known[axis] for axis in order) if mover.op_type == "Transpose" else _wider(known, axis)
            graph.shapes[mover.output[0]] = inner


def _wider(shape: tuple[int | None, ...], axis: int) -> tuple[int | None, ...]:
    return (*shape[:axis], 1, *shape[axis:])


def _zero_pads(graph: Graph, node: Any) -> list[int] | None:
    """Return the pads of the axes from the third on, if a Pad puts zeros there and nowhere else."""
    given = attributes(node)
    pads = graph.constants.get(node.input[1])
    value = graph.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(())
    constant = given.get("mode", b"constant") == b"constant" and value is not None and not value.any()
    if pads is None or not constant or (len(node.input) > 3 and node.input[3]):
        return None
    before, after = np.split(pads, 2)
    if (pads < 0).any() or before[:2].any() or after[:2].any():
        return None
    return [int(size) for size in [*before[2:], *after[2:]]]


def _can_pad(graph: Graph, pad: Any, reader: Any, spatial: list[int]) -> bool:
    given = attributes(reader)
    if list(reader.input).index(pad.output[0]) or given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return False
    if reader.op_type == "Conv":
        return True
    if reader.op_type not in POOLS or given.get("ceil_mode"):
        return False
    own = any(given.get("pads", []))
    size = given["kernel_shape"]
    fits = all(pads < width for pads, width in zip(spatial, [*size, *size], strict=True))
    if reader.op_type == "AveragePool":
        return fits and (not own or bool(given.get("count_include_pad")))
    # A maximum never takes what a pool pads with; it takes a zero unless something in the window is as large.
    # Nothing is smaller where the range starts at zero.
    known = quantized_as(graph, pad.input[0])
    return fits and known is not None and int(known[1].item()) == np.iinfo(known[1].dtype).min


def global_pools(graph: Graph) -> None:
    """Let a quantized mean over all axes but those of samples and channels be a GlobalAveragePool.

    That needs the channels second: where they aren't there is a Transpose in front.
    """
    for node in graph.of_type("ReduceMean"):
        rank = graph.rank(node.input[0])
        given = attributes(node)
        axes = given.get("axes")
        if axes is None and len(node.input) > 1:
            axes = graph.constants.get(node.input[1])
        known = quantized_as(graph, node.input[0])
        if axes is None or rank is None or rank < 3 or known is None or known[1].dtype.itemsize != 1:
            continue
        axes = sorted(int(axis) % rank for axis in axes)
        kept = [axis for axis in range(rank) if axis not in axes]
        if len(kept) != 2 or kept[0] or not is_quantized(graph, node.output[0]):
            continue
        source, output, keep = node.input[0], node.output[0], given.get("keepdims", 1)
        graph.remove(node)
        order = [*kept, *axes]
        if order != list(range(rank)):
            source = graph.add("Transpose", [source], graph.fresh(f"{output}/channels_first"), perm=order)
        pooled = graph.add("GlobalAveragePool", [source], graph.fresh(f"{output}/pooled"))
        graph.shapes[pooled] = (None, None, *[1] * (rank - 2))
        if keep:
            graph.add("Transpose", [pooled], output, perm=[order.index(axis) for axis in range(rank)])
        else:
            graph.add("Flatten", [pooled], output, axis=1)


def is_quantized(graph: Graph, name: str) -> bool:
    """Whether a tensor is read by nothing but QuantizeLinear."""
    readers = graph.readers(name)
    return bool(readers) and not graph.is_output(name) and all(reader.op_type == "QuantizeLinear" for reader in readers)
