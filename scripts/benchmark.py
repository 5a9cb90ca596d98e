"""python scripts/benchmark.py --models=my.tflite,my.onnx --threads=2

Times models on random inputs at batch 1: the median latency and its spread, after a warm-up.
"""

import _environment  # noqa: F401

from tfcompress.cli import app, flags
from tfcompress.cli.jobs.benchmark import benchmark

flags.define("models", "threads")
flags.require("models")

if __name__ == "__main__":
    app.run(benchmark, __doc__)
