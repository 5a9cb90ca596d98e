#!/usr/bin/env bash
# rich 15.0.0: where the columns of a Progress need more width than the terminal has, that of the time left gives up all
# of it before a long text beside it gives up one character: a TextColumn doesn't wrap by default, and a column that may
# wrap is narrowed first, to nothing and without "...", even if it has a min_width. With a text of 74 characters in a
# terminal of 80 the time left isn't there, nor with TimeRemainingColumn(table_column=Column(min_width=7)). Only with
# no_wrap=True beside min_width it stays whole.
# Fails if the time left is drawn.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rich==15.0.0
"$folder/venv/bin/python" - <<'PYTHON'
import io

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from rich.table import Column


def drawn(text, **how):
    """Return the line of a task of which ten of a hundred steps are done, each of which took a second."""
    clock = [0.0]
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    columns = TextColumn("{task.description}"), TimeRemainingColumn(**how), TextColumn("{task.fields[said]}")
    progress = Progress(*columns, console=console, get_time=lambda: clock[0])
    task = progress.add_task("train", total=100, said=text)
    for step in range(1, 11):
        clock[0] = float(step)
        progress.update(task, completed=step)
    with console.capture() as captured:
        console.print(progress.make_tasks_table(progress.tasks))
    return captured.get().rstrip("\n")


short, long = (drawn("loss".ljust(size, ".")) for size in (40, 74))
least, kept = (drawn("loss".ljust(74, "."), table_column=Column(min_width=7, no_wrap=one)) for one in (False, True))
print(short, long, least, kept, sep="\n")
assert "0:01:30" in short and "0:01:30" in kept
assert long.split() == least.split() == ["train", "loss".ljust(74, ".")], "the time left is drawn"
PYTHON
echo "as described: nothing is left of the time left"
