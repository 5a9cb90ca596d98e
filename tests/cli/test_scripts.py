"""The programs, run as a user runs them."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tests.cli import small_job
from tfcompress.cli.jobs import job_names
from tfcompress.recipes.compress_job import FILES, MODELS

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with a trained model and its data."""
    return small_job.make(tmp_path_factory.mktemp("workshop"))


@pytest.mark.long
def test_the_main_job_on_a_model_and_data_of_the_users_own(workshop, script):
    flags = [
        f"--model={workshop / 'model.keras'}", f"--data={workshop / 'data.npz'}", f"--output_dir={workshop / 'out'}",
        "--sparsity=0.75", "--finetune_epochs=8", "--qat_epochs=2",
    ]  # fmt: skip
    done = script("compress", *flags)
    folder = workshop / "out" / "model"
    for name in (*MODELS, *FILES):
        assert name in done.stdout
        assert (folder / name).exists()
    assert done.stderr == ""
    assert "\x1b[" not in done.stdout
    report = json.loads((folder / "report.json").read_text())
    page = (folder / "report.html").read_text()
    assert "<html" in page and "tfcompress compress --" in page and "PolynomialSparsity(" in page
    assert len(report["candidates"]) == 10
    pruned = tfc.load(folder / "pruned.keras")
    assert tfc.sparsity(pruned) == 0.75
    with np.load(workshop / "data.npz") as data:
        for name in ("pruned.onnx", "pruned_int8.tflite", "pruned_int8.onnx"):
            assert tfc.evaluate(folder / name, data["x_test"], data["y_test"]).accuracy > 0.95, name
    # It was trained quantized, and what was zero is zero.
    quantized = tfc.strip(tfc.load(folder / "quantized.keras"))
    for old, new in zip(pruned.get_weights()[::2], quantized.get_weights()[::2], strict=True):
        assert np.all(new[old == 0] == 0)
        assert not np.allclose(new, old, rtol=0, atol=np.abs(old).max() / 254)
    # A second time: refused before anything is done, and nothing is touched.
    before = (folder / "pruned.onnx").stat().st_mtime_ns
    assert "Pass --overwrite, or another --name." in script("compress", *flags, code=1).stderr
    assert (folder / "pruned.onnx").stat().st_mtime_ns == before


def test_channels_are_pruned_and_taken_out(workshop, script):
    output = workshop / "fewer.keras"
    done = script(
        "prune", f"--model={workshop / 'model.keras'}", f"--data={workshop / 'data.npz'}", f"--output={output}",
        "--granularity=channel", "--criterion=gradient", "--sparsity=0.5", "--finetune_epochs=4",
    )  # fmt: skip
    assert done.stderr == ""
    assert "dense" in done.stdout
    small = tfc.load(output)
    assert [layer.units for layer in small.layers if isinstance(layer, L.Dense)] == [16, 3]


@pytest.mark.long
def test_the_parts_one_after_the_other(workshop, script):
    model, data = workshop / "trained.keras", f"--data={workshop / 'data.npz'}"
    done = script("train", data, f"--output={model}", "--epochs=3", "--precision=mixed_bfloat16")
    assert "accuracy" in done.stdout
    assert {layer.compute_dtype for layer in tfc.load(model).layers} == {"float32"}
    pruned = workshop / "pruned.keras"
    done = script(
        "prune", f"--model={model}", data, f"--output={pruned}", "--sparsity=0.5", "--scope=global",
        "--finetune_epochs=10",
    )  # fmt: skip
    assert "kernels 50.0% zero" in done.stdout
    files = [str(workshop / name) for name in ("small.tflite", "small.onnx")]
    done = script(
        "convert", f"--model={pruned}", data, f"--outputs={','.join(files)}", "--precision=float16", "--sparse",
        "--external_data",
    )  # fmt: skip
    assert "float16" in done.stdout
    assert (workshop / "small.onnx.data").exists()
    assert done.stdout.count("samples of the data given") == 2
    assert done.stdout.count("sparse: ") >= 2
    assert "ONNX Runtime has no kernels for sparse weights" in done.stdout
    assert "differs from Keras by at most" in done.stdout
    page = workshop / "report.html"
    integers = [str(workshop / name) for name in ("int8.tflite", "int8.onnx")]
    quantized = workshop / "quantized.keras"
    done = script(
        "quantize", f"--model={pruned}", data, f"--output={quantized}", f"--outputs={','.join(integers)}",
        "--qat_epochs=2", "--freeze_ranges_epoch=1", "--range=mse", "--calibration_samples=100",
    )  # fmt: skip
    assert done.stderr == ""
    for row in ("int8 per channel", "float", "quantized", "int8.tflite", "int8.onnx"):
        assert row in done.stdout
    assert done.stdout.count("differs from Keras by at most") == 2
    assert tfc.sparsity(tfc.load(quantized)) >= 0.5
    again = workshop / "again.tflite"
    script("convert", f"--model={quantized}", f"--outputs={again}", "--inference_io=int8", "--require_integer")
    assert tfc.Artifact.open(again).inputs["input"].dtype == "int8"
    files += [*integers, str(again)]
    done = script("evaluate", f"--models={pruned},{','.join(files)}", data, f"--html={page}")
    assert "small.tflite" in done.stdout
    assert page.exists()
    done = script("benchmark", f"--models={files[0]}")
    assert "ms" in done.stdout


