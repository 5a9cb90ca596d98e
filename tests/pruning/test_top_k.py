"""Exactly the k largest, whatever the scores are."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.check import ON_TENSORFLOW
from tfcompress.pruning.top_k import keep_count, largest

EXAMPLES = 60 if ON_TENSORFLOW else 8
"""JAX compiles each of them."""
floats = st.floats(-1e6, 1e6, width=32)
# Few different values, so that ties are common.
ties = st.sampled_from([0.0, 0.5, -0.5, 1.0, 2.0, -2.0])
arrays = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=6), elements=st.one_of(floats, ties))


def select(scores, k):
    return [keras.ops.convert_to_numpy(mask) for mask in largest([np.abs(part) for part in scores], k)]


@pytest.mark.on_jax
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(st.lists(arrays, min_size=1, max_size=3), st.data())
def test_exactly_the_largest(scores, data):
    size = sum(part.size for part in scores)
    k = data.draw(st.integers(1, size))
    masks = select(scores, k)
    assert [mask.shape for mask in masks] == [part.shape for part in scores]
    kept = np.concatenate([np.abs(part)[mask] for part, mask in zip(scores, masks, strict=True)])
    lost = np.concatenate([np.abs(part)[~mask] for part, mask in zip(scores, masks, strict=True)])
    assert len(kept) == k
    assert not len(lost) or kept.min() >= lost.max()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(arrays, st.floats(0, 0.999))
def test_a_higher_sparsity_keeps_a_subset(scores, sparsity):
    counts = [int(keep_count(scores.size, s)) for s in (sparsity / 2, sparsity)]
    fewer, more = (select([scores], k)[0] for k in sorted(counts))
    assert np.all(more[fewer])


@pytest.mark.on_jax
def test_of_equal_scores_the_first_are_kept():
    (mask,) = select([np.ones((3, 4), "float32")], 5)
    np.testing.assert_array_equal(mask.ravel(), [True] * 5 + [False] * 7)


@pytest.mark.on_jax
@pytest.mark.parametrize("values", [[np.inf, 1e-45, 0.0, 3e38], [1e-40, 2e-40, 3e-40, 0.0]])
def test_extreme_floats_have_their_order(values):
    values = np.array(values, "float32")
    for k in range(1, 5):
        (mask,) = select([values], k)
        assert sorted(values[mask]) == sorted(values)[-k:]


@pytest.mark.parametrize("size", [1, 7, 10, 1001])
@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.9, 0.999])
def test_count(size, sparsity):
    expected = max(np.round(np.float32(size) * (np.float32(1) - np.float32(sparsity))), 1)
    assert int(keep_count(size, sparsity)) == expected


@pytest.mark.on_jax
def test_negative_scores_have_their_order():
    scores = np.array([-1.0, -3.0, -0.0, 0.0, -2.0, -np.inf, 5.0], "float32")
    for k, expected in [(1, [6]), (3, [2, 3, 6]), (4, [0, 2, 3, 6]), (6, [0, 1, 2, 3, 4, 6])]:
        (mask,) = largest([scores], k)
        assert np.flatnonzero(keras.ops.convert_to_numpy(mask)).tolist() == expected


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(st.lists(arrays, min_size=1, max_size=3), st.data())
def test_a_budget_is_used_up_to_less_than_one_more(scores, data):
    costs = [float(data.draw(st.integers(1, 9))) for _ in scores]
    total = sum(part.size * cost for part, cost in zip(scores, costs, strict=True))
    budget = data.draw(st.floats(0, total))
    masks = [keras.ops.convert_to_numpy(mask) for mask in largest(scores, budget, costs)]
    spent = sum(mask.sum() * cost for mask, cost in zip(masks, costs, strict=True))
    assert budget - max(costs) - 1e-3 <= spent <= budget + 1e-3
    kept = np.concatenate([part[mask] for part, mask in zip(scores, masks, strict=True)])
    lost = np.concatenate([part[~mask] for part, mask in zip(scores, masks, strict=True)])
    assert not len(lost) or not len(kept) or kept.min() >= lost.max()
