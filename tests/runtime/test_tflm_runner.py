"""Files in TFLite Micro, in a process of its own."""

import os
import signal

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tests.export import models
from tests.once import once
from tfcompress.runtime import tflm_process, tflm_runner
from tfcompress.runtime.opening import open_runner
from tfcompress.runtime.runner import RuntimeRefusal
from tfcompress.runtime.tflm_worker import MOST, Worker

pytest.importorskip("tflite_micro")


X = np.random.default_rng(0).normal(size=(12, 8, 8, 3)).astype("float32")


@once
def quantized():
    layers = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.DepthwiseConv2D(3)]
    layers += [keras.layers.Conv2D(3, 4), keras.layers.Flatten(name="y")]
    return tfc.quantize(keras.Sequential([keras.Input((8, 8, 3), name="x"), *layers]), "int8", data=X)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tfc.export(quantized(), tmp_path_factory.mktemp("tflm") / "net.tflite", inference_io="int8").path


def test_it_computes_what_the_reference_kernels_compute(path):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    runner = open_runner(path, runtime="tflm")
    random = np.random.default_rng(1)
    x = random.integers(-128, 128, (10, 8, 8, 3)).astype("int8")
    litert = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    litert.allocate_tensors()
    expected = []
    for sample in x:
        litert.set_tensor(litert.get_input_details()[0]["index"], sample[None])
        litert.invoke()
        expected.append(litert.get_tensor(litert.get_output_details()[0]["index"])[0])
    np.testing.assert_array_equal(runner.predict(x), expected)
    assert runner.input_specs == open_runner(path).input_specs
    assert runner.output_specs == open_runner(path).output_specs


def test_names_of_several_inputs_and_outputs(tmp_path):
    model = models.randomise(models.two_in_two_out())
    path = tfc.export(model, tmp_path / "two.tflite", verify=False).path
    x = [np.random.default_rng(0).normal(size=(3, 6)), np.random.default_rng(1).normal(size=(3, 4))]
    found = open_runner(path, runtime="tflm").predict({"ant": x[1], "zebra": x[0]})
    for name, reference in zip(["yak", "bee"], model.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(found[name], reference, atol=1e-5)


def test_the_arena_is_exact(path, monkeypatch):
    arena = open_runner(path, runtime="tflm").arena()
    assert arena.total >= arena.activations + arena.persistent
    assert sum(arena.kinds.values()) <= arena.persistent
    for size, enough in ((arena.total, True), (arena.total - 1, False)):
        monkeypatch.setattr(tflm_runner, "ARENAS", (size,))
        if enough:
            open_runner(path, runtime="tflm").predict(X[:1].astype("int8"))
        else:
            with pytest.raises((RuntimeRefusal, MemoryError), match="Failed to allocate|process ended"):
                open_runner(path, runtime="tflm")


def test_more_memory_is_tried_before_a_file_is_refused(path, monkeypatch):
    monkeypatch.setattr(tflm_runner, "ARENAS", (2000, 2**20))
    assert open_runner(path, runtime="tflm").predict(X[:2].astype("int8")).shape == (2, 3)


def test_a_process_that_dies_is_an_error_of_the_file(path):
    runner = open_runner(path, runtime="tflm")
    os.kill(runner._process._process.pid, signal.SIGKILL)
    for how in ("SIGKILL", "its process has ended"):
        with pytest.raises(RuntimeRefusal, match=how):
            runner.predict(X[:1].astype("int8"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_an_answer_that_was_not_waited_for_is_not_that_of_the_next_run(path, monkeypatch, error):
    runner = open_runner(path, runtime="tflm")
    process = runner._process._process

    def interrupted(stream):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(tflm_process, "receive", interrupted)
        with pytest.raises((error, RuntimeRefusal)):
            runner.predict(X[:1].astype("int8"))
    assert process.poll() is not None
    with pytest.raises(RuntimeRefusal, match="its process has ended"):
        runner.predict(X[:1].astype("int8"))


def test_a_file_that_fits_nowhere_is_not_tried_for_ever(monkeypatch):
    tried = []
    worker = Worker()
    monkeypatch.setattr(worker, "_fits", lambda arena, arrays: tried.append(arena))
    with pytest.raises(MemoryError, match=r"2,147,483,632 bytes, the largest"):
        worker.least({"arena": 1000}, [])
    assert tried[-1] == MOST


def test_the_process_ends_with_the_runner(path):
    runner = open_runner(path, runtime="tflm")
    process = runner._process._process
    assert process.poll() is None
    del runner
    assert process.poll() is not None


def test_what_it_cannot_run_is_said(tmp_path):
    model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, activation="gelu")])
    path = tfc.export(model, tmp_path / "gelu.tflite", verify=False).path
    with pytest.raises(RuntimeRefusal, match=r"TFLite Micro can load.*GELU"):
        open_runner(path, runtime="tflm")
    free = tfc.export(model, tmp_path / "free.tflite", batch_size=None, verify=False).path
    with pytest.raises(RuntimeRefusal, match=r"fixed sizes.*'x' has free ones. Export with batch_size=1"):
        open_runner(free, runtime="tflm")
    with pytest.raises(ValueError, match=r"a .tflite file for runtime 'tflm'. Received: .*net.onnx"):
        open_runner(tmp_path / "net.onnx", runtime="tflm")
    with pytest.raises(ValueError, match="'litert', 'onnxruntime', 'tflm'"):
        open_runner(path, runtime="tflite")


def test_how_it_is_installed_is_said(path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'tfcompress\[mcu\]'"):
        open_runner(path, runtime="tflm")


def test_the_verbs_take_it(path):
    y = np.arange(12) % 3
    metrics = tfc.evaluate(path, X, y, runtime="tflm")
    assert metrics.samples == 12
    assert tfc.verify(quantized(), path, X, runtime="tflm")["y"].max_steps <= 3
    timing = tfc.benchmark(path, runs=3, warmup=1, runtime="tflm")
    assert timing.runtime.startswith("TFLite Micro 0.")
    assert timing.threads == 1


def test_files_beside_each_other_with_their_arenas(path):
    y, runtimes = np.arange(12) % 3, {"micro": "tflm"}
    files = {"LiteRT": path, "micro": path}
    report = tfc.compare(files, X, y, runtime=runtimes, latency=False, ram=10_000, flash=1_000)
    footprint = report["micro"].footprint
    assert report["LiteRT"].footprint is None
    assert footprint.arena.total == tfc.footprint(path).arena.total <= 10_000
    assert footprint.too_much == {"flash": path.stat().st_size - 1_000}
    assert "arena kB" in report.table(200)
    assert "bytes of flash too large" in str(report)
    assert report.to_dict()["candidates"][1]["footprint"]["operators"]["CONV_2D"] == 2
    with pytest.raises(ValueError, match="or runtime='tflm'"):
        tfc.compare(files, X, y, ram=10_000)
    with pytest.raises(ValueError, match="Did you mean 'micro'"):
        tfc.compare(files, X, y, runtime={"mikro": "tflm"})
