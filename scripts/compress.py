"""python scripts/compress.py --flags: the same as `tfcompress compress --flags`."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv[:1] = ["tfcompress", "compress"]
    runpy.run_module("tfcompress", run_name="__main__")
