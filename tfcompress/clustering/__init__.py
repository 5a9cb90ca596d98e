"""Clustering: weights that share few values."""

from tfcompress.clustering.cluster import cluster
from tfcompress.clustering.cluster_config import ClusterConfig

__all__ = ["ClusterConfig", "cluster"]
