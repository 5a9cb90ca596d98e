"""Sparsities by the integer programme, from scores of one pass over data."""

from __future__ import annotations

import itertools

import pytest

import tfcompress as tfc
from tests.search.allocation_models import clusters, trained_model
from tfcompress.search.sparsity_scores import sparsity_scores


def test_sparsities_reach_the_budget_with_the_least_loss():
    model, (x, _) = trained_model(), clusters()
    found = sparsity_scores(model, x, sparsities=(0.3, 0.6, 0.9), samples=128)
    chosen = tfc.allocation.least_loss(found, 0.5)
    total = sum(found.sizes.values())

    def share(sparsities):
        return sum(found.sizes[name] * s for name, s in sparsities.items()) / total

    def loss(sparsities):
        return sum({0.0: 0.0, **found.rises[name]}[s] for name, s in sparsities.items())

    every = (dict(zip(found.sizes, some, strict=True)) for some in itertools.product((0.0, 0.3, 0.6, 0.9), repeat=3))
    best = min(loss(one) for one in every if share(one) >= 0.5)
    assert share(chosen) >= 0.5 and loss(chosen) == pytest.approx(best)
    assert tfc.sparsity(tfc.prune_once(model, 0.5, allocation=chosen)) >= 0.45
    with pytest.raises(ValueError, match="budget of at most 0.9"):
        tfc.allocation.least_loss(found, 0.95)
