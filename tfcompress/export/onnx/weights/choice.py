"""The smallest storage form of each weight, what the decoders take counted once."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tfcompress.export.onnx.weights.decoders import LEAST_OPSET, function_bytes
from tfcompress.export.onnx.weights.fields import Fields
from tfcompress.export.onnx.weights.form import StorageForm, Weight
from tfcompress.export.onnx.weights.gaps import Gaps
from tfcompress.export.onnx.weights.mask import Mask
from tfcompress.export.onnx.weights.narrow_integers import NarrowIntegers
from tfcompress.export.onnx.weights.plain import Plain
from tfcompress.export.onnx.weights.table import Table

FORMS: tuple[StorageForm, ...] = (
    Plain(),
    NarrowIntegers(4),
    NarrowIntegers(2),
    Fields(4),
    Fields(2),
    *(Table(bits) for bits in range(1, 8)),
    *(Mask(bits) for bits in range(1, 9)),
    *(Gaps(gap_bits, bits) for gap_bits in range(1, 8) for bits in range(1, 9)),
)
"""All there are."""

WIDTHS = (2, 4, 8)
"""Bits of ONNX' own types of integers for weights."""

Option = tuple[int, StorageForm]
"""A weight's bytes in a form."""


def choose(weights: Sequence[Weight], opset: int, bits: Collection[int] = WIDTHS) -> list[StorageForm]:
    """Return the form of each of a file's weights with which the file is smallest.

    Args:
        weights: All that are stored.
        opset: Of the file.
        bits: Of ONNX' own types that there may be.
    """
    options = [_options(weight, opset, bits) for weight in weights]
    open_ = frozenset().union(*(form.decoders for each in options for _, form in each))
    total, chosen = _with(options, open_)
    while True:  # leave out a decoder that isn't worth its bytes, as long as there is one
        fewer = [_with(options, open_ - {name}) for name in sorted(open_)]
        best, other = min(fewer, key=lambda made: made[0], default=(total, chosen))
        if best >= total:
            return chosen
        total, chosen = best, other
        open_ = frozenset().union(*(form.decoders for form in chosen))


def _options(weight: Weight, opset: int, bits: Collection[int] = WIDTHS) -> list[Option]:
    """Return the forms that a weight fits, of those with the same decoders the smallest."""
    found: dict[frozenset[str], Option] = {}
    for form in FORMS:
        if isinstance(form, NarrowIntegers) and form.bits not in bits:
            continue
        needed = max(form.opset, LEAST_OPSET if form.decoders else 0)
        nbytes = form.nbytes(weight) if needed <= opset else None
        if nbytes is not None and (form.decoders not in found or nbytes < found[form.decoders][0]):
            found[form.decoders] = nbytes, form
    return list(found.values())


def _with(options: Sequence[Sequence[Option]], decoders: frozenset[str]) -> tuple[int, list[StorageForm]]:
    """Return the bytes, and the form of each weight, where a file has some decoders and no others."""
    best = [min((one for one in each if one[1].decoders <= decoders), key=lambda one: one[0]) for each in options]
    used = frozenset().union(*(form.decoders for _, form in best))
    total = sum(nbytes for nbytes, _ in best) + sum(map(function_bytes, used))
    return total, [form for _, form in best]


def smallest(weight: Weight, opset: int) -> Option:
    """Return the bytes and the form of a weight by itself, whatever decoders a file needs for it.

    Args:
        weight: That is stored.
        opset: Of the file.
    """
    return min(_options(weight, opset), key=lambda option: option[0])
