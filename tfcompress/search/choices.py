"""What a layer may become: a width, and whether its kernel is dense, masked or has few values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from tfcompress.clustering.cluster_config import ClusterConfig
from tfcompress.core.arguments import check_choice, check_several
from tfcompress.core.names import did_you_mean
from tfcompress.pruning.prune_config import PruneConfig
from tfcompress.quantization.quantize_config import FEW_VALUES, QuantizeConfig

FLOAT = 32
WIDE = 16
WIDTHS = (FLOAT, WIDE, 8, 4, 3, 2)
"""Bits: float32; 16 of the activations, and 8 of the weights; or so many of the weights."""

SPARSITIES = (0.5, 0.8)
TABLES = (4, 3, 2)
"""Bits of a place in a table of values, which are 8 bits themselves."""

WEIGHT_BITS = 8
"""Of the weights beside activations of 16 bits, and of the values of a table."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What one layer may become.

    Attributes:
        bits: One of `WIDTHS`; of a table, those of a place in it.
        sparsity: The share of weights that are pruned, the smallest; 0: none.
        table: Whether its weights share 2^bits values, of 8 bits each.

    Example:

    >>> str(Choice(4)), str(Choice(8, sparsity=0.5)), str(Choice(3, table=True)), str(Choice(32))
    ('int4', 'int8 50% pruned', '8 values', 'float')
    """

    bits: int
    sparsity: float = 0.0
    table: bool = False

    def __str__(self) -> str:
        if self.table:
            return f"{2**self.bits} values"
        width = {FLOAT: "float", WIDE: "int16x8"}.get(self.bits, f"int{self.bits}")
        return f"{width} {self.sparsity:.0%} pruned" if self.sparsity else width

    @property
    def prune(self) -> PruneConfig | None:
        """How its kernel is pruned."""
        return PruneConfig(self.sparsity) if self.sparsity else None

    @property
    def cluster(self) -> ClusterConfig | None:
        """How its kernel is clustered."""
        return ClusterConfig(2**self.bits, init="kmeans") if self.table else None

    @property
    def weight_bits(self) -> int | None:
        """The bits of the integers that its kernel has; `None`: it is float."""
        if self.bits == FLOAT:
            return None
        return WEIGHT_BITS if self.table or self.bits == WIDE else self.bits

    def quantize(self, base: QuantizeConfig) -> QuantizeConfig | None:
        """Return how it is quantized: as a config says, but for the bits.

        >>> Choice(16).quantize(QuantizeConfig()).activations.bits
        16
        """
        bits = self.weight_bits
        if bits is None:
            return None
        activations = base.activations
        if self.bits == WIDE and activations is not None:
            activations = dataclasses.replace(activations, bits=WIDE, symmetric=True)
        return dataclasses.replace(base, weights=dataclasses.replace(base.weights, bits=bits), activations=activations)


def dense(widths: Iterable[int] = WIDTHS) -> tuple[Choice, ...]:
    """Return a choice for each width."""
    return tuple(Choice(bits) for bits in widths)


CHOICES = (
    *dense(bits for bits in WIDTHS if bits != WIDE),
    *(Choice(bits, sparsity) for bits in WIDTHS[2:] for sparsity in SPARSITIES),
    *(Choice(bits, table=True) for bits in TABLES),
    *(Choice(WIDE, sparsity) for sparsity in (0.0, *SPARSITIES)),
)
"""All that are tried where nothing is said; of equals the first is taken. Floats that are pruned or share values take
as many bytes as others: they are no use."""


def choices_for(choices: Any, base: QuantizeConfig) -> tuple[Choice, ...]:
    """Return choices, each once, without those that a base config has no room for.

    Args:
        choices: `Choice`s, or their names; `None`: all.
        base: How layers are quantized but for the bits.

    Raises:
        ValueError: There are none, or one is unknown.

    Example:

    >>> [str(one) for one in choices_for(["int8", "int4", "8 values"], QuantizeConfig())]
    ['int8', 'int4', '8 values']
    """
    known = {str(one): one for one in CHOICES}
    if choices is None:
        found = CHOICES
    else:
        check_several("choices", choices, "['float', 'int8', 'int4']")
        for one in choices:
            if not isinstance(one, Choice) and one not in known:
                raise ValueError(
                    f"Expected choices of {', '.join(map(repr, known))}, or tfcompress.search.Choice(...). Received: "
                    f"{one!r}.{did_you_mean(one, known)}"
                )
        found = tuple(dict.fromkeys(one if isinstance(one, Choice) else known[one] for one in choices))
    if base.activations is None or base.activations.dynamic:
        found = tuple(one for one in found if one.bits != WIDE)
    if base.activations is not None and base.activations.dynamic:
        found = tuple(one for one in found if one.bits != 3)
    if not found:
        raise ValueError("Expected a choice that the config has room for. Received: 16 bits of activations, and none.")
    return found


def base_config(config: Any) -> QuantizeConfig:
    """Return the config whose widths are chosen.

    Raises:
        ValueError: It has no widths to choose.
    """
    base = QuantizeConfig.get(config)
    if base.float16 or base.weights.range in FEW_VALUES:
        raise ValueError(
            "Expected a config whose weights may have any width, such as 'int8' or 'int8_weights'. Received: "
            f"{config!r}. Take one of these."
        )
    return dataclasses.replace(base, first_and_last_bits=None)


def check_format(formats: Any) -> tuple[str, ...]:
    """Return formats as a tuple.

    >>> check_format("tflite"), check_format(("tflite", "onnx"))
    (('tflite',), ('tflite', 'onnx'))
    """
    given = (formats,) if isinstance(formats, str) else tuple(formats)
    for one in given:
        check_choice("formats", one, ("tflite", "onnx"))
    if not given:
        raise ValueError("Expected formats to be 'tflite', 'onnx' or both. Received: none.")
    return tuple(dict.fromkeys(given))
