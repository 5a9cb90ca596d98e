"""tfmot's verbs of clustering: `cluster_weights`, `strip_clustering`, `cluster_scope`."""

from __future__ import annotations

import contextlib
import enum
from typing import Any

import keras

from tfcompress.clustering import ClusterConfig
from tfcompress.clustering.cluster import codebooks_of, left_dense, warn_of_dense
from tfcompress.clustering.wrapping import Codebooks, around, with_codebooks
from tfcompress.compat.tfmot.original import scope_with_original
from tfcompress.core.arguments import check_flag, short
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.graph import check_built, kernel_positions, strip
from tfcompress.graph.clone import copy_layer
from tfcompress.graph.flatten import opened
from tfcompress.layers.kernel_layouts import is_depthwise
from tfcompress.loading.keras2_packages import is_of_keras2, original_tfmot
from tfcompress.quantization.weights.codebook import Codebook


class CentroidInitialization(str, enum.Enum):
    """Where the values that weights share start."""

    LINEAR = "CentroidInitialization.LINEAR"
    RANDOM = "CentroidInitialization.RANDOM"
    DENSITY_BASED = "CentroidInitialization.DENSITY_BASED"
    KMEANS_PLUS_PLUS = "CentroidInitialization.KMEANS_PLUS_PLUS"


INITS = {
    CentroidInitialization.LINEAR: "linear",
    CentroidInitialization.RANDOM: "random",
    CentroidInitialization.DENSITY_BASED: "density",
    CentroidInitialization.KMEANS_PLUS_PLUS: "kmeans++",
}


def cluster_weights(
    to_cluster: Any,
    number_of_clusters: int,
    cluster_centroids_init: Any = CentroidInitialization.KMEANS_PLUS_PLUS,
    preserve_sparsity: bool = False,
    cluster_per_channel: bool = False,
    **kwargs: Any,
) -> Any:
    """Return a model, or a layer, whose kernels have so many values each, as tfmot's function of this name does.

    Values start as tfmot's do and are trained as those are, but each kernel has exactly so many. Kernels of depthwise
    convolutions aren't clustered, nor those that have too few weights. `tfcompress.cluster` can do more.

    Args:
        to_cluster: A built Keras 3 model of any kind, which isn't changed; a built layer, of which a copy is taken,
            also in the `clone_function` of `keras.models.clone_model`; or a list of layers. What is of tf_keras goes to
            tfmot.
        number_of_clusters: At least 2.
        cluster_centroids_init: A `CentroidInitialization`.
        preserve_sparsity: Whether one of the values is 0, and zeros stay zeros.
        cluster_per_channel: Whether each channel of a two-dimensional convolution has values of its own.
        **kwargs: For tfmot, of what is of tf_keras.

    Returns:
        A functional model, not compiled; or a `tfcompress` wrapper with the layer's name.

    Raises:
        TypeError: If `to_cluster` is something else.
        ValueError: If it isn't built, or an argument is out of its range.
    """
    if is_of_keras2(to_cluster) or (isinstance(to_cluster, list) and any(map(is_of_keras2, to_cluster))):
        original = original_tfmot().clustering.keras
        return original.cluster_weights(
            to_cluster,
            number_of_clusters,
            original.CentroidInitialization(_init(cluster_centroids_init).value),
            preserve_sparsity=preserve_sparsity,
            cluster_per_channel=cluster_per_channel,
            **kwargs,
        )
    if kwargs:
        raise TypeError(f"Expected no other arguments for what is of Keras 3. Received: {', '.join(kwargs)}.")
    config = ClusterConfig(
        number_of_clusters,
        INITS[_init(cluster_centroids_init)],
        preserve_sparsity=check_flag("preserve_sparsity", preserve_sparsity),
    )
    check_flag("cluster_per_channel", cluster_per_channel)

    left: dict[str, str] = {}

    def chosen(layer: keras.layers.Layer) -> Codebooks:
        found = _codebooks(layer, config, cluster_per_channel)
        left.update(left_dense(layer, found))
        return found

    if isinstance(to_cluster, keras.Model):
        check_built(to_cluster)
        made: Any = with_codebooks(opened(to_cluster), chosen, keep_zeros=lambda layer: preserve_sparsity)
    elif isinstance(to_cluster, list):
        made = [_layer(layer, chosen(_checked(layer)), preserve_sparsity) for layer in to_cluster]
    else:
        made = _layer(to_cluster, chosen(_checked(to_cluster)), preserve_sparsity)
    warn_of_dense(left)
    return made


def strip_clustering(model: Any) -> Any:
    """Return a model of plain layers, whose kernels have few values (`tfcompress.strip`).

    Args:
        model: With clustered layers, of Keras 3 or tf_keras.

    Raises:
        TypeError: If `model` is no model.
    """
    if is_of_keras2(model):
        return original_tfmot().clustering.keras.strip_clustering(model)
    return strip(model)


def cluster_scope() -> contextlib.AbstractContextManager[Any]:
    """Return a scope in which Keras finds what clustered models are made of; Keras 3 needs none."""
    return scope_with_original("clustering", "cluster_scope")


def _init(given: Any) -> CentroidInitialization:
    """Return how values start; tfmot's own names are known, too."""
    try:
        return CentroidInitialization(getattr(given, "value", given))
    except ValueError:
        raise ValueError(
            "Expected cluster_centroids_init to be a CentroidInitialization: "
            f"{', '.join(CentroidInitialization.__members__)}. Received: {short(given)}."
        ) from None


def _checked(layer: Any) -> keras.layers.Layer:
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            "Expected `to_cluster` to be a model, a layer or a list of layers, of Keras 3 or tf_keras. Received: "
            f"{short(layer)} of type {type(layer).__module__}.{type(layer).__name__}."
        )
    if not layer.built and not isinstance(layer, keras.layers.InputLayer):
        raise ValueError(
            f"Expected a built layer, whose weights say where the values start. Received: {layer.name!r}, which has "
            "none yet. Build the model, and cluster that, or its layers with keras.models.clone_model."
        )
    return layer


def _codebooks(layer: keras.layers.Layer, config: ClusterConfig, per_channel: bool) -> Codebooks:
    """Return the codebooks of the kernels that tfmot clusters."""
    if isinstance(layer, CompressedLayer) and any(isinstance(t, Codebook) for _, t in layer.transforms):
        return {}
    positions = [position for position in kernel_positions(layer) if not is_depthwise(layer, position)]
    return codebooks_of(layer, positions, _for(layer, config, per_channel))


def _for(layer: keras.layers.Layer, config: ClusterConfig, per_channel: bool) -> ClusterConfig:
    own = per_channel and isinstance(layer, keras.layers.Conv2D)
    return ClusterConfig.get(config, granularity="per_channel") if own else config


def _layer(layer: keras.layers.Layer, codebooks: Codebooks, preserve_sparsity: bool) -> keras.layers.Layer:
    return around(copy_layer(layer, layer.name), codebooks, keep_zeros=preserve_sparsity) if codebooks else layer
