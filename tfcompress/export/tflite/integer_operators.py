"""Which TFLite operators have integer kernels, and what each asks of the grids around it."""

from __future__ import annotations

import dataclasses

from tfcompress.quantization.numerics.grid import Grid


@dataclasses.dataclass(frozen=True)
class Rule:
    """What an operator's integer kernel asks for.

    Attributes:
        kind: "kernel": weights and a bias. "free": each input and output on a grid of its own. "carry": the output
            is on the input's grid. "same": all inputs and the output on one. "fixed": the output is on the grid that
            `FIXED` has. "index": only the input is quantized.
        int8: The version of the operator's code that has an 8 bits kernel; 0: it has none.
        int16: The same for 16 bits.
        commutes: Whether to round the input is to round the output: it may stand before a quantizer.
    """

    kind: str
    int8: int
    int16: int = 0
    commutes: bool = False


@dataclasses.dataclass(frozen=True)
class KernelRule(Rule):
    """The same of an operator that has weights.

    Attributes:
        data: Which input is the activation.
        weights: Which are the weights.
        bias: Which is the bias.
        axis: The weights' dimension of output channels.
        hybrid: The version whose kernel takes float activations and weights of 8 bits, and is faster than float; 0:
            there is none.
        narrow_bias: The version whose kernel takes activations of 16 bits and a bias of 32; 0: there is none.
    """

    data: int = 0
    weights: int = 1
    bias: int = 2
    axis: int = 0
    hybrid: int = 0
    narrow_bias: int = 0


def _moves(int8: int, int16: int) -> Rule:
    return Rule("carry", int8, int16, commutes=True)


RULES: dict[str, Rule] = {
    "CONV_2D": KernelRule("kernel", 3, 4, hybrid=5, narrow_bias=8),
    # Its hybrid kernel is three times slower than the float one.
    "DEPTHWISE_CONV_2D": KernelRule("kernel", 3, 5, axis=3),
    "FULLY_CONNECTED": KernelRule("kernel", 4, 7, hybrid=12, narrow_bias=11),
    "TRANSPOSE_CONV": KernelRule("kernel", 2, 3, data=2, bias=3, narrow_bias=5),
    "CONV_3D": KernelRule("kernel", 0, 0, axis=4),
    "BATCH_MATMUL": Rule("free", 2, 3),
    "ADD": Rule("free", 2, 3),
    "SUB": Rule("free", 2, 5),
    "MUL": Rule("free", 2, 4),
    "SQUARED_DIFFERENCE": Rule("free", 2),
    "MEAN": Rule("free", 2, 3),
    "SUM": Rule("free", 2),
    "PRELU": Rule("free", 1),
    "LEAKY_RELU": Rule("free", 1, 2),
    "RELU": Rule("free", 2, 3, commutes=True),
    "RELU6": Rule("free", 2, 3, commutes=True),
    "RELU_N1_TO_1": Rule("free", 2, 0, commutes=True),
    "RELU_0_TO_1": Rule("free", 2, 0, commutes=True),
    "HARD_SWISH": Rule("free", 1),
    "GELU": Rule("free", 2),
    "ELU": Rule("free", 1),
    # The kernels of 16 bits, tables with interpolation, are off by up to 4, 10 and 94 steps; that of SQRT by one in
    # half of all cases with 8 bits already.
    "EXP": Rule("free", 2),
    "LOG": Rule("free", 2),
    "RSQRT": Rule("free", 2),
    "ABS": Rule("free", 2, 3),
    "DIV": Rule("free", 1),
    # As multiplications: SQUARE's own kernel is float, that of NEG doesn't look at the zero point.
    "SQUARE": Rule("free", 2, 4),
    "NEG": Rule("free", 2, 4),
    "SOFTMAX": Rule("fixed", 2, 3),
    "LOGISTIC": Rule("fixed", 2, 3),
    "TANH": Rule("fixed", 2, 3),
    "LOG_SOFTMAX": Rule("fixed", 2),
    "L2_NORMALIZATION": Rule("fixed", 2),
    "AVERAGE_POOL_2D": Rule("carry", 2, 3),
    "RESIZE_BILINEAR": Rule("carry", 2, 4),
    "MAX_POOL_2D": _moves(2, 3),
    "REDUCE_MAX": _moves(2, 3),
    "REDUCE_MIN": _moves(2, 3),
    "RESIZE_NEAREST_NEIGHBOR": _moves(2, 4),
    "RESHAPE": _moves(1, 1),
    "SQUEEZE": _moves(1, 1),
    "EXPAND_DIMS": _moves(1, 1),
    "TRANSPOSE": _moves(2, 5),
    "PAD": _moves(2, 3),
    "MIRROR_PAD": _moves(2, 3),
    "SLICE": _moves(2, 4),
    "STRIDED_SLICE": _moves(2, 2),
    "SPLIT": _moves(2, 4),
    "SPLIT_V": _moves(2, 2),
    "UNPACK": _moves(2, 4),
    "TILE": _moves(3, 3),
    "GATHER": _moves(2, 4),
    "GATHER_ND": _moves(1, 3),
    "REVERSE_V2": _moves(3, 3),
    "DEPTH_TO_SPACE": _moves(2, 0),
    "SPACE_TO_DEPTH": _moves(2, 0),
    "SPACE_TO_BATCH_ND": _moves(2, 4),
    "BATCH_TO_SPACE_ND": _moves(2, 4),
    "BROADCAST_TO": _moves(3, 3),
    "TOPK_V2": _moves(2, 3),
    "CONCATENATION": Rule("same", 2, 3, commutes=True),
    "PACK": Rule("same", 2, 3, commutes=True),
    "MAXIMUM": Rule("same", 2, 4, commutes=True),
    "MINIMUM": Rule("same", 2, 4, commutes=True),
    "PADV2": Rule("same", 2, 3, commutes=True),
    "SELECT": Rule("same", 2, 2, commutes=True),
    "SELECT_V2": Rule("same", 1, 1, commutes=True),
    "ARG_MAX": Rule("index", 2),
    "ARG_MIN": Rule("index", 2),
    "SHAPE": Rule("index", 1, 1),
}

FIXED: dict[tuple[str, int], Grid] = {
    ("SOFTMAX", 8): Grid(1 / 256, -128, 8),
    ("LOGISTIC", 8): Grid(1 / 256, -128, 8),
    ("TANH", 8): Grid(1 / 128, 0, 8),
    ("LOG_SOFTMAX", 8): Grid(16 / 256, 127, 8),
    ("L2_NORMALIZATION", 8): Grid(1 / 128, 0, 8),
    ("SOFTMAX", 16): Grid(1 / 32768, 0, 16),
    ("LOGISTIC", 16): Grid(1 / 32768, 0, 16),
    ("TANH", 16): Grid(1 / 32768, 0, 16),
}
"""The output's grid of kernels that can write to no other, by name and bits (TFLite's quantization specification)."""
