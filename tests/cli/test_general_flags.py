"""The flags that all jobs have: what would be done, the result as JSON, how much is said; names that are wrong."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.cli.conftest import ROOT
from tfcompress.cli.flags import (
    FLAGS,
    budget_flags,
    clustering_flags,
    machine_flags,
    measuring_flags,
    pruning_flags,
    quantization_flags,
    search_flags,
    training_flags,
)
from tfcompress.cli.jobs import every_job
from tfcompress.pipeline.distribution import KINDS
from tfcompress.precision.policies import AUTO, POLICIES
from tfcompress.pruning.criteria import CRITERIA
from tfcompress.pruning.prune_config import SCOPES
from tfcompress.quantization.ptq.rounding_methods import METHODS
from tfcompress.quantization.quantize_config import ACTIVATION_RANGES, RECIPES
from tfcompress.quantization.weights.levels import LEVELS
from tfcompress.quantization.weights.starts import STARTS
from tfcompress.search.candidates import FORMATS, MINIMIZE
from tfcompress.search.pareto import OBJECTIVES
from tfcompress.targets.target import RUNTIMES


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with a model, data and configs."""
    folder = tmp_path_factory.mktemp("workshop")
    x, y = np.random.default_rng(0).normal(size=(40, 4)).astype("float32"), np.arange(40) % 2
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    layers = [keras.Input((4,), name="x"), L.Dense(4, name="hidden"), L.Dense(2, name="logits")]
    keras.Sequential(layers, name="small").save(folder / "model.keras")
    (folder / "prune.yaml").write_text("hidden: 0.5\n")
    (folder / "cluster.yaml").write_text("hidden: {number_of_clusters: 3, init: linear}\nlogits: 4\n")
    (folder / "quantize.json").write_text('{"logits": null, ".*": {"weights": {"bits": 4}}}')
    (folder / "precision.yaml").write_text(".*: mixed_bfloat16\n")
    parts = "prune: {hidden: 0.5}\ncluster: {hidden: 3}\nquantize: {logits: null, '.*': {weights: {bits: 4}}}\n"
    (folder / "all.yaml").write_text(parts)
    steps = "[{step: quantize, config: {choice: [int8, int8_weights]}}, {step: export, files: [a.onnx]}]"
    (folder / "space.yaml").write_text(f"name: space\nsteps: {steps}\n")
    steps = "[{step: prune, config: 0.5}, {step: finetune}, {step: quantize}, {step: export, files: [a.onnx]}]"
    (folder / "recipe.yaml").write_text(f"name: mine\nsteps: {steps}\n")
    return folder


RUNS = [
    ("train", ["--output=o.keras", "--config=precision.yaml"], "hidden  Dense  bfloat16", ["o.keras"]),
    ("prune", ["--output=o.keras", "--config=prune.yaml"], "hidden  Dense  4x4      50% zeros  pruned", ["o.keras"]),
    ("cluster", ["--output=o.keras", "--config=cluster.yaml"], "4x4      3 values  clustered", ["o.keras"]),
    ("prune", ["--output=o.json", "--sweep=0.5"], "each of 0.5", ["o.json", "o.png", "o.html"]),
    ("quantize", ["--output=o.keras", "--outputs=o.onnx", "--config=quantize.json", "--html=o.html"],
     "int4 per channel", ["o.keras", "o.onnx", "o.html"]),
    ("convert", ["--outputs=o.tflite"], "logits  Dense  float", ["o.tflite"]),
    ("evaluate", ["--models=model.keras", "--markdown=o.md"], "Would evaluate 1 model", ["o.md"]),
    ("benchmark", ["--models=model.keras"], "Would time 1 model", []),
    ("sensitivity", ["--output=o.json", "--bits=4,8"], "accuracy on data 5 times", ["o.json", "o.png", "o.html"]),
    ("search", ["--output_dir=.", "--name=o", "--recipe=space.yaml"], "Would try 2 of 2 recipes of space on data",
     ["o/report.html"]),
    ("compress", ["--output_dir=.", "--name=o"], "80% zeros, int8", ["o/dense.keras", "o/report.md", "o/report.html"]),
    ("compress", ["--output_dir=.", "--name=o", "--config=all.yaml"], "50% zeros, 3 values, int8x4",
     ["o/pruned_int8.onnx"]),
    ("compress", ["--output_dir=.", "--name=o", "--recipe=recipe.yaml"], "by the recipe mine, in these 4 steps",
     ["o/a.onnx"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "flags", "text", "files"), RUNS)
def test_a_dry_run_says_what_would_be_done(name, flags, text, files, workshop, script):
    data = [] if name == "benchmark" else ["--data=data.npz"]
    model = [] if "models" in flags[0] else ["--model=model.keras"]
    before = sorted(path.name for path in workshop.iterdir())
    done = script(name, *model, *data, *flags, "--dry_run", cwd=workshop)
    assert text in done.stdout
    assert all(f"Would write {file}." in done.stdout for file in files)
    assert done.stderr == ""
    assert sorted(path.name for path in workshop.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("prune", ["--output=o.keras", "--config=none.yaml"]),
        ("prune", ["--output=o.keras", "--config=quantize.json"]),
        ("cluster", ["--output=o.keras", "--number_of_clusters=17"]),
        ("cluster", ["--output=o.keras", "--config=prune.yaml"]),
        ("quantize", ["--output=o.keras", "--outputs=none/o.onnx"]),
        ("convert", ["--outputs=model.onnx", "--data=prune.yaml"]),
        ("search", ["--name=o", "--recipe=recipe.yaml"]),
        ("compress", ["--name=o", "--layers=none"]),
        ("compress", ["--name=o", "--config=prune.yaml"]),
    ],
)
def test_a_dry_run_finds_what_is_wrong(name, flags, workshop, script):
    flags = ["--model=model.keras", "--data=data.npz", *flags, "--dry_run"]
    assert script(name, *flags, code=1, cwd=workshop).stderr.startswith("error: ")


