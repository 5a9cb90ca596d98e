"""What README.md and the pages of docs/ show runs, and their tables are those of benchmarks/results/.

The blocks of a page run one after the other in this process, with small data and few epochs.
"""

from __future__ import annotations

import logging
import pathlib
import re
import shlex
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import tfcompress as tfc
from benchmarks import picture
from benchmarks.readme import ROOT, filled, pages
from tests.check import ON_TENSORFLOW
from tfcompress.channels.costs import total_multiply_adds
from tfcompress.cli.jobs import job_called
from tfcompress.cli.main import code_of
from tfcompress.graph import rebuild
from tfcompress.pipeline import default_model, digits, fit
from tfcompress.recipes import compress_job
from tfcompress.search import ladder

README = (ROOT / "README.md").read_text()
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in pages()}
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
PRELUDE = BLOCK.search(PAGES["docs/index.md"])[2]
"""The lines that other pages begin with, and say so."""
ALIKE = ("docs/quickstart.md", "README.md")
"""Pages that show the same jobs."""
RUN = [ALIKE, *((name,) for name, text in PAGES.items() if BLOCK.search(text) and name not in ALIKE)]
"""Pages that are run in one folder: a job that a page before has done isn't done once more."""
SHORT = {"trials": 2, "epochs": 1, "finetune_epochs": 1, "qat_epochs": 0, "runs": 10}
"""Flags that the jobs get, if they take them and the page doesn't say another."""


def test_the_tables_are_those_of_the_results():
    assert not [name for name, text in PAGES.items() if filled(text) != text]
    assert picture.is_up_to_date(picture.PATH.read_text())
    other = re.sub(r">[\d.]+ ms<", ">0.1234 ms<", picture.PATH.read_text(), count=1)
    assert not picture.is_up_to_date(other)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150
    before, block = README.split("```python\n")[:2]
    assert before.count("\n") < 35
    assert len([line for line in block.split("```")[0].splitlines() if line.strip()]) <= 12


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "Makefile"])
def test_the_files_that_it_names_are_there(page):
    text = (ROOT / page).read_text()
    named = re.findall(r"[` ]((?:\w+/)*\w+\.py)\b", text)
    folders = ("tfcompress", "tests", "scripts", "benchmarks", "examples", "docs")
    there = [path.as_posix() for name in folders for path in (ROOT / name).rglob("*.py")]
    assert not [name for name in named if not any(path.endswith(f"/{name}") for path in there)]
    linked = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert not [link for link in linked if link and not ((ROOT / page).parent / link).exists()]


