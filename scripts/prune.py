"""python scripts/prune.py --flags: the same as `tfcompress prune --flags`."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv[:1] = ["tfcompress", "prune"]
    runpy.run_module("tfcompress", run_name="__main__")
