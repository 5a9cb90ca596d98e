"""python scripts/benchmark.py --flags: the same as `tfcompress benchmark --flags`."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv[:1] = ["tfcompress", "benchmark"]
    runpy.run_module("tfcompress", run_name="__main__")
