"""What README.md shows runs, and its tables are those of benchmarks/results/."""

from __future__ import annotations

import pathlib
import re

import keras

from benchmarks.readme import ROOT, filled
from tfcompress.pipeline import default_model, digits, fit

README = (ROOT / "README.md").read_text()


def test_the_tables_are_those_of_the_results():
    assert filled(README) == README


def test_the_first_python_is_near_the_top_and_short():
    before, block = README.split("```python\n")[:2]
    assert before.count("\n") < 35
    assert len([line for line in block.split("```")[0].splitlines() if line.strip()]) <= 15


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = digits()
    model = default_model(data)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fit(model, data, loss, epochs=3, batch_size=32, learning_rate=2e-3)
    pathlib.Path("saved_models/digits").mkdir(parents=True)
    model.save("saved_models/digits/dense.keras")
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {}
    exec(
        code.replace("epochs=2)", "epochs=2, verbose=0)").replace(
            "fit(data.x_train, data.y_train, epochs=10)", "fit(data.x_train, data.y_train, epochs=10, verbose=0)"
        ),
        names,
    )
    assert {path.name for path in tmp_path.iterdir()} == {"saved_models", "my.tflite", "my.onnx"}
    assert "tflite" in capsys.readouterr().out
    assert abs(names["tfc"].sparsity(names["quantized"]) - 0.8) < 1e-3
