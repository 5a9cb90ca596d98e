"""The job `search`: recipes with choices and ranges, tried; the same command goes on."""

import json

import pytest

from tests.check import ON_TENSORFLOW
from tests.cli import small_job

pytest.importorskip("optuna")

SPACE = """
name: widths
steps:
- step: quantize
  config: {weights: {bits: {choice: [4, 8]}}, activations: null}
- step: export
  files: [a.onnx]
"""


@pytest.mark.skipif(not ON_TENSORFLOW, reason="exports")
def test_a_space_is_searched_and_shown(tmp_path, script):
    small_job.make(tmp_path)
    (tmp_path / "space.yaml").write_text(SPACE)
    flags = ["--model=model.keras", "--data=data.npz", "--recipe=space.yaml", "--output_dir=."]
    first = script("search", *flags, "--trials=1", cwd=tmp_path)
    assert "trial 0: " in first.stdout and "trial 1: " not in first.stdout
    done = script("search", *flags, "--json=result.json", cwd=tmp_path)
    assert "trial 0: " not in done.stdout and "trial 1: " in done.stdout
    assert "Written to widths; open widths/report.html to look at it." in done.stdout
    assert done.stderr == ""
    page = (tmp_path / "widths" / "report.html").read_text()
    assert all(said in page for said in ("tfcompress search --data=", "trial-0001", "on data", "weights.bits"[8:]))
    result = json.loads((tmp_path / "result.json").read_text())
    bits = "quantize.config.weights.bits"
    assert sorted(one[bits] for one in result["parameters"]) == [4, 8]
    assert "of this model, space, data" in script("search", *flags, "--seed=1", cwd=tmp_path, code=1).stderr
    assert "--objectives of drop" in script("search", *flags, "--objectives=speed", cwd=tmp_path, code=2).stderr
