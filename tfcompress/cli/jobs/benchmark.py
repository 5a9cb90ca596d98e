"""The time that models take."""

from __future__ import annotations

import pathlib

from absl.flags import FlagValues

from tfcompress.cli.job import Job, Result


def benchmark(values: FlagValues) -> Result:
    """Time models on random inputs."""
    import tfcompress as tfc
    from tfcompress.cli.training_progress import stage

    found = []
    for path in values.models:
        with stage(f"time {pathlib.Path(path).name}"):
            timing = tfc.benchmark(path, threads=values.threads, runs=values.runs, batch_size=values.batch_size)
        print(f"{pathlib.Path(path).name}: {timing}")
        found.append({"model": path, **timing.to_dict()})
    return {"timings": found}


JOB = Job(
    does="Times models on random inputs, after a warm-up: median, 95th percentile and spread.",
    example="--models=my.tflite,my.onnx --threads=2 --batch_size=8",
    more="A .keras model is run by Keras, a .tflite file by LiteRT, an .onnx file by ONNX Runtime.",
    run=benchmark,
    flags=("models", "overwrite", "threads", "timed_batch_size", "runs"),
    required=("models",),
)
