"""Sparsities of layers that make up one of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from tfcompress.pruning import allocation
from tfcompress.pruning.top_k import keep_count

LENET = {"conv_1": (5, 5, 1, 20), "conv_2": (5, 5, 20, 50), "dense_1": (800, 500), "dense_2": (500, 10)}
METHODS = [allocation.uniform, allocation.erdos_renyi, allocation.erdos_renyi_kernel]


class Scanned:
    def __init__(self, curves, sizes):
        self.curves, self.sizes = curves, sizes

    def losses(self):
        return self.curves


def size(shape):
    return int(np.prod(shape))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.8, 0.9, 0.98, 0.999])
def test_the_whole_is_as_sparse_as_wanted(method, sparsity):
    found = method(LENET, sparsity)
    assert list(found) == list(LENET)
    assert all(0 <= value < 1 for value in found.values())
    total = sum(map(size, LENET.values()))
    zeros = sum(size(LENET[name]) * value for name, value in found.items())
    assert zeros == pytest.approx(sparsity * total, abs=1e-6)
    kept = sum(int(keep_count(size(LENET[name]), value)) for name, value in found.items())
    assert abs(kept - (1 - sparsity) * total) <= len(LENET) / 2 + 1


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        (allocation.erdos_renyi, lambda shape: (shape[-1] + shape[-2]) / (shape[-1] * shape[-2])),
        (allocation.erdos_renyi_kernel, lambda shape: sum(shape) / size(shape)),
    ],
)
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.97])
def test_densities_are_proportional_but_for_dense_layers(method, raw, sparsity):
    found = method(LENET, sparsity)
    ratios = {name: (1 - value) / raw(LENET[name]) for name, value in found.items()}
    shared = max(ratios.values())
    capped = [name for name, value in found.items() if value == 0]
    for name, ratio in ratios.items():
        if name in capped:
            assert ratio <= shared  # it would exceed 1
        else:
            assert ratio == pytest.approx(shared)
    assert "conv_1" in capped or sparsity > 0.95
    assert "dense_1" not in capped


def test_capping_one_layer_may_cap_another():
    # At first only "a" exceeds 1; what it gives back makes "b" exceed 1 as well.
    shapes = {"a": (2, 2), "b": (20, 20), "c": (200, 200)}
    sizes = {name: size(shape) for name, shape in shapes.items()}
    total = sum(sizes.values())
    sparsity = 1 - (4 + 400 + 4016) / total
    found = allocation.erdos_renyi(shapes, sparsity)
    assert found["a"] == found["b"] == 0
    assert found["c"] == pytest.approx(1 - 4016 / 40000)


def test_a_matrix_has_one_density_with_and_without_its_kernel_size():
    shapes = {"a": (30, 40), "b": (300, 10)}
    assert allocation.erdos_renyi(shapes, 0.8) == allocation.erdos_renyi_kernel(shapes, 0.8)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_kernel_is_refused(method):
    with pytest.raises(ValueError, match="at least one kernel"):
        method({}, 0.5)
    with pytest.raises(ValueError, match=r"Received: \(10,\) for 'bias'"):
        method({"a": (3, 3), "bias": (10,)}, 0.5)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        method({"a": (3, 3)}, 1.0)


def test_all_layers_lose_the_same():
    levels = (0.3, 0.6, 0.9)
    curves = {
        "robust": dict(zip(levels, (0.01, 0.02, 0.1), strict=True)),
        "fragile": dict(zip(levels, (0.05, 0.3, 0.8), strict=True)),
        "middle": dict(zip(levels, (0.02, 0.08, 0.4), strict=True)),
    }
    result = Scanned(curves, {"robust": 1000, "fragile": 200, "middle": 500})
    for budget in (0.1, 0.4, 0.7, 0.85):
        found = allocation.from_sensitivity(result, budget)
        overall = sum(found[name] * result.sizes[name] for name in found) / 1700
        assert overall == pytest.approx(budget, abs=1e-9)
        assert found["robust"] >= found["middle"] >= found["fragile"]
        lost = [
            np.interp(found[name], [0.0, *levels], [0.0, *curve.values()])
            for name, curve in curves.items()
            if found[name] < 0.9
        ]
        np.testing.assert_allclose(lost, lost[0], atol=1e-9)


def test_flat_and_falling_losses():
    # "free" costs nothing up to 0.8 and even gains at 0.4: no other layer pays before it.
    curves = {"free": {0.4: -0.02, 0.8: 0.0, 0.9: 0.5}, "other": {0.4: 0.1, 0.9: 0.2}}
    result = Scanned(curves, {"free": 100, "other": 100})
    assert allocation.from_sensitivity(result, 0.2) == pytest.approx({"free": 0.4, "other": 0.0})
    assert allocation.from_sensitivity(result, 0.4) == pytest.approx({"free": 0.8, "other": 0.0})
    # A drop behind a rise isn't trusted: 0.6 may be as bad as 0.3.
    bumpy = Scanned({"bumpy": {0.3: 0.2, 0.6: 0.1}, "smooth": {0.3: 0.1, 0.6: 0.2}}, {"bumpy": 1, "smooth": 1})
    found = allocation.from_sensitivity(bumpy, 0.5)
    assert found["smooth"] > found["bumpy"]
    assert sum(found.values()) == pytest.approx(1.0)
    # A jump in the middle: the whole still comes out.
    jump = Scanned({"jump": {0.2: 0.1, 0.8: 0.1}, "steady": {0.8: 0.8}}, {"jump": 300, "steady": 100})
    for budget in (0.15, 0.3, 0.5, 0.7, 0.8):
        found = allocation.from_sensitivity(jump, budget)
        assert (3 * found["jump"] + found["steady"]) / 4 == pytest.approx(budget)


def test_nothing_measured_to_lose():
    result = Scanned({"a": {0.5: 0.0}, "b": {0.5: -0.1}}, {"a": 10, "b": 30})
    assert allocation.from_sensitivity(result, 0.25) == pytest.approx({"a": 0.25, "b": 0.25})
    assert allocation.from_sensitivity(result, 0.0) == {"a": 0.0, "b": 0.0}
    with pytest.raises(ValueError, match=r"at most 0.5.*Scan higher"):
        allocation.from_sensitivity(result, 0.6)


def test_a_scan_of_bit_widths_is_refused():
    with pytest.raises(ValueError, match="scan of sparsities"):
        allocation.from_sensitivity(Scanned({"a": {4: 0.1, 8: 0.0}}, {"a": 10}), 0.5)
