"""Values that are few already, kept so in training: of a model that was clustered and stripped."""

from __future__ import annotations

from functools import partial

import keras
import numpy as np
from keras.layers import Layer

from tfcompress.clustering.wrapping import Codebooks, Tables, with_codebooks
from tfcompress.core.transform import read
from tfcompress.core.wrappers import inner_weights
from tfcompress.graph import check_built, kernel_positions
from tfcompress.graph.flatten import opened
from tfcompress.quantization.encoding import LARGEST_TABLE
from tfcompress.quantization.weights.codebook import Clusters, Codebook, codebook_of

LOOKED_AT = 1 << 12
"""Weights in which more different values may be found than are kept, before they are sought in all."""


def keep_values(model: keras.Model, *, preserve_sparsity: bool = False) -> keras.Model:
    """Return a copy of a clustered and stripped model whose kernels keep as many values in training and in files.

    Args:
        model: A built model. Kernels with more than 256 values, or with more values than half of their weights that
            aren't zero, as pruned ones have, are left as they are, and so are those that have a codebook; where no
            kernel is left, the model itself is returned.
        preserve_sparsity: Whether zeros stay zeros, too.

    Example:

    >>> import tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model = keep_values(tfc.strip(tfc.cluster(model, 5)))
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0)
    >>> tfc.summary(model).rows[0].distinct
    5
    """

    any_found = False

    def chosen(layer: Layer) -> Codebooks:
        nonlocal any_found
        found: dict[int, tuple[Codebook, Tables]] = {}
        for position in kernel_positions(layer):
            weights = read(inner_weights(layer)[position])
            most = min(LARGEST_TABLE, np.count_nonzero(weights) // 2)
            few = len(np.unique(weights.reshape(-1)[:LOOKED_AT])) <= most and codebook_of(layer, position) is None
            values = np.unique(weights) if few else weights.reshape(-1)
            if 2 <= len(values) <= most:
                zero = preserve_sparsity and 0 in values
                start = values[None, values != 0] if zero else values[None]
                found[position] = Clusters(len(values), zero=zero), partial(_given, start)
        any_found = any_found or bool(found)
        return found

    check_built(model)
    made = with_codebooks(opened(model), chosen, keep_zeros=lambda layer: preserve_sparsity)
    return made if any_found else model


def _given(tables: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return tables