def test_a_sweep_of_sparsities(workshop, tmp_path, script):
    flags = [f"--model={workshop / 'model.keras'}", f"--data={workshop / 'data.npz'}", "--finetune_epochs=1"]
    output = tmp_path / "sweep.json"
    done = script("prune", *flags, "--sweep=0.5,0.9", f"--output={output}")
    assert done.stderr == ""
    for text in ("as given", "50 %", "90 %", "train accuracy", "test accuracy", "sweep.png"):
        assert text in done.stdout
    assert [row["target"] for row in json.loads(output.read_text())["rows"]] == [None, 0.0, 0.5, 0.9]
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "sweep.html").read_text()
    assert "tfcompress prune --data=" in page and "90 % zeros." in page


def test_training_on_all_devices_that_are_there(workshop, script):
    """One, here; `tests/test_new_process.py` has a job on two."""
    flags = [f"--model={workshop / 'model.keras'}", f"--data={workshop / 'data.npz'}", "--distribution=mirrored"]
    quantized = workshop / "mirrored_int8.keras"
    done = script("quantize", *flags, f"--output={quantized}", "--qat_epochs=1")
    assert "Trained on 1 device." in done.stdout
    assert int(tfc.load(quantized).optimizer.iterations) == 180 // 32


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("train", ["--epochs=2", "--distribution=data_parallel"]),
        pytest.param(
            *("prune", ["--finetune_epochs=2", "--sparsity=0.5", "--distribution=model_parallel", "--devices=2"]),
            marks=pytest.mark.rare,  # weights in parts of two processes, of which tests/test_distribution.py tells more
        ),
    ],
)
def test_training_in_two_processes(workshop, name, flags):
    pytest.importorskip("jax")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"--job_addresses=127.0.0.1:{found.getsockname()[1]}"
    flags = [f"--model={workshop / 'model.keras'}", f"--data={workshop / 'data.npz'}", "--num_processes=2", *flags]
    # The second writes nothing, and needs no folder for it.
    outputs = [workshop / f"{name}_0.keras", workshop / "nowhere" / f"{name}_1.keras"]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tfcompress", name, *flags, address, f"--output={output}",
             f"--process_id={process}"],
            # Compiling is most of what it takes.
            env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for process, output in enumerate(outputs)
    ]  # fmt: skip
    try:
        printed = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], printed
    assert ["accuracy" in stdout for stdout, _ in printed] == [True, False]
    assert f"Trained on {2 if name == 'train' else 4} devices in 2 processes." in printed[0][0]
    assert [output.exists() for output in outputs] == [True, False]
    model = tfc.load(outputs[0])
    if name == "prune":
        assert tfc.sparsity(model) == 0.5
        with np.load(workshop / "data.npz") as data:
            assert tfc.evaluate(model, data["x_test"], data["y_test"]).accuracy > 0.95
        return
    for new, one in zip(model.get_weights(), small_job.one_device(workshop, epochs=2).get_weights(), strict=True):
        np.testing.assert_allclose(new, one, rtol=0, atol=1e-4)
    assert int(model.optimizer.iterations) == 2 * (180 // 32)
    momenta = [variable for variable in model.optimizer.variables if "momentum" in variable.path]
    assert momenta
    assert all(np.any(momentum.numpy()) for momentum in momenta)


@pytest.mark.on_jax
@pytest.mark.skipif(ON_TENSORFLOW, reason="TensorFlow trains in one process")
def test_a_process_says_what_is_missing_before_it_waits_for_others(workshop, script):
    model, output = workshop / "model.keras", workshop / "new.keras"
    flags = [
        f"--data={workshop / 'data.npz'}", "--distribution=data_parallel", "--job_addresses=127.0.0.1:9",
        "--num_processes=2", "--process_id=0",
    ]  # fmt: skip
    for given, message in [
        ([f"--model={model}", f"--output={model}"], "--overwrite"),
        ([f"--model={workshop / 'none.keras'}", f"--output={output}"], "isn't there"),
    ]:
        assert message in script("train", *given, *flags, code=1).stderr


def test_each_script_is_a_job():
    scripts = {path.stem: path.read_text() for path in (ROOT / "scripts").glob("*.py")}
    assert scripts and scripts.keys() <= set(job_names())
    for name, text in scripts.items():
        assert f'["tfcompress", "{name}"]' in text


@pytest.mark.parametrize("name", ["", *job_names()])
def test_help_says_what_is_done_and_gives_an_example(name, script):
    done = script(*filter(None, [name]), "--help")
    says, example = done.stdout.split("\n\n")[:2]
    assert says.endswith(".")
    assert example.startswith(f"  tfcompress {name or 'compress'} --")
    assert done.stderr == ""
    assert all(len(line) <= 100 for line in done.stdout.splitlines() if " --" not in line)


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("prune", ["--sparsity=1.5", "--model=m.keras", "--output=o.keras"], "[0, 1)"),
        ("prune", ["--model=m.keras", "--output=o.h5"], "ends in .keras"),
        ("prune", ["--model=m.keras", "--output=o.json", "--sweep=0.5,1"], "[0, 1)"),
        ("prune", ["--model=m.keras", "--output=o.json", "--sweep=0.5", "--sparsity=0.5"], "Received: both"),
        ("convert", ["--model=m.keras", "--outputs=o.pb"], "ends in .tflite or .onnx"),
        ("convert", ["--model=m.keras", "--outputs=o.tflite", "--external_data"], "without a .onnx file"),
        ("convert", ["--model=m.keras", "--outputs=o.onnx", "--sparse"], "without a .tflite file"),
        ("quantize", ["--model=m.keras", "--output=o.keras", "--inference_io=int8"], "--outputs"),
        ("train", ["spare", "--output=o.keras"], "spare"),
        ("train", ["--precision=float16", "--output=o.keras"], "mixed_float16"),
        ("train", ["--output=o.keras", "--distribution=multi_worker_mirrored"], "keras/issues/20585"),
        ("train", ["--output=o.keras", "--distribution=data_parallel"], "KERAS_BACKEND=jax"),
    ],
)
def test_wrong_use_is_exit_code_2(name, flags, message, tmp_path, script):
    assert message in script(name, *flags, code=2, cwd=tmp_path).stderr
    assert not list(tmp_path.iterdir())


def test_failures_are_exit_code_1_and_one_message(workshop, tmp_path, script):
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, x_train=np.zeros((4, 5), "float32"), y_train=np.zeros(4, int), x_test=np.zeros((4, 5)), y_test=[0])
    model = f"--model={workshop / 'model.keras'}"
    for name, flags, message in [
        ("compress", [f"--data={wrong}"], "as many targets as inputs"),
        ("prune", ["--model=none.keras", f"--output={tmp_path / 'o.keras'}"], "none.keras"),
        ("convert", [model, f"--outputs={tmp_path / 'no' / 'o.onnx'}"], "folder that is there"),
        ("prune", [model, f"--data={workshop / 'data.npz'}", "--layers=dens", f"--output={tmp_path / 'o.keras'}"],
         "Did you mean"),
    ]:  # fmt: skip
        done = script(name, *flags, code=1, cwd=tmp_path)
        assert message in done.stderr
        assert done.stderr.startswith("error:")
        assert done.stderr.count("error:") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.npz"]
