"""python scripts/search.py --flags: the same as `tfcompress search --flags`."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv[:1] = ["tfcompress", "search"]
    runpy.run_module("tfcompress", run_name="__main__")
