"""Time and peak memory of export, beside the bare converters': MobileNetV2 at 224, to TFLite and ONNX.

    python -m benchmarks.export [--rounds=5]

Every measurement is a process of its own (building the model is not timed, but is in its peak memory),
and the rounds are interleaved, so that a busy machine hits all ways alike.
"""

import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.harness import save, show

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
ROOT = pathlib.Path(__file__).resolve().parent.parent
ROUNDS = 5


def tfc(suffix, verify):
    def run(model, folder):
        from tfcompress.export import export

        return export(model, folder / f"model{suffix}", verify=verify).path

    return run


def bare_tflite(model, folder):
    import tensorflow as tf

    path = folder / "model.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return path


def bare_onnx(model, folder):
    model.export(folder / "model.onnx", format="onnx", verbose=False)
    return folder / "model.onnx"


def command_onnx(model, folder):
    """The way tf2onnx documents: a SavedModel, and its command line program."""
    model.export(folder / "saved", format="tf_saved_model", verbose=False)
    path = folder / "model.onnx"
    command = ["--saved-model", folder / "saved", "--output", path, "--opset", "18"]
    subprocess.run([sys.executable, "-m", "tf2onnx.convert", *command], check=True, capture_output=True)
    return path


WAYS = {
    "tflite": {
        "tfcompress, verify=False": tfc(".tflite", False),
        "tfcompress, verify=True": tfc(".tflite", True),
        "TFLiteConverter.from_keras_model": bare_tflite,
    },
    "onnx": {
        "tfcompress, verify=False": tfc(".onnx", False),
        "tfcompress, verify=True": tfc(".onnx", True),
        "model.export(format='onnx')": bare_onnx,
        "SavedModel + tf2onnx command": command_onnx,
    },
}
BARE = {"tflite": "TFLiteConverter.from_keras_model", "onnx": "model.export(format='onnx')"}


def peak_mb():
    """The most this process, or the largest of its children, ever held."""
    of_all = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(of_all) / 1024


def measure(kind, way):
    """In a process of its own: build, export once, print the figures as one line of JSON."""
    sys.path.insert(0, str(ROOT))
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2((224, 224, 3), weights=None)
    model(keras.ops.zeros((1, 224, 224, 3)))  # Keras' own ONNX export wants a model that was called
    before = peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = WAYS[kind][way](model, pathlib.Path(folder))
        seconds = time.perf_counter() - start
        size = path.stat().st_size
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(), "before_mb": before, "bytes": size}))


def run(rounds):
    from rich.progress import track

    ways = [(kind, way) for kind, of_kind in WAYS.items() for way in of_kind]
    samples = {pair: [] for pair in ways}
    for _ in track(range(rounds), "rounds", disable=not sys.stderr.isatty()):
        for kind, way in ways:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.export", "--measure", kind, way],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(f"{kind}, {way} failed:\n{done.stderr[-3000:]}")
            samples[kind, way].append(json.loads(done.stdout.splitlines()[-1]))
    return samples


def summarize(samples):
    rows = []
    for (kind, way), taken in samples.items():
        seconds = [sample["seconds"] for sample in taken]
        peaks = [sample["peak_mb"] for sample in taken]
        bare = samples[kind, BARE[kind]]
        bare_seconds = statistics.median(sample["seconds"] for sample in bare)
        bare_peak = statistics.median(sample["peak_mb"] for sample in bare)
        rows.append(
            {
                "format": kind,
                "way": way,
                "seconds": f"{statistics.median(seconds):.2f}",
                "least to most": f"{min(seconds):.2f} to {max(seconds):.2f}",
                "time ratio": f"{statistics.median(seconds) / bare_seconds:.2f}",
                "peak MB": f"{statistics.median(peaks):.0f}",
                "memory ratio": f"{statistics.median(peaks) / bare_peak:.2f}",
                "file MB": f"{taken[0]['bytes'] / 1e6:.2f}",
            }
        )
    return rows


def main():
    if sys.argv[1:2] == ["--measure"]:
        return measure(*sys.argv[2:4])
    rounds = int(sys.argv[1].removeprefix("--rounds=")) if len(sys.argv) > 1 else ROUNDS
    rows = summarize(run(rounds))
    show("Export of MobileNetV2 at 224", rows)
    save("export", rows, command=f"python -m benchmarks.export --rounds={rounds}")


if __name__ == "__main__":
    main()
