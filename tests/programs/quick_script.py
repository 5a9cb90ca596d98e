"""Runs a program as `python scripts/NAME.py FLAGS` does, but for latencies, which are taken in less time.

python -m tests.programs.quick_script NAME FLAGS
"""

import pathlib
import runpy
import sys

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"

if __name__ == "__main__":
    sys.path.insert(0, str(SCRIPTS))
    import _environment  # noqa: F401

    from tests import quick_timing

    quick_timing.timing.time_predictors = quick_timing.time_predictors
    path = str(SCRIPTS / f"{sys.argv[1]}.py")
    sys.argv = [path, *sys.argv[2:]]
    runpy.run_path(path, run_name="__main__")
