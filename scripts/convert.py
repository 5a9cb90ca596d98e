"""python scripts/convert.py --flags: the same as `tfcompress convert --flags`."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv[:1] = ["tfcompress", "convert"]
    runpy.run_module("tfcompress", run_name="__main__")
