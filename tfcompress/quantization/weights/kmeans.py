"""The table of least squared error, exactly."""

from __future__ import annotations

import kmeans1d
import numpy as np

MOST_CELLS = 1 << 22
"""Values times clusters that the exact algorithm keeps in memory, 16 bytes each."""

MOST_POINTS = 1 << 17
"""Values that it is given at most."""

GROUPS = 1 << 14
"""Groups whose values are summed together."""


def k_means(values: np.ndarray, count: int) -> np.ndarray:
    """Return the entries, ascending, that have the least squared error of all tables of that size.

    In one dimension k-means is solved exactly (Gronlund et al. 2017, arXiv:1701.07204). Of more values than memory is
    meant for, these are the entries for the means of equally many neighbours.

    Args:
        values: Any shape, at least one.
        count: How many entries; fewer where there are fewer different values.

    Example:

    >>> k_means(np.array([1.0, 2.0, 10.0, 12.0]), 2).tolist()
    [1.5, 11.0]
    """
    points = grouped(np.sort(values, axis=None), min(MOST_POINTS, MOST_CELLS // count))
    return np.array(kmeans1d.cluster(points.tolist(), count).centroids)


def grouped(ordered: np.ndarray, most: int) -> np.ndarray:
    """Return sorted values, or if they are more than `most`, the means of that many equally large groups of them.

    >>> grouped(np.array([1.0, 2.0, 5.0, 7.0]), 2).tolist()
    [1.5, 6.0]
    """
    if len(ordered) <= most:
        return ordered
    begins = np.arange(most) * len(ordered) // most
    sizes = np.diff(begins, append=len(ordered))
    sums = np.empty(most)
    for first in range(0, most, GROUPS):  # in float64, of which not all is to be in memory
        places = begins[first : first + GROUPS]
        stop = places[-1] + sizes[first + len(places) - 1]
        sums[first : first + GROUPS] = np.add.reduceat(ordered[places[0] : stop], places - places[0], dtype=np.float64)
    return sums / sizes
