"""The equation of an EinsumDense: its letters, which axes of the kernel they are, and what matrix product it is."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfcompress.core.keras_private import build_shapes
from tfcompress.layers.traits import KernelAxes


@dataclasses.dataclass(frozen=True)
class Equation:
    """The letters of an EinsumDense: one for each axis of its input, kernel and output."""

    inputs: str
    kernel: str
    output: str


def equation_of(layer: Any, rank: int | None = None) -> Equation | None:
    """Return the letters of an EinsumDense that is called with a tensor of `rank` axes; `None` if there is no telling.

    Args:
        layer: An EinsumDense.
        rank: By default what the layer was built for.

    Example:

    >>> import keras
    >>> equation_of(keras.layers.EinsumDense("...x,xy->...y", output_shape=4), 3)
    Equation(inputs='ABx', kernel='xy', output='ABy')
    """
    if rank is None:
        rank = len(build_shapes(layer).get("input_shape", ()))
    left, output = layer.equation.replace(" ", "").split("->")
    inputs, kernel = left.split(",")
    extra = "".join(chr(ord("A") + at) for at in range(rank - len(inputs.replace("...", ""))))
    if "..." in inputs and "..." not in kernel and not set(extra) & set(inputs + kernel):
        inputs, output = inputs.replace("...", extra), output.replace("...", extra)
    parts = (inputs, kernel, output)
    if "..." in inputs + kernel + output or any(len(set(part)) != len(part) for part in parts) or len(inputs) != rank:
        return None
    return Equation(inputs, kernel, output)


def einsum_axes(layer: Any) -> KernelAxes:
    """Return the axes of an EinsumDense's kernel: summed over if the input has them, made if the output has."""
    letters = equation_of(layer)
    if letters is None:
        return KernelAxes()
    summed = tuple(at for at, a in enumerate(letters.kernel) if a in letters.inputs and a not in letters.output)
    made = tuple(at for at, a in enumerate(letters.kernel) if a in letters.output and a not in letters.inputs)
    scales = made if matrix_form(layer) is not None else None
    return KernelAxes(summed, made, scales) if summed and made else KernelAxes(scales=scales)


@dataclasses.dataclass(frozen=True)
class MatrixForm:
    """An EinsumDense as a matrix product: transpose, reshape, multiply, reshape, transpose.

    Attributes:
        input_axes: Transposition of the input: what is kept, then what is summed over.
        summed: How many axes are summed over.
        kernel_axes: Transposition of the kernel: what is summed over, then its outputs.
        output_axes: Transposition of (kept, kernel's outputs) to the output.
    """

    input_axes: tuple[int, ...]
    summed: int
    kernel_axes: tuple[int, ...]
    output_axes: tuple[int, ...]


def matrix_form(layer: Any) -> MatrixForm | None:
    """Return how an EinsumDense is a matrix product; `None` if it isn't one.

    >>> import keras
    >>> layer = keras.layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 4)); layer.build((None, 5, 8))
    >>> matrix_form(layer)
    MatrixForm(input_axes=(0, 1, 2), summed=1, kernel_axes=(0, 1, 2), output_axes=(0, 1, 2, 3))
    """
    letters = equation_of(layer)
    if letters is None:
        return None
    inputs, kernel, output = letters.inputs, letters.kernel, letters.output
    kept = [a for a in inputs if a in output]
    summed = [a for a in inputs if a not in output]
    made = [a for a in kernel if a not in inputs]
    if any(a in kernel for a in kept) or any(a not in kernel for a in summed) or sorted(output) != sorted(kept + made):
        return None
    return MatrixForm(
        tuple(inputs.index(a) for a in kept + summed),
        len(summed),
        tuple(kernel.index(a) for a in summed + made),
        tuple((kept + made).index(a) for a in output),
    )
