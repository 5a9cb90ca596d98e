"""What may be said of a layer: the traits that pruning, quantization, precision and the exporters ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

ChannelRule = Literal[
    "unknown",
    "unary",
    "nary",
    "reduction",
    "normalizes",
    "local",
    "global_pooling",
    "batch_normalization",
    "group_normalization",
    "normalization",
    "rescaling",
    "prelu",
    "dense",
    "einsum_dense",
    "embedding",
    "convolution",
    "transposed",
    "depthwise",
    "separable",
    "einsum",
    "matmul",
    "dot_product_attention",
    "flatten",
    "reshape",
    "permute",
    "expand_dims",
    "squeeze",
    "repeat_vector",
    "repeat",
    "concatenate",
    "get_item",
    "split",
]
"""How channels go through: the rules of these names are in `tfcompress.channels`. Of "unknown" none can be removed."""

Multiplications = Literal["unknown", "none", "dense", "einsum_dense", "convolution", "transposed", "recurrent"]
"""At how many places a kernel is applied: `tfcompress.channels.costs` counts. "unknown": at each of the output."""

Quantization = Literal["float", "kernel", "affine", "relu", "integer", "concatenate", "transparent", "table"]
"""What integer runtimes compute: see `tfcompress.quantization.graph.op_policies.Rule`."""

Decomposition = Literal[
    "", "silu", "hard_silu", "average", "scaled_sum", "attention", "both_ways", "gate_factor", "separable"
]
"""Into what `tfcompress.quantization.graph.decompose` splits it before it is quantized; "": into nothing."""

Float32 = Literal["", "exponential", "range", "norm", "mask", "loss", "code"]
"""Why it stays float32 in mixed precision; "": it doesn't. "range": where it is an operation, and no activation."""

Count = Callable[[Any, Sequence[tuple[int, ...]], Sequence[tuple[int, ...]]], int]


@dataclasses.dataclass(frozen=True)
class KernelAxes:
    """Which axes of a kernel are input channels and which are output channels; the others are the space.

    Attributes:
        inputs: The axes that are summed over.
        outputs: The axes that the layer's output has.
        scales: The axes along which each channel has a scale of its own where weights are quantized by channel;
            `None`: `outputs`.

    Example:

    >>> KernelAxes(inputs=(-1,), outputs=(-2,)).of_rank(4)
    KernelAxes(inputs=(3,), outputs=(2,), scales=(2,))
    """

    inputs: tuple[int, ...] = (-2,)
    outputs: tuple[int, ...] = (-1,)
    scales: tuple[int, ...] | None = None

    def of_rank(self, rank: int) -> KernelAxes:
        """Return the axes of a kernel of `rank` dimensions, counted from the first."""
        scales = self.outputs if self.scales is None else self.scales
        return KernelAxes(*(tuple(axis % rank for axis in axes) for axes in (self.inputs, self.outputs, scales)))


AxesOf = KernelAxes | Callable[[Any], KernelAxes]
"""The axes of a kernel, or a function from a built layer to them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerTraits:
    """What tfcompress knows of a family of layers, or of an operation or activation.

    Each trait has a default that is safe: a layer of which nothing is said is pruned, and left float.

    Attributes:
        kernels: By the name of the attribute that holds it, each weight that is pruned and quantized, and its axes:
            `KernelAxes`, or a function from the layer to them.
        sizes: By the name of an attribute that says how many output channels there are, such as "units", the kernel
            and the axis of it that are as long: what changes where channels are removed.
        attributes: What else is read of the layer, such as its bias; a layer that is registered like it has it, too.
        channels: How channels go through: `ChannelRule`.
        multiplications: At how many places a kernel is applied for one sample: `Multiplications`; or a function
            `(layer, input_shapes, output_shapes) -> int`.
        quantization: What integer runtimes compute: `Quantization`. "kernel": a product of what it is called with and
            its one kernel, whose outputs are the last axis, and maybe a bias.
        output_range: The range that the runtimes fix for the output, as a part of [-1, 1]; `None`: a calibrated one.
        integer_in_onnx: Whether ONNX Runtime has an integer kernel, too.
        decomposition: Into what it is split before it is quantized: `Decomposition`.
        homogeneous: Whether it keeps channels apart and gives s * f(x) for s * x, s > 0.
        float32: Why it stays float32 in mixed precision: `Float32`.
    """

    kernels: Mapping[str, AxesOf] = dataclasses.field(default_factory=dict)
    sizes: Mapping[str, tuple[str, int]] = dataclasses.field(default_factory=dict)
    attributes: tuple[str, ...] = ()
    channels: ChannelRule = "unknown"
    multiplications: Multiplications | Count = "unknown"
    quantization: Quantization = "float"
    output_range: tuple[int, int] | None = None
    integer_in_onnx: bool = True
    decomposition: Decomposition = ""
    homogeneous: bool = False
    float32: Float32 = ""


VALUES: dict[str, tuple[str, ...]] = {
    "channels": get_args(ChannelRule),
    "multiplications": get_args(Multiplications),
    "quantization": get_args(Quantization),
    "decomposition": get_args(Decomposition),
    "float32": get_args(Float32),
}
"""The values that each trait may have."""

UNKNOWN = LayerTraits()
"""Of what is in no catalogue."""
