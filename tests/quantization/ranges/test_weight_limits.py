"""The limits of weights, beside brute force."""

from __future__ import annotations

import numpy as np
import pytest

from tests.quantization.distributions import error
from tfcompress.quantization.ranges.weight_limits import weight_limit


@pytest.mark.parametrize("axis", [None, 0, -1, (1, 2)])
def test_a_weights_limit_is_its_channels_largest(axis):
    x = np.random.default_rng(0).normal(size=(4, 3, 5)).astype("float32")
    limit = weight_limit(x, axis)
    axes = () if axis is None else tuple(a % 3 for a in ((axis,) if isinstance(axis, int) else axis))
    np.testing.assert_array_equal(limit, np.abs(x).max(axis=tuple(a for a in range(3) if a not in axes)))
    assert limit.dtype == "float32"


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_weights_limit_of_least_error_comes_close_to_brute_force(bits):
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=3000), rng.standard_t(3, size=3000), rng.uniform(-1, 1, 3000), np.zeros(3000)], 1)
    limits = weight_limit(x, 1, bits, "mse")
    assert limits.shape == (4,) and limits[3] == 0 and (limits <= np.abs(x).max(axis=0) * 1.000001).all()
    for channel, limit in zip(x.T[:3], limits, strict=False):
        largest = np.abs(channel).max()
        best = min(error(channel, -r, r, bits, True) for r in np.geomspace(0.005, 1, 500) * largest)
        assert error(channel, -limit, limit, bits, True) < 1.02 * best


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([1.0], None, 1), "bits"),
        (([1.0], None, 8, "entropy"), "range"),
        (([1.0], 1), "axis"),
        (([],), "at least one value"),
        (([np.nan],), "finite"),
    ],
)
def test_bad_weights_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        weight_limit(*arguments)
