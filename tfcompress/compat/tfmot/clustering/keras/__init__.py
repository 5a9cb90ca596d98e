"""tfmot's names for clustering models of Keras."""

from tfcompress.compat.tfmot.clustering.keras import experimental
from tfcompress.compat.tfmot.clustering.keras.cluster import (
    CentroidInitialization,
    cluster_scope,
    cluster_weights,
    strip_clustering,
)
from tfcompress.compat.tfmot.clustering.keras.clustering_callbacks import ClusteringSummaries
from tfcompress.compat.tfmot.other_names import refuse_in

__all__ = [
    "CentroidInitialization",
    "ClusteringSummaries",
    "cluster_scope",
    "cluster_weights",
    "experimental",
    "strip_clustering",
]

__getattr__ = refuse_in(__name__, __all__)
