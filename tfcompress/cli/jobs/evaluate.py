"""Models beside each other on test data."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from absl.flags import FlagValues

from tfcompress.cli.data_flags import DATA, data_of, prepare
from tfcompress.cli.job import Job, Result
from tfcompress.cli.pages import page_files, scans_of, table_width, write_pages
from tfcompress.cli.result import about, files_made

if TYPE_CHECKING:
    from tfcompress.pipeline.checkpoints import Resume


def evaluate(values: FlagValues, resume: Resume) -> Result:
    """Judge models beside each other on the test data, and time them."""
    import tfcompress as tfc
    from tfcompress.cli import dry_run
    from tfcompress.evaluation.device_needs import devices_of
    from tfcompress.evaluation.open_predictor import open_predictor

    scans = scans_of(values)
    prepare(values)
    data = data_of(values, values.models)
    overwrite = values.overwrite or resume.begun
    pages = page_files(values, overwrite)
    candidates = {}
    for path in values.models:
        name = pathlib.Path(path).name
        candidates[path if name in candidates else name] = path
    if values.dry_run:
        opened = {
            name: open_predictor(path, values.threads, values.runtime, values.target)
            for name, path in candidates.items()
        }
        targets = {} if values.target is None else dict.fromkeys(opened, values.target)
        devices_of(opened, targets, values.ram, values.flash)
        for predictor in opened.values():
            predictor.check(data.test.first(1))
        rows = [{"model": name, "runs in": predictor.runtime} for name, predictor in opened.items()]
        text = f"Would evaluate {len(rows)} models on {data.test.samples:,} samples of {data.name}, and time them."
        return dry_run.said(text, rows, pages)
    test = data.test.in_order()
    names = {"threads": values.threads, "class_names": data.class_names}
    names |= {name: values[name].value for name in ("runtime", "target", "ram", "flash")}
    said = about(values, "evaluate", data, pathlib.Path(values.models[0]).name)
    report = tfc.compare(candidates, test, **names, about=said, scans=scans)
    print(report.table(width=table_width()))
    for name in candidates:
        print(f"\n{name}\n{report[name].metrics}")
    if pages:
        resume.begin()
        write_pages(report, pages, overwrite)
        print(f"\nWritten to {' and '.join(map(str, pages))}.")
    return {**report.to_dict(), "files": files_made(pages)}


DEVICE = ("file_target", "runtime", "ram", "flash")

JOB = Job(
    does="Judges models beside each other on test data: size, accuracy and latency, and in a report much more.",
    example="--models=my.keras,my.tflite,my.onnx --data=my.npz --html=report.html",
    more="A table shows how each model differs from the first; then come accuracy, F1 and ROC-AUC of each. The report "
    "of --html shows them by class, with confusion matrices, and looks into the layers. What "
    "train made of scikit-learn's digits needs no --data. With --target=microcontroller it also shows what the files "
    "take of RAM and flash, with --target=ethos-u55-128 and the like what Arm's compiler Vela estimates.",
    run=evaluate,
    flags=("models", *DATA, "html", "markdown", "scans", "overwrite", "threads", *DEVICE, "dry_run"),
    required=("models",),
    target=lambda values: values.html or values.markdown or "",
)
