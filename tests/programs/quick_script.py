"""Runs a job as `python -m tfcompress JOB FLAGS` does, but for latencies, which are taken in less time.

python -m tests.programs.quick_script JOB FLAGS
"""

import sys

if __name__ == "__main__":
    sys.argv[0] = "tfcompress"

    from tfcompress.cli import main, process

    process.import_everything(logs=False)

    from tests import quick_timing

    quick_timing.timing.time_predictors = quick_timing.time_predictors
    sys.exit(main.main())
