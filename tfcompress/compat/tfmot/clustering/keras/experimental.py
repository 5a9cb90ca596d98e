"""tfmot's second name of `cluster_weights`, whose guides keep zeros with it."""

from tfcompress.compat.tfmot.clustering.keras.cluster import cluster_weights

__all__ = ["cluster_weights"]
