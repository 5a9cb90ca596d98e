"""What README.md shows runs, and its tables are those of benchmarks/results/."""

from __future__ import annotations

import pathlib
import re

import keras
import numpy as np
import pytest

from benchmarks.readme import ROOT, filled
from tfcompress.channels.costs import total_multiply_adds
from tfcompress.graph import rebuild
from tfcompress.pipeline import Data, default_model, digits, fit

README = (ROOT / "README.md").read_text()


def test_the_tables_are_those_of_the_results():
    assert filled(README) == README


def test_the_first_python_is_near_the_top_and_short():
    before, block = README.split("```python\n")[:2]
    assert before.count("\n") < 35
    assert len([line for line in block.split("```")[0].splitlines() if line.strip()]) <= 15


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "Makefile"])
def test_the_files_that_it_names_are_there(page):
    named = re.findall(r"[` ]((?:\w+/)*\w+\.py)\b", (ROOT / page).read_text())
    there = [path.as_posix() for name in ("tfcompress", "tests", "scripts") for path in (ROOT / name).rglob("*.py")]
    assert len(named) > 5
    assert not [name for name in named if not any(path.endswith(f"/{name}") for path in there)]


def sooner(block: str, data: Data) -> str:
    """Return a block that trains for two epochs, silently, in place of ten; its schedule is as much shorter.

    What is shown is seen to reach the end of its schedule.
    """
    steps = 10 * -(-len(data.x_train) // 32)
    end = int(re.search(r"end_step=(\d+)", block)[1])
    assert block.count("epochs=10") == 1 and steps >= end
    block = re.sub(r"(_step|frequency)=(\d+)", lambda found: f"{found[1]}={int(found[2]) // 5}", block)
    block = block.replace("epochs=10)", "epochs=2, verbose=0)")
    return block.replace("epochs=10", "epochs=2")


@pytest.mark.long
def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = digits()
    model = default_model(data)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fit(model, data, loss, epochs=1, batch_size=32, learning_rate=2e-3)
    pathlib.Path("saved_models/digits").mkdir(parents=True)
    model.save("saved_models/digits/dense.keras")
    first, *others = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    half, second, several = (
        next(block for block in others if word in block) for word in ("mixed_precision", "shrink", "MirroredStrategy")
    )
    names = {}
    exec(sooner(first.replace("epochs=2)", "epochs=2, verbose=0)"), data), names)
    assert {path.name for path in tmp_path.iterdir()} == {"saved_models", "my.tflite", "my.onnx"}
    assert "tflite" in capsys.readouterr().out
    assert abs(names["tfc"].sparsity(names["quantized"]) - 0.8) < 1e-3
    exec(half, names)
    assert names["mixed"].get_layer("hidden").innermost.compute_dtype == "bfloat16"
    assert {layer.compute_dtype for layer in names["final"].layers} == {"float32"}
    assert abs(names["tfc"].sparsity(names["final"]) - 0.5) < 1e-3
    exec(sooner(second, data), names)
    small, pruned, x = names["small"], names["pruned"], data.x_test
    np.testing.assert_allclose(small.predict(x, verbose=0), pruned.predict(x, verbose=0), rtol=0, atol=1e-4)
    exec(several, names)
    assert abs(names["tfc"].sparsity(names["shared"]) - 0.8) < 1e-3
    assert total_multiply_adds(rebuild(small)) <= total_multiply_adds(rebuild(names["model"])) / 2
