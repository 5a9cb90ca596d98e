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
from tfcompress.quantization.weights.codebook import Clusters, Codebook


def keep_values(model: keras.Model, *, preserve_sparsity: bool = False) -> keras.Model:
    """Return a copy of a clustered and stripped model whose kernels keep as many values in training.

    Args:
        model: A built model. Kernels with more than 256 values, or with more values than half of their weights, are
            left as they are.
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

    def chosen(layer: Layer) -> Codebooks:
        found: dict[int, tuple[Codebook, Tables]] = {}
        for position in kernel_positions(layer):
            weights = read(inner_weights(layer)[position])
            values = np.unique(weights)
            if 2 <= len(values) <= min(LARGEST_TABLE, weights.size // 2):
                zero = preserve_sparsity and 0 in values
                start = values[None, values != 0] if zero else values[None]
                found[position] = Clusters(len(values), zero=zero), partial(_given, start)
        return found

    check_built(model)
    return with_codebooks(opened(model), chosen, keep_zeros=lambda layer: preserve_sparsity)


def _given(tables: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return tables
