"""Clustering a model: weights that share few values, which training moves."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras.layers import Layer

from tfcompress.clustering.cluster_config import ClusterConfig
from tfcompress.clustering.wrapping import Codebooks, Tables, reaching, with_codebooks
from tfcompress.core.arguments import check_keywords, check_model
from tfcompress.core.error_messages import user_level
from tfcompress.core.names import listed
from tfcompress.core.replicas import place_of
from tfcompress.core.wrappers import inner_weights
from tfcompress.graph import LayerChoice, check_built, kernel_positions
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.graph.flatten import opened
from tfcompress.graph.inputs.declared import takes_inputs
from tfcompress.graph.keras_quantized import check_floats
from tfcompress.graph.selectors import Layers
from tfcompress.layers.kernel_layouts import channel_axes
from tfcompress.quantization.weights.codebook import Clusters, Codebook, codebook_of
from tfcompress.quantization.weights.left_dense import LeftDense
from tfcompress.quantization.weights.levels import LEVELS, ScaledLevels, scale_of
from tfcompress.quantization.weights.starts import start

FIELDS = tuple(field.name for field in dataclasses.fields(ClusterConfig))

LOOKED_AT = 1 << 12
"""Weights among which enough different values are looked for before they are in all."""


@takes_inputs
def cluster(
    model: keras.Model,
    config: Any = None,
    *,
    layers: Layers = None,
    input_shapes: Any = None,
    input_dtypes: Any = None,
    **fields: Any,
) -> keras.Model:
    """Return a model like `model` whose kernels have few different values each, which training moves.

    In every call each weight is the nearest of its kernel's values. `fit` trains the weights, whose gradient passes
    straight through, and the values, with the sum of the gradients of their weights. `tfcompress.strip` leaves plain
    layers with exactly so many values. No callback is needed; training resumes from a saved file.

    Args:
        model: A trained Keras model of any kind, plain, pruned or quantized; it is not changed. Masks and quantizers
            stay: zeros stay zeros, and what is clustered is what is quantized then.
        config: A `ClusterConfig`, or a number of clusters; or one for each layer (`tfc.LayerConfigs`): {name, regular
            expression, class or function: config or `None`}, of which the first key that matches a layer counts.
        layers: Which layers: `None` for all with a kernel; a name or regular expression, or several; or a
            function from a layer to bool. Layers inside of nested models and composite layers go by the
            names that `tfc.summary` shows.
        input_shapes: Sizes of the model's free dimensions to try it with, where those that are tried by themselves
            won't do: a shape, a list of them or a dict by input name, with the batch (None) or without. Of a
            subclassed model that recorded no shapes, its shapes.
        input_dtypes: Of a subclassed model, which keeps none: such as "int32", or one for each input.
        **fields: The fields of `ClusterConfig`, such as `init="linear"`, of all configs.

    Returns:
        A functional model with the same names of inputs and outputs, not compiled.

    Raises:
        TypeError: If `model` is no Keras model, or `fields` holds an unknown name.
        ValueError: If the model isn't built or can't be opened, if `layers` matches nothing, if a layer that is named
            has no kernel, is clustered already or has fewer different weights in a kernel than there are clusters,
            or if a weight is NaN or infinite. Kernels with too few weights of layers that aren't named are left dense,
            with a warning.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> clustered = tfc.cluster(model, 5)
    >>> clustered.compile("sgd", "mse")  # and fit, as always
    >>> len(np.unique(tfc.strip(clustered).get_layer("dense").kernel))
    5
    """
    check_model(model)
    check_keywords("a ClusterConfig", fields, [*FIELDS, "layers"])
    if config is None:
        if "number_of_clusters" not in fields:
            raise TypeError(
                "Expected a number of clusters, or a ClusterConfig. Received: none. Write cluster(model, 16)."
            )
        config = fields.pop("number_of_clusters")
    configs = LayerConfigs.given(config)
    single = None if configs is not None else ClusterConfig.get(config, **fields)
    choice = LayerChoice(layers)
    check_built(model)
    check_floats(model, "Cluster")
    with place_of(model):
        flat = opened(model)
        if configs is None:
            entries = [(single, choice)]
        else:
            resolved = configs.resolve(flat.layers, lambda value: ClusterConfig.get(value, **fields), choice)
            entries = list(resolved.choices())
        chosen = _Chosen(entries)
        made = with_codebooks(flat, chosen.codebooks, keep_zeros=chosen.keeps_zeros)
        choice.check()
        chosen.check(model)
    warn_of_dense(chosen.left)
    return made


def codebooks_of(layer: Layer, positions: Sequence[int], config: ClusterConfig) -> Codebooks:
    """Return codebooks for kernels of a built layer, each with what its tables start with.

    Args:
        layer: A layer, or a wrapper of this package around one.
        positions: Of the kernels. Those that have fewer different weights than there are clusters are left dense.
        config: What is asked for.

    Raises:
        ValueError: If a kernel has other channels than the config is for.
    """
    found: dict[int, tuple[Codebook, Tables] | LeftDense] = {}
    for position in positions:
        codebook = _codebook(layer, position, config)
        free = config.codebook == "free" and codebook_of(layer, position) is None
        few = _too_few(layer, position, codebook) if free else ""
        found[position] = LeftDense(few) if few else (codebook, partial(_tables, config=config))
    return found


def warn_of_dense(left: Mapping[str, str]) -> None:
    """Warn of kernels that stay as they are, by their names with the reason of each."""
    if left:
        some = listed((f"{name} ({reason})" for name, reason in left.items()), separator="; ")
        warnings.warn(
            f"Left dense: {some}. For fewer values there take a config for each layer; "
            "`layers` says what is clustered.",
            stacklevel=user_level(),
        )


def left_dense(layer: Layer, codebooks: Codebooks) -> dict[str, str]:
    """Return why kernels of a layer are left as they are, by the names of these."""
    weights = inner_weights(layer)
    return {
        f"the {weights[at].name} of layer {layer.name!r}": one.reason
        for at, one in codebooks.items()
        if isinstance(one, LeftDense)
    }


class _Chosen:
    """Which codebooks layers have, as configs say.

    Args:
        entries: Configs, each with the layers that it is for.
    """

    def __init__(self, entries: Sequence[tuple[Any, LayerChoice]]):
        self.entries = entries
        self.any = False
        self.left: dict[str, str] = {}

    def of(self, layer: Layer) -> tuple[ClusterConfig | None, LayerChoice | None]:
        """Return the config of a layer and where that is from."""
        return next((entry for entry in self.entries if entry[1].includes(layer)), (None, None))

    def keeps_zeros(self, layer: Layer) -> bool:
        """Return whether zeros of a layer stay zeros."""
        config, _ = self.of(layer)
        return config is not None and config.preserve_sparsity

    def codebooks(self, layer: Layer) -> Codebooks:
        """Return the codebooks of a layer; none if no config is for it, or it has no kernel."""
        config, choice = self.of(layer)
        if config is None or choice is None:
            return {}
        positions = kernel_positions(layer)
        if not positions and choice.names_it(layer):
            raise ValueError(
                f"Expected layers with a kernel. Received: {layer.name!r} of class {type(layer).__name__}, which "
                f"has nothing to cluster. Leave it out of `{choice.argument}`."
            )
        found = codebooks_of(layer, positions, config)
        left = left_dense(layer, found)
        if left and choice.names_it(layer):
            self._refuse(left, f"leave the layer out of `{choice.argument}`")
        self.left.update(left)
        self.any = self.any or len(left) < len(positions)
        return found

    def check(self, model: keras.Model) -> None:
        """Raise ValueError if no layer has had a kernel, or none with enough weights."""
        if not self.any and self.left:
            self._refuse(self.left, "take a model with larger kernels")
        if not self.any:
            given = [choice.given for _, choice in self.entries if not choice.all]
            raise ValueError(
                f"Expected a model with layers to cluster. Received: {model.name!r}, in which "
                + (f"none of {', '.join(map(repr, given))} has a kernel." if given else "none has a kernel.")
            )

    def _refuse(self, left: Mapping[str, str], otherwise: str) -> None:
        where, reason = next(iter(left.items()))
        raise ValueError(
            f"Expected at most as many clusters as there are different weights. Received: {reason} in {where}. Take "
            f"fewer, or {otherwise}."
        )


def _codebook(layer: Layer, position: int, config: ClusterConfig) -> Codebook:
    """Return the codebook of a kernel, without its tables."""
    shape = tuple(inner_weights(layer)[position].shape)
    axis, tables = None, 1
    if config.granularity != "per_tensor":
        axis = next((place for place in channel_axes(layer, position) if shape[place] > 1), None)
    if axis is not None:
        block = 1 if config.granularity == "per_channel" else int(config.granularity)
        if shape[axis] % block:
            raise ValueError(
                f"Expected granularity to divide the number of channels. Received: granularity={block}, and "
                f"{shape[axis]} channels in the {inner_weights(layer)[position].name} of layer {layer.name!r}. Take "
                "another for it, with a config for each layer."
            )
        tables = shape[axis] // block
    how: dict[str, Any] = {"axis": axis, "tables": tables, "gradient": config.gradient}
    if config.codebook == "free":
        return Clusters(config.number_of_clusters, zero=config.preserve_sparsity, **how)
    return ScaledLevels(config.number_of_clusters, config.codebook, **how)


def _tables(rows: np.ndarray, config: ClusterConfig) -> np.ndarray:
    """Return where the tables of a kernel start: a row for each."""
    count = config.number_of_clusters
    if config.codebook != "free":
        levels = LEVELS[config.codebook](count)
        return np.array([[scale_of(row, levels) or 1.0] for row in rows], np.float32)
    zero = config.preserve_sparsity
    return np.stack([start(row, count - zero, config.init, zero=zero, seed=config.seed) for row in rows])


def _too_few(layer: Layer, position: int, codebook: Codebook) -> str:
    """Return in words that no table of a kernel has as many different weights as entries; empty if one has."""
    rows = codebook.rows(reaching(layer, position))
    if any(_has_values(row, codebook.count) for row in rows):
        return ""
    different = max(len(np.unique(row)) for row in rows)
    kind = "weights" if different == rows.shape[1] else "different weights"
    table = " for a table" if len(rows) > 1 else ""
    return f"{different} {kind}{table}, fewer than {codebook.count} values"


def _has_values(row: np.ndarray, count: int) -> bool:
    """Return whether there are so many different values."""
    step = math.ceil(len(row) / LOOKED_AT)
    return any(len(np.unique(some)) >= count for some in (row[::step], row))
