"""tfmot's names for clustering models of Keras."""

from tfcompress.compat.tfmot.clustering.keras import experimental
from tfcompress.compat.tfmot.clustering.keras.cluster import (
    CentroidInitialization,
    cluster_scope,
    cluster_weights,
    strip_clustering,
)

__all__ = ["CentroidInitialization", "cluster_scope", "cluster_weights", "experimental", "strip_clustering"]