def test_what_another_run_left_is_refused_by_a_dry_run_too(workshop, script, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "recipe.yaml").write_text("")
    flags = ["--model=model.keras", "--data=data.npz", "--recipe=recipe.yaml", f"--output_dir={tmp_path}", "--name=o"]
    for other in ([], ["--dry_run"]):
        said = script("compress", *flags, *other, code=1, cwd=workshop).stderr
        assert said.startswith("error: Expected a folder without recipe.yaml.")
        assert said.endswith("Pass --overwrite, or another --name.\n")
    replaced = script("compress", *flags, "--overwrite", "--dry_run", cwd=workshop).stdout
    assert f"Would write {tmp_path / 'o' / 'recipe.yaml'} (replacing what is there)." in replaced


def test_recipes_that_have_a_name_are_listed(script):
    lines = script("compress", "--recipe=help").stdout.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(tfc.Recipe.library())


def test_configs_of_a_file_are_those_of_layers(workshop, tmp_path, script):
    output = tmp_path / "o.keras"
    flags = ["--model=model.keras", "--data=data.npz", f"--output={output}", "--finetune_epochs=4"]
    done = script("prune", *flags, "--config=prune.yaml", "--json=-", cwd=workshop)
    result = json.loads(done.stdout)
    hidden, logits = (keras.saving.load_model(output).get_layer(name).kernel for name in ("hidden", "logits"))
    assert (np.mean(hidden == 0), np.mean(logits == 0)) == (0.5, 0)
    assert result["sparsity"] == pytest.approx(8 / 24)
    assert result["files"] == [{"path": str(output), "bytes": output.stat().st_size}]
    assert (result["job"], result["seed"]) == ("prune", 0)
    given = sorted([*flags, "--config=prune.yaml", "--json=-"])
    assert shlex.split(result["command"]) == ["tfcompress", "prune", *given]
    assert result["versions"]["keras"] == keras.__version__
    assert 0 <= result["metrics"]["accuracy"] <= 1
    lines = done.stderr.splitlines()
    assert sum(line.startswith("prune and fine-tune: epoch ") and " accuracy " in line for line in lines) == 4
    assert sum("seed 0" in line and f"keras {keras.__version__}" in line for line in lines) == 1


def test_the_result_is_in_a_file_and_nothing_is_said(workshop, tmp_path, script):
    output = tmp_path / "result.json"
    flags = ["--models=model.keras", "--runs=3", "--batch_size=5", f"--json={output}"]
    done = script("benchmark", *flags, "--verbosity=quiet", cwd=workshop)
    assert (done.stdout, done.stderr) == ("", "")
    (timing,) = json.loads(output.read_text())["timings"]
    assert (timing["runs"], timing["batch_size"], timing["model"]) == (3, 5, "model.keras")
    assert timing["median_ms"] <= timing["p95_ms"]
    assert "which is there" in script("benchmark", *flags, code=1, cwd=workshop).stderr


def test_files_for_a_target_are_judged_as_it_runs_them(workshop, tmp_path, script):
    pytest.importorskip("tflite_micro")
    file = tmp_path / "small.tflite"
    tfc.export(keras.saving.load_model(workshop / "model.keras"), file, verify=False)
    flags = [f"--models={file}", "--target=microcontroller"]
    done = script("evaluate", *flags, "--ram=100", "--data=data.npz", "--json=-", cwd=workshop)
    (one,) = json.loads(done.stdout)["candidates"]
    assert one["footprint"]["too_much"]["RAM"] == one["footprint"]["arena"]["total"] - 100
    for other in ([], ["--dry_run"]):
        more = ["--data=data.npz", "--ram=100", *other]
        refused = script("evaluate", flags[0], *more, code=1, cwd=workshop).stderr
        assert "Expected a file for a microcontroller, beside ram= and flash=" in refused
    npu = tfc.targets.get("microcontroller").replace(name="mine", accelerator="ethos-u55-100")
    more = ["--data=data.npz", f"--target={npu.save(tmp_path / 'mine.yaml')}", "--dry_run"]
    assert "Received: 'ethos-u55-100'" in script("evaluate", flags[0], *more, code=1, cwd=workshop).stderr
    done = script("benchmark", *flags, "--runs=2", "--dry_run", cwd=workshop)
    assert "TFLite Micro" in done.stdout
    refused = script("benchmark", *flags, "--runtime=litert", "--dry_run", code=1, cwd=workshop).stderr
    assert "Received: runtime='litert' and target='microcontroller'" in refused