def test_the_reference_has_every_public_name():
    headings = re.findall(r"^      heading: (\w+)", PAGES["docs/api.md"], flags=re.MULTILINE)
    assert set(headings) == set(tfc.__all__)
    verbs = {name for name in tfc.__all__ if name[0].islower()} - {
        "allocation",
        "callbacks",
        "save",
        "load",
        "dequantize",
        "targets",
    }
    assert not [name for name in verbs if f"tfc.{name}(" not in PAGES["docs/verbs.md"]]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with what the pages take for granted: a model, arrays, images, and what `make demo` wrote."""
    folder = tmp_path_factory.mktemp("workshop")
    generator = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    y = generator.integers(0, 10, 384)
    x = generator.normal(0, 0.2, (384, 8, 8, 1)).astype("float32")
    x[np.arange(384), y // 8 * 4, y % 8] += 2
    np.savez(folder / "my.npz", x_train=x[:256], y_train=y[:256], x_test=x[256:], y_test=y[256:])
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="stem"),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="middle"),
            layers.Flatten(),
            layers.Dense(16, activation="relu", name="hidden"),
            layers.Dense(10, name="head"),
        ]
    )
    model.save(folder / "my.keras")
    for place, name in enumerate(("daisy", "rose", "tulip")):
        (folder / "flowers" / name).mkdir(parents=True)
        for number in range(16):
            pixels = generator.integers(0, 90, (32, 32, 3), dtype=np.uint8)
            pixels[..., place] += 120
            Image.fromarray(pixels).save(folder / "flowers" / name / f"{number}.png")
    data = digits()
    dense = default_model(data)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fit(dense, data, loss, epochs=1, batch_size=32, learning_rate=2e-3)
    (folder / "saved_models" / "digits").mkdir(parents=True)
    dense.save(folder / "saved_models" / "digits" / "dense.keras")
    return folder


def sooner(block: str) -> str:
    """Return a block that trains for two epochs in place of ten, silently; its schedule is as much shorter.

    A budget is searched in one format: the job on that page searches both.
    """
    block = block.replace('formats=("tflite", "onnx")', 'formats="onnx"')
    block = re.sub(r"(_step|frequency)=(\d+)", lambda found: f"{found[1]}={int(found[2]) // 10}", block)
    block = re.sub(r"frequency=0", "frequency=1", block)
    block = re.sub(r"epochs=10\b(?!, verbose)", "epochs=2, verbose=0", block)
    return re.sub(r"epochs=10\b|\b10(?= \* len)", lambda found: found[0].replace("10", "2"), block)


def command(line: str, done: list[dict]) -> None:
    """Do what a line of a shell does; of several devices and machines, and other backends, only read the flags.

    Args:
        line: The line.
        done: The flags of jobs that were done in this folder; those of this one are added.
    """
    line = re.sub(r"--max_seconds=\d+", "--max_seconds=3", line)
    words = shlex.split(re.sub(r"(--sweep=[\d.]+),[\d.,]+", r"\1", line), comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S+", words[0]):
        words.pop(0)
    if not words or words[:2] == ["pip", "install"]:
        return
    if words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
        return
    assert words[0] == "tfcompress", line
    name, *flags = words[1:]
    if any(flag.startswith("--distribution") for flag in flags):
        assert job_called(name).values()([name, *flags]) == [name]
        return
    if name != "--help":
        taken = job_called(name).values()
        said = {flag.partition("=")[0].removeprefix("--") for flag in flags}
        if name == "compress" and "model" in said:
            said |= {"epochs"}  # the model is trained
        if "max_drop" in said:
            said |= {"finetune_epochs", "qat_epochs"}  # the search says it
        if name == "compress" and "recipe" in said:
            said |= set(SHORT)  # it says them itself
        if name == "train" and "--data=flowers" in flags:
            flags += ["--image_size=16"]
        flags += [f"--{flag}={value}" for flag, value in SHORT.items() if flag in taken and flag not in said]
        taken([name, *flags])
        wanted = {"job": name, **taken.flag_values_dict()}
        if wanted in done:
            return
        done.append(wanted)
    assert code_of([name, *flags]) == 0, line


def run(page: str, done: list[dict]) -> dict:
    """Run all blocks of a page in their order, and return the names that its Python made.

    Args:
        page: Its path.
        done: As `command` has it.
    """
    text = PAGES[page]
    names: dict = {}
    if "index.md#the-lines-that-every-page-begins-with" in text:
        exec(PRELUDE, names)
    for block in BLOCK.finditer(text):
        kind, content = block.groups()
        if kind == "bash":
            for line in content.replace("\\\n", " ").splitlines():
                command(line, done)
        else:
            line = text[: block.start(2)].count("\n")
            exec(compile("\n" * line + sooner(content), page, "exec"), names)
    return names


def files_of(together: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Return what the main job makes: what it tells of itself, a file of the other format, and what the pages read.

    `tests/cli/test_scripts.py` makes all its files.
    """
    least = ("dense.tflite", "pruned.tflite", "pruned_int8.tflite", "pruned_int8.onnx")
    shown = "".join(block[2] for page in together for block in BLOCK.finditer(PAGES[page]))
    files = compress_job.FILES.items()
    return {name: made for name, made in files if name in least or name in shown}


