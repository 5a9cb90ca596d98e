"""`python -m tfcompress JOB --flags`: the command, where it isn't on the path."""

import sys

from tfcompress.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
