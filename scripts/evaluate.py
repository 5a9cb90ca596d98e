"""python scripts/evaluate.py --flags: the same as `tfcompress evaluate --flags`."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv[:1] = ["tfcompress", "evaluate"]
    runpy.run_module("tfcompress", run_name="__main__")
