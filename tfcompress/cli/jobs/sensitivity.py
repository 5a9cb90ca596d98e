"""How much each layer matters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli.data_flags import DATA, data_of, prepare
from tfcompress.cli.job import Job, Result
from tfcompress.cli.output_paths import new_file
from tfcompress.cli.pages import table_width
from tfcompress.cli.result import about, files_made
from tfcompress.cli.wrong_use import UsageError

if TYPE_CHECKING:
    from tfcompress.pipeline.checkpoints import Resume


def sensitivity(values: FlagValues, resume: Resume) -> Result:
    """Measure how much each layer matters, print it, and write it if that is asked for."""
    import tfcompress as tfc
    from tfcompress.cli import dry_run
    from tfcompress.pipeline import check_fits
    from tfcompress.pipeline.sensitivity import SPARSITIES, scanned_layers

    if values.sparsities and values.bits:
        raise UsageError("Expected one of --sparsities and --bits. Received: both.")
    files = []
    if values.output:
        output = new_file(values.output, ".json", overwrite=True)  # what is there is gone on with, or refused
        overwrite = values.overwrite or output.exists()
        files = [output, *(new_file(str(output.with_suffix(each)), each, overwrite) for each in (".png", ".html"))]
    prepare(values)
    model = tfc.load(values.model, unsafe=values.unsafe)
    data = data_of(values, model)
    check_fits(model, data)
    levels: dict[str, Any] = {
        "sparsities": [float(value) for value in values.sparsities] if values.sparsities else None,
        "bits": [int(value) for value in values.bits] if values.bits else None,
    }
    if values.dry_run:
        count = len(values.bits or values.sparsities or SPARSITIES)
        rows = [{"layer": name, "weights": f"{size:,}"} for name, size in scanned_layers(model, values.layers).items()]
        text = f"Would measure {values.metric} on {data.name} {1 + count * len(rows)} times: {count} for each layer."
        return dry_run.said(text, rows, files)
    result = tfc.sensitivity(
        model,
        data.test.in_order(),
        values.layers,
        **levels,
        metric=values.metric,
        resume=files[0] if files else None,
        progress=values.verbosity != "quiet",
        batch_size=values.batch_size,
    )
    print(result.table(width=table_width()))
    if files:
        result.plot(files[1], overwrite=True)
        result.save(files[2], about=about(values, "sensitivity", data, model.name), overwrite=True)
        print(f"Written to {files[0]}, {files[1]} and {files[2]}.")
    return {**result.to_dict(), "files": files_made(files)}


JOB = Job(
    does="Measures how much each layer matters: prunes or quantizes one at a time, and evaluates the model.",
    example="--model=my.keras --data=my.npz --sparsities=0.5,0.8 --output=sensitivity.json",
    more="Nothing is trained, and the model isn't changed. What train made of scikit-learn's digits needs no --data. "
    "Interrupted or killed, it goes on with what --output has when the same command is given once more.",
    run=sensitivity,
    flags=(
        *("model", *DATA, "scan_output", "overwrite", "unsafe", "layers", "sparsities", "bits", "metric"),
        *("evaluation_batch_size", "dry_run"),
    ),
    required=("model",),
)
