"""python -m benchmarks.digits

The main job on scikit-learn's digits, as `make demo` runs it; writes its table to benchmarks/results/digits.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tempfile

import keras

from benchmarks.harness import save, show
from tfcompress.pipeline import compress_job, digits


def main() -> None:
    """Do the job in a temporary folder and keep the table."""
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        report = compress_job(digits(), folder)
    rows = [dict(zip(report.headings(), row, strict=True)) for row in report.rows()]
    show("digits", rows)
    save("digits", rows, command="make demo")


if __name__ == "__main__":
    main()
