"""tfmot's schemes for what keeps zeros and shared values in quantization-aware training."""

from __future__ import annotations

import dataclasses

import keras

from tfcompress.clustering.kept_values import keep_values
from tfcompress.pruning import keep_zeros


@dataclasses.dataclass(frozen=True)
class Default8BitPrunePreserveQuantizeScheme:
    """Zeros of a pruned and stripped model stay zeros in training (PQAT)."""

    def kept(self, model: keras.Model) -> keras.Model:
        """Return a copy of a model that keeps them."""
        return keep_zeros(model)


@dataclasses.dataclass(frozen=True)
class Default8BitClusterPreserveQuantizeScheme:
    """Kernels of a clustered and stripped model keep as many values in training (CQAT).

    Attributes:
        preserve_sparsity: Whether zeros stay zeros, too (PCQAT).
    """

    preserve_sparsity: bool = True

    def kept(self, model: keras.Model) -> keras.Model:
        """Return a copy of a model that keeps them."""
        return keep_values(model, preserve_sparsity=self.preserve_sparsity)