def check_readme(names):
    assert pathlib.Path("my.tflite").exists()
    assert abs(tfc.sparsity(names["quantized"]) - 0.8) < 1e-3


def check_mixed_precision(names):
    assert names["mixed"].get_layer("hidden").innermost.compute_dtype == "bfloat16"
    assert {layer.compute_dtype for layer in names["final"].layers} == {"float32"}
    assert abs(tfc.sparsity(names["final"]) - 0.5) < 1e-2


def check_pruning(names):
    assert abs(tfc.sparsity(names["plain"]) - 0.8) < 1e-2
    small, thin, x = names["small"], names["thin"], names["x_test"]
    np.testing.assert_allclose(small.predict(x, verbose=0), thin.predict(x, verbose=0), rtol=0, atol=1e-4)
    assert total_multiply_adds(rebuild(small)) <= total_multiply_adds(rebuild(names["model"])) / 2


def check_devices(names):
    assert abs(tfc.sparsity(names["shared"]) - 0.8) < 1e-2


def check_android(names):
    """The Kotlin and the Java name the signature, the tensors and the sizes of the file that the page wrote."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter("classifier.tflite")
    ((key, tensors),) = interpreter.get_signature_list().items()
    assert tensors == {"inputs": ["image"], "outputs": ["scores"]}
    (image,), (scores,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert image["shape"].tolist() == [1, 96, 96, 3]
    classes = scores["shape"][1]
    text = PAGES["docs/android.md"]
    kotlin, java = (
        re.findall(rf"    ```{language}\n(.*?)    ```\n", text, flags=re.DOTALL)[0] for language in ("kotlin", "java")
    )
    assert f'mapOf<String, Any>("scores" to scores), "{key}")' in kotlin
    assert '"image" to arrayOf(image)' in kotlin
    assert f"Array(1) {{ FloatArray({classes}) }}" in kotlin
    assert f'Map.of("scores", scores), "{key}")' in java
    assert 'Map.of("image", new float[][][][] {image})' in java
    assert f"new float[1][{classes}]" in java
    for code in (kotlin, java):
        assert "96 x 96 pixels" in code
        assert '"classifier.tflite"' in code
    assert f'getOutputTensorFromSignature("scores", "{key}")' in text


def check_quickstart(names):
    assert total_multiply_adds(names["small"]) < total_multiply_adds(rebuild(names["model"]))
    page = pathlib.Path("flowers.html").read_text()
    assert all(name in page for name in ("daisy", "rose", "tulip"))


def check_micro(names):
    assert {str(info.dtype) for info in (*names["artifact"].inputs.values(), *names["artifact"].outputs.values())} == {
        "int8"
    }


CHECKS = {
    "README.md": check_readme,
    "docs/android.md": check_android,
    "docs/devices.md": check_devices,
    "docs/microcontrollers.md": check_micro,
    "docs/mixed_precision.md": check_mixed_precision,
    "docs/pruning.md": check_pruning,
    "docs/quickstart.md": check_quickstart,
}


@pytest.mark.filterwarnings("ignore:mixed_float16 is slow on a CPU")
@pytest.mark.filterwarnings("ignore:.shuffle=True. was passed")  # Keras says so of every data set of TensorFlow's
@pytest.mark.skipif(not ON_TENSORFLOW, reason="exports")
@pytest.mark.long
@pytest.mark.parametrize("together", RUN, ids=" and ".join)
def test_what_it_shows_runs(together, workshop, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "here"
    shutil.copytree(workshop, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(ladder, "RUNGS", 3)  # of a search, in place of 30
    monkeypatch.setattr(compress_job, "FILES", files_of(together))
    level = logging.getLogger("tensorflow").level
    done = []
    for page in together:
        names = run(page, done)
        logging.getLogger("tensorflow").setLevel(level)
        if page in CHECKS:
            CHECKS[page](names)
