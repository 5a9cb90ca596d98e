"""Models beside each other on test data."""

from __future__ import annotations

import pathlib

from absl.flags import FlagValues

from tfcompress.cli.data_flags import data_of
from tfcompress.cli.output_paths import new_file


def evaluate(values: FlagValues) -> None:
    """Judge models beside each other on the test data, and time them."""
    import tfcompress as tfc

    data = data_of(values)
    targets = {"--html": values.html, "--json": values.json}
    for flag, path in targets.items():
        if path:
            new_file(path, f".{flag[2:]}", values.overwrite)
    candidates = {}
    for path in values.models:
        name = pathlib.Path(path).name
        candidates[path if name in candidates else name] = path
    report = tfc.compare(candidates, data.x_test, data.y_test, threads=values.threads)
    print(report.table(width=110))
    for name in candidates:
        print(f"\n{name}\n{report[name].metrics}")
    if values.json:
        report.to_json(values.json, overwrite=values.overwrite)
    if values.html:
        report.save(values.html, overwrite=values.overwrite)
