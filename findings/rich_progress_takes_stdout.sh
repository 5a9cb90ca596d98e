#!/usr/bin/env bash
# rich 15.0.0: a Progress whose console is standard error (to keep standard output for results) also takes over standard
# output while it runs on a terminal: print() in its block ends up on standard error, and a pipe behind the program gets
# nothing. Progress(redirect_stdout=False) leaves standard output alone; the default is True whatever the console is.
# Fails if what is printed reaches standard output.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rich==15.0.0
cat > "$folder/program.py" <<'PYTHON'
import sys

from rich.console import Console
from rich.progress import Progress

redirect = sys.argv[1] == "default"
console = Console(stderr=True, force_terminal=True)  # as on a terminal
with Progress(console=console, **({} if redirect else {"redirect_stdout": False})) as progress:
    task = progress.add_task("work", total=1)
    print("the result")
    progress.advance(task)
PYTHON
default=$("$folder/venv/bin/python" "$folder/program.py" default 2>"$folder/default.err")
off=$("$folder/venv/bin/python" "$folder/program.py" off 2>"$folder/off.err")
echo "standard output by default: '$default'; with redirect_stdout=False: '$off'"
test -z "$default" && grep -q "the result" "$folder/default.err" && test "$off" = "the result"
echo "as described: what is printed goes to the progress bar's console"
