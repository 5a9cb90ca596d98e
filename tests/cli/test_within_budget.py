"""tfcompress compress --max_drop=...: files that are shown to keep a budget."""

import json

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tfcompress.search import budget


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with a model that is always right, and data; there is nothing below int8."""
    monkeypatch.setattr(budget, "Ladder", lambda *args, **how: ())
    random = np.random.default_rng(0)
    kernel = random.normal(size=(6, 3)).astype("float32")
    model = keras.Sequential([keras.Input((6,), name="x"), keras.layers.Dense(3, use_bias=False, name="logits")])
    model.layers[0].set_weights([kernel])
    model.save(tmp_path / "my.keras")
    x = random.normal(size=(1100, 6)).astype("float32")
    y = (x @ kernel).argmax(1)
    np.savez(tmp_path / "my.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    return tmp_path


COMMAND = ("compress", "--model=my.keras", "--data=my.npz", "--output_dir=out", "--formats=tflite")


def test_files_are_shown_to_keep_a_budget(script, folder):
    printed = script(*COMMAND, "--max_drop=5", "--json=found.json", cwd=folder).stdout
    assert "out/my/model.tflite: " in printed
    assert "a budget of 5 points holds" in printed
    found = json.loads((folder / "found.json").read_text())
    assert found["judgements"]["tflite"]["samples"] == 600
    assert [one["name"] for one in found["tries"]] == ["float16", "int8"]
    assert {path.name for path in (folder / "out" / "my").iterdir()} >= {
        *("model.tflite", "model.keras", "report.html", "report.md", "result.json", "tries"),
    }
    assert script(*COMMAND, "--max_drop=5", cwd=folder).stdout.count("holds") == printed.count("holds")


def test_a_recipe_is_judged_by_a_budget(script, folder):
    (folder / "my.yaml").write_text("steps: [{step: quantize}, {step: export, files: [a.tflite]}]\n")
    printed = script(*COMMAND[:-1], "--recipe=my.yaml", "--max_drop=5", cwd=folder).stdout
    assert "a.tflite" in printed
    assert "on 900 samples: a budget of 5 points holds" in printed


def test_what_does_not_fit_is_refused(script, folder):
    for flags, message in (
        (["--max_drop=-1"], "Expected --max_drop"),
        (["--max_drop=5", "--sparsity=0.5"], "Expected no --sparsity with --max_drop"),
        (["--minimize=zip"], "without --max_drop"),
        (["--max_drop=5", "--recipe=int8"], "Expected no --formats with --recipe"),
        (["--max_drop=5", "--formats=onx"], "Expected --formats to be tflite, onnx or both"),
    ):
        assert message in script(*COMMAND, *flags, code=2, cwd=folder).stderr
    assert "Expected at least 1,497 samples" in script(*COMMAND, "--max_drop=0.3", code=1, cwd=folder).stderr
    assert not (folder / "out").exists()


@pytest.mark.parametrize(("flags", "shown"), [([], True), (["--verbosity=quiet"], False)])
def test_quiet_shows_no_progress(flags, shown, script, folder, monkeypatch):
    def compress(*_, progress, **__):
        raise ValueError(f"progress is {progress}")

    monkeypatch.setattr(tfc, "compress", compress)
    assert f"progress is {shown}" in script(*COMMAND, "--max_drop=5", *flags, code=1, cwd=folder).stderr
