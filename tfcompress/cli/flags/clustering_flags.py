"""Flags of clustering."""

from __future__ import annotations

from tfcompress.cli.flags.flag import Flag
from tfcompress.core.names import STARTS_ELSEWHERE

INITS = ("kmeans++", "linear", "random", "density", "quantile", "kmeans")
CODEBOOKS = ("free", "uniform", "power_of_two", "additive_power_of_two")

TITLE = "Clustering"

FLAGS = {
    "number_of_clusters": Flag("Values that the weights of a kernel share.", 16, "integer", "N", 2, 256),
    "init": Flag(
        "Where these start: drawn far from each other, equally spaced, at random, by the weights' density, as many "
        "weights near each, or with the least squared error.",
        "kmeans++",
        "choice",
        choices=INITS,
        elsewhere=STARTS_ELSEWHERE,
    ),
    "codebook": Flag(
        "Any values, or fixed levels times a scale that is trained; the number of levels is odd.",
        "free",
        "choice",
        choices=CODEBOOKS,
    ),
    "table_granularity": Flag(
        "What has values of its own: per_tensor, per_channel, or a number of channels.",
        "per_tensor",
        shown="UNIT",
        called="granularity",
    ),
    "zero_cluster": Flag(
        "One of the values is always 0, and zeros of a pruned model stay zeros.",
        True,
        "switch",
        called="preserve_sparsity",
    ),
}
