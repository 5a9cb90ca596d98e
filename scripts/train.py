"""python scripts/train.py --flags: the same as `tfcompress train --flags`."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv[:1] = ["tfcompress", "train"]
    runpy.run_module("tfcompress", run_name="__main__")
