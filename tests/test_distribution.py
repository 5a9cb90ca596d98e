"""Training on several devices and in several processes gives what training on one gives."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
IN_PARTS = " in parts"
IN_BFLOAT16 = ("half",)
"""Techniques whose gradients each device rounds for its part of the batch: losses are alike, weights not so much."""


@contextlib.contextmanager
def program(*arguments: object) -> Iterator[None]:
    """Run `tests.programs.devices` in a process of its own beside the block, and see that it succeeds."""
    command = [sys.executable, "-m", "tests.programs.devices", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as running:
        try:
            yield
            output, _ = running.communicate(timeout=600)
        except BaseException:
            running.kill()
            raise
    assert running.returncode == 0, output[-3000:]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def read(folder: pathlib.Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"{name}.npz") as arrays:
        return dict(arrays)


def check_same(one: dict[str, np.ndarray], several: dict[str, np.ndarray], devices: int) -> None:
    """See that all copies of a variable are equal, bit by bit, and are what one device has.

    Masks, counters and all that isn't float is so exactly; floats differ by the order of sums, and where these change
    what a number is rounded to, by what training makes of that.
    """
    masks, ranges = collections.Counter(), collections.Counter()
    techniques = {name.split()[0] for name in several}
    assert several.keys() == {name for name in one if name.split()[0] in techniques}
    for name, copies in several.items():
        if name.endswith(IN_PARTS):
            continue
        technique, path = name.split(maxsplit=1)
        in_parts = several.get(technique + IN_PARTS, [[]])[0]
        assert len(copies) == (1 if path in in_parts or "/" not in path else devices), name
        assert np.all(copies == copies[:1]), name
        masks[technique] += copies.dtype == bool
        ranges[technique] += name.endswith("/range")
        if np.issubdtype(copies.dtype, np.floating):
            if technique in IN_BFLOAT16 and "/" in path:
                continue
            tolerance = 6e-3 * np.abs(one[name][0]).max() + 1e-6
            np.testing.assert_allclose(copies[0], one[name][0], rtol=0, atol=tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(copies[0], one[name][0], err_msg=name)
    assert {name for name in techniques if masks[name] < 4 - (name == "scales")} == set()
    assert {name for name in techniques if ranges[name] < 5} == techniques & {"heads"}


def check_trained(found: dict[str, np.ndarray]) -> None:
    """See that training did what is compared: masks have zeros, ranges come from every part of the batch."""
    for name, copies in found.items():
        if name.startswith("elements") and copies.dtype == bool:
            sparsity = 0.75 if "conv/" in name else 0.5
            assert abs(1 - copies.mean() - sparsity) < 0.01, name
        if name.startswith("others") and copies.dtype == bool and "y/" not in name:
            assert abs(copies.mean() - 0.5) < 0.01, name
        if name.endswith(("gradient", "sensitivity", "movement")) and not name.startswith("others"):
            assert np.abs(copies).max() > 0, name
    pruned = [copies for name, copies in found.items() if name.startswith("channels") and copies.dtype == bool]
    assert not pruned or sum(not part.all() for part in pruned) >= 4
    if "elements x_quantizer/range" not in found:
        return
    from tests.programs.techniques import BATCH, STEPS, data

    batches = data()[0].reshape(STEPS, BATCH, -1)
    low, high = found["elements x_quantizer/range"][0]
    quarter = batches[:, : BATCH // 4]
    assert low < 1.5 * quarter.min(axis=(1, 2)).mean()
    assert high > 1.5 * quarter.max(axis=(1, 2)).mean()
    np.testing.assert_allclose((low, high), (batches.min((1, 2)).mean(), batches.max((1, 2)).mean()), rtol=0.05)


MIRRORED = ("elements", "channels")
OTHERS = ("others", "scales", "heads", "half")


@pytest.mark.long
@pytest.mark.parametrize(
    ("names", "devices"),
    [
        # A mask of each kind, and all that is gathered for them; what is gathered for channels is added up as that is.
        (("elements",), 2),
        pytest.param(MIRRORED, 4, marks=pytest.mark.rare),
        pytest.param(OTHERS, 4, marks=pytest.mark.rare),
    ],
    ids=["elements", "most", "others"],
)
def test_several_devices_under_mirrored_strategy(names, devices, tmp_path):
    """Where models are shipped from, and a monitor watches."""
    with program(tmp_path, "mirrored", ",".join(names), devices):
        pass
    one = read(tmp_path, "tensorflow")
    check_trained(one)
    check_same(one, read(tmp_path, "mirrored"), devices)


def check_on_jax(folder: pathlib.Path, *names: str, whole: bool = True) -> dict[str, np.ndarray]:
    """See that training on four devices, which have parts of weights or whole ones, is that on one; return that."""
    with program(folder, "jax" if whole else "jax_in_parts", ",".join(names)):
        pass
    one = read(folder, "jax")
    check_trained(one)
    if whole:
        several = read(folder, "data_parallel")
        check_same(one, several, devices=4)
        assert not any(copies.any() for name, copies in several.items() if name.endswith(IN_PARTS))
    parts = read(folder, "model_parallel")
    check_same(one, parts, devices=4)
    # Masks, and what is gathered of gradients, are divided as their kernels are.
    divided = set(parts["elements" + IN_PARTS][0])
    assert {f"{layer}/kernel{suffix}" for layer in ("conv", "second", "y") for suffix in ("", "_mask_mask")} <= divided
    assert "second/kernel_mask_sensitivity" in divided
    return one


@pytest.mark.long
@pytest.mark.rare  # a backend, several devices and weights in parts at once
def test_jax_on_four_devices(tmp_path, monkeypatch):
    """With a mask of each kind, a teacher, and ranges that are learned.

    Weights are in parts; programs train with whole ones in two processes (`tests/cli/test_scripts.py`).
    """
    pytest.importorskip("jax")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compiling is most of what it takes
    check_on_jax(tmp_path, "elements", whole=False)


@pytest.mark.long
@pytest.mark.rare  # minutes, of which most are spent in XLA's compiler
def test_jax_with_every_technique_and_in_two_processes(tmp_path):
    pytest.importorskip("jax")
    port = free_port()
    # Processes that wait for each other get no third one beside them: with too few cores they wait for ever.
    with program(tmp_path, "two_processes", 0, port), program(tmp_path, "two_processes", 1, port):
        pass
    one = check_on_jax(tmp_path, *MIRRORED, *OTHERS)
    first, second = (read(tmp_path, f"process_{process}") for process in range(2))
    check_same(one, first, devices=2)
    assert {"conv/kernel", "shared/kernel", "y/kernel"} <= set(first["channels" + IN_PARTS][0])
    assert first.keys() == second.keys()
    for name, copies in first.items():
        np.testing.assert_array_equal(copies, second[name], err_msg=name)
