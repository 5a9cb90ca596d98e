"""The programs in examples/ reach the end, on what they make themselves and on data that is given."""

from __future__ import annotations

import csv
import importlib.util
import pathlib
import wave

import numpy as np
import pytest

from tests.check import ON_TENSORFLOW

FOLDER = pathlib.Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.skipif(not ON_TENSORFLOW, reason="exports")


def example(name):
    spec = importlib.util.spec_from_file_location(f"examples_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_they_are_short():
    for path in FOLDER.glob("*.py"):
        assert len(path.read_text().splitlines()) < 120, path


@pytest.mark.filterwarnings("ignore:Channels of 'columns' differ too much")
@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "least", "files"),
    [
        pytest.param("transfer_learning", 0.85, ["images.onnx", "images.tflite"], marks=pytest.mark.rare),
        pytest.param("keyword_spotter", 0.9, ["words.tflite"], marks=pytest.mark.rare),
        ("tabular", 0.93, ["table.onnx", "table.tflite"]),
    ],
)
def test_on_what_it_makes_itself(name, least, files, tmp_path):
    report = example(name).main([f"--output={tmp_path}"])
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    for candidate in report.candidates:
        assert candidate.metrics.accuracy > least, candidate.name


def test_images_of_ones_own(tmp_path):
    module = example("transfer_learning")
    module.draw_folder(tmp_path / "images", ["disc", "stripes"], 8, 16)
    given = [f"--images={tmp_path / 'images'}", f"--output={tmp_path}", "--size=16", "--epochs=1"]
    assert module.main(given)["tflite"].metrics.samples == 4


def test_sounds_of_ones_own(tmp_path):
    module = example("keyword_spotter")
    sounds, classes = module.made_sounds(2, seed=0)
    for number, (sound, label) in enumerate(zip(sounds, classes, strict=True)):
        folder = tmp_path / "sounds" / list(module.WORDS)[label]
        folder.mkdir(parents=True, exist_ok=True)
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, module.RATE, 0, "NONE", ""))
            file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    found, y, names = module.read_sounds(tmp_path / "sounds")
    assert names == sorted(module.WORDS)
    ours = np.array([list(module.WORDS)[label] for label in classes])
    order = np.argsort(ours, kind="stable")
    assert [names[label] for label in y] == ours[order].tolist()
    np.testing.assert_allclose(found, np.clip(sounds[order], -1, 1), atol=1e-4)


def test_a_table_of_ones_own(tmp_path):
    module = example("tabular")
    generator = np.random.default_rng(0)
    with (tmp_path / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["length", "kind", "width"])
        for number in range(80):
            kind = number % 2
            rows.writerow([generator.normal(10 * kind, 1), ["cat", "dog"][kind], generator.normal(1000, 10)])
    x, y, names = module.read_csv(tmp_path / "table.csv", "kind")
    assert x.shape == (80, 2)
    assert names == ["cat", "dog"]
    assert y[:4].tolist() == [0, 1, 0, 1]
    with pytest.raises(SystemExit, match="Received: 'colour'"):
        module.read_csv(tmp_path / "table.csv", "colour")
