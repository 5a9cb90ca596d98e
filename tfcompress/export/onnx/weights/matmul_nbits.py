"""Weights of 3 and 4 bits, stored in 4, for MatMulNBits, an operator of ONNX Runtime's own that reads them as they are.

Its fast kernels (accuracy_level=4) round each block of an input to 8 bits at run time.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfcompress.export.onnx.graph_editor import attributes
from tfcompress.quantization.encoding import Affine
from tfcompress.quantization.quantize_config import BLOCKS

KIND, DOMAIN = "MatMulNBits", "com.microsoft"
INT8_INPUTS = 4
"""`accuracy_level`: with it inputs are rounded to 8 bits, without it products are of floats, or very slow."""

BITS = 4
"""Of the weights that are stored so: with 2 the kernel is slower than float, and 8 save nothing of int8's bytes."""

LEAST_INPUTS, LEAST_OUTPUTS, LEAST_SIZE = 512, 128, 1 << 17
"""Of a matrix, from which on it is at least as fast as float for 1 to 64 vectors at once: ONNX Runtime 1.32, one
thread, x86 with AVX512-VNNI (`python -m benchmarks.compression --part=blockwise_kernels`)."""


def slower(inputs: int, outputs: int) -> bool:
    """Return whether a product of these sizes takes longer so than in float."""
    return inputs < LEAST_INPUTS or outputs < LEAST_OUTPUTS or inputs * outputs < LEAST_SIZE


@dataclasses.dataclass(frozen=True, eq=False)
class PackedMatrix:
    """A matrix (inputs, outputs) as MatMulNBits takes it.

    Attributes:
        data: uint8, (outputs, blocks, bytes of a block): integers above the lowest, the first in the lowest bits.
        scales: float32, (outputs, blocks).
        inputs: The number of rows; the last block may have more places than that.
        bits: Of an integer.
    """

    data: np.ndarray
    scales: np.ndarray
    inputs: int
    bits: int = BITS

    @classmethod
    def of(cls, matrix: Affine, bits: int = BITS) -> PackedMatrix:
        """Return a matrix of integers, (inputs, outputs), that has one scale for each block or output, or for all.

        >>> made = PackedMatrix.of(Affine(np.ones((20, 3), "int8"), np.ones((1, 3), "float32"), bits=4))
        >>> made.data.shape, made.scales.shape, made.integers.shape
        ((3, 1, 16), (3, 1), (20, 3))
        """
        inputs, outputs = matrix.shape
        block = inputs // len(matrix.scale) if len(matrix.scale) > 1 else _block(inputs, bits)
        count = -(-inputs // block)
        filled = np.pad(matrix.integers.T, ((0, 0), (0, count * block - inputs))).astype(np.int16)
        fields = (filled + (1 << (bits - 1))).astype(np.uint8).reshape(outputs, count, -1, 8 // bits)
        data = np.bitwise_or.reduce(fields << np.arange(0, 8, bits, dtype=np.uint8), axis=-1)
        scales = np.broadcast_to(matrix.scale.T, (outputs, count))
        return cls(data, np.ascontiguousarray(scales), inputs, bits)

    @classmethod
    def read(cls, node: Any, data: np.ndarray, scales: np.ndarray | None = None) -> PackedMatrix:
        """Return the matrix that a node multiplies by.

        Args:
            node: MatMulNBits.
            data: Its second input.
            scales: Its third; None: not needed.
        """
        given = attributes(node)
        scales = np.ones((len(data), data.shape[1]), np.float32) if scales is None else scales
        return cls(data, scales.reshape(data.shape[:2]), given["K"], given.get("bits", BITS))

    def spread(self) -> np.ndarray:
        """Return the scale of each integer, (inputs, outputs)."""
        return np.repeat(self.scales, self.block, axis=1)[:, : self.inputs].T

    @property
    def block(self) -> int:
        """How many inputs share a scale."""
        return self.data.shape[2] * 8 // self.bits

    @property
    def integers(self) -> np.ndarray:
        """The integers, int8, (inputs, outputs)."""
        fields = (self.data[..., None] >> np.arange(0, 8, self.bits, dtype=np.uint8)) & np.uint8(2**self.bits - 1)
        whole = fields.reshape(len(self.data), -1)[:, : self.inputs].T.astype(np.int16)
        return np.ascontiguousarray((whole - (1 << (self.bits - 1))).astype(np.int8))

    def node_attributes(self) -> dict[str, Any]:
        """Return the attributes of the node that multiplies by it."""
        sizes = {"K": self.inputs, "N": len(self.data), "bits": self.bits, "block_size": self.block}
        return {**sizes, "accuracy_level": INT8_INPUTS, "domain": DOMAIN}


def is_symmetric(node: Any) -> bool:
    """Return whether a node is a MatMulNBits without zero points, whose weights `PackedMatrix` reads."""
    return node.op_type == KIND and not any(node.input[3:4]) and attributes(node).get("bits", BITS) in (2, 4, 8)


def _block(inputs: int, bits: int) -> int:
    """Return the block with which a matrix that has one scale for each output takes the fewest bytes."""
    return min(reversed(BLOCKS), key=lambda block: -(-inputs // block) * (block * bits // 8 + 4))