def test_flags_in_a_file(workshop, tmp_path, script):
    (tmp_path / "flags").write_text("--models=model.keras\n--runs=3\n--batch_size=7\n")
    assert " 7 " in script("benchmark", f"--flagfile={tmp_path / 'flags'}", cwd=workshop).stdout


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([], "Expected a job: benchmark, cluster, compress, "),
        (["prun"], "Did you mean prune?"),
        (["Quantise"], "Did you mean quantize?"),
        (["prune", "--sparsty=0.5"], "Did you mean --sparsity?"),
        (["prune", "--noshrnk"], "Did you mean --noshrink?"),
        (["cluster", "--epochs=3"], "Received: --epochs. Did you mean --finetune_epochs?"),
        (["prune", "--name=a"], "Received: --name.\n"),
        (["inspect", "a.onnx", "--json=-"], "Received: a.onnx. Did you mean --model=a.onnx?"),
        (["benchmark", "--models", "a", "b", "--runs=1"], "Received: b. Did you mean --models=a,b?"),
        (["evaluate", "--models=a", "b"], "Received: b. Did you mean --models=a,b?"),
        (["inspect", "--model=a", "b"], "Received: b.\n"),
        (["convert", "--model=a", "--outputs=b", "--precision=int8"], "with `tfcompress quantize`"),
        (["convert", "--model=q.tflite", "--outputs=o.onnx"], "Received: q.tflite, which is a .tflite file already"),
        (
            ["compress", "--recipe=int8", "--sparsity=0.5"],
            "Expected no --sparsity with --recipe, which says it",
        ),
        (["compress", "--model=a", "--data=b", "--epochs=4"], "Received: --epochs=4. Pass --finetune_epochs for"),
        (["prune", "--recipe=int8"], "Expected a flag of `tfcompress prune`. Received: --recipe."),
        (["train", "--output=o.keras", "-v=loud"], "quiet|normal|debug"),
        (["train"], "Expected --output=FILE, which `tfcompress train` needs. Received: none."),
        (["prune", "--criterion=taylor"], "Received: --criterion=taylor. Did you mean 'gradient'?"),
        (
            ["prune", "--scope=local"],
            "layer|global|flops|bytes. Received: --scope=local. Did you mean 'layer'?",
        ),
        (["quantize", "--recipe=INT8"], "Received: --recipe=INT8. Did you mean 'int8'?"),
        (["prune", "--sparsity=80%"], "a share of zeros in [0, 1), such as 0.8 for 80 %. Received: --sparsity=80%."),
        (["prune", "--epochs=0"], "Received: --epochs."),
        (["train", "--epochs=0"], "--epochs=N, a whole number from 1 to 1,000,000. Received: --epochs=0."),
        (["train", "--learning_rate=fast"], "Expected --learning_rate above 0. Received: --learning_rate=fast."),
        (["train", "--overwrite=maybe"], "Expected --[no]overwrite. Received: --overwrite=maybe."),
        (["train", "--flagfile=none"], "Expected a --flagfile that can be read. Received: [Errno 2]"),
        (["prune", "--layers=a,,b"], "Expected --layers=NAME,NAME, each once. Received: --layers=a,,b."),
    ],
)
def test_the_nearest_name_is_suggested(command, message, script):
    assert message in script(*command, code=2).stderr


def test_where_an_error_came_from(workshop, script):
    flags = ["--model=none.keras", "--outputs=o.onnx"]
    assert "Traceback" not in script("convert", *flags, code=1, cwd=workshop).stderr
    said = script("convert", *flags, "-v=debug", code=1, cwd=workshop).stderr
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("error: ")


def test_a_reader_that_has_seen_enough():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "tfcompress", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_version(script):
    assert script("--version").stdout == f"{sys.modules['tfcompress'].__version__}\n"


def test_flags_know_what_the_package_knows():
    assert tuple(RECIPES) == quantization_flags.RECIPES
    assert set(quantization_flags.RANGES) == set(ACTIVATION_RANGES)
    assert set(quantization_flags.ROUNDINGS) == {"nearest", *METHODS}
    assert tuple(CRITERIA) == pruning_flags.CRITERIA
    assert pruning_flags.SCOPES == SCOPES
    assert tuple(STARTS) == clustering_flags.INITS
    assert ("free", *LEVELS) == clustering_flags.CODEBOOKS
    assert set(training_flags.POLICIES) == {*POLICIES, AUTO}
    assert machine_flags.KINDS == KINDS
    assert set(measuring_flags.RUNTIMES) == set(RUNTIMES)
    assert (budget_flags.MINIMIZE, budget_flags.FORMATS) == (MINIMIZE, FORMATS)
    assert search_flags.OBJECTIVES == OBJECTIVES


def test_every_flag_is_of_a_job():
    used = {name for job in every_job().values() for name in job.names()}
    assert used == FLAGS.keys()
