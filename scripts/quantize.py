"""python scripts/quantize.py --flags: the same as `tfcompress quantize --flags`."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv[:1] = ["tfcompress", "quantize"]
    runpy.run_module("tfcompress", run_name="__main__")
