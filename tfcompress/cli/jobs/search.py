"""The search over the parameters of a recipe, on one or several machines."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from absl.flags import FlagValues

from tfcompress.cli.data_flags import DATA, data_of, prepare
from tfcompress.cli.job import Job, Result
from tfcompress.cli.pages import table_width
from tfcompress.cli.result import about, files_made

if TYPE_CHECKING:
    from tfcompress.pipeline.checkpoints import Resume


def search(values: FlagValues, resume: Resume) -> Result:
    """Search, print what was found, and write it."""
    import tfcompress as tfc
    from tfcompress.cli import dry_run
    from tfcompress.cli.training_progress import stage_of
    from tfcompress.pipeline import check_fits
    from tfcompress.search.optuna_storage import optuna
    from tfcompress.search.samplers import most_trials
    from tfcompress.search.study import WRITTEN

    optuna()
    space = tfc.SearchSpace.read(values.recipe)
    prepare(values)
    model = tfc.load(values.model, unsafe=values.unsafe)
    data = data_of(values, model)
    check_fits(model, data)
    folder = pathlib.Path(values.output_dir) / (values.name or space.name)
    files = [folder / name for name in WRITTEN]
    if values.dry_run:
        rows = [{"parameter": one.name, "values": _said(one)} for one in space.parameters]
        count = min(values.trials, most_trials(space) or values.trials)
        text = f"Would try {count} of {space.size or 'any number of'} recipes of {space.name} on {data.name}."
        return dry_run.said(text, rows, files)
    report = tfc.search(
        model,
        space,
        data=data,
        objectives=values.objectives,
        trials=values.trials,
        max_drop=values.max_drop,
        output_dir=folder,
        storage=values.storage,
        name=values.name,
        batch_size=values.batch_size,
        seed=values.seed,
        stage=stage_of(values),
        about=about(values, "search", data, model.name),
    )
    print(report.table(width=table_width()))
    print(f"Written to {folder}; open {files[0]} to look at it. The same command goes on with what lies there.")
    return {**report.to_dict(), "folder": str(folder), "files": files_made(files)}


def _said(parameter: object) -> str:
    from tfcompress.search.space import Parameter

    assert isinstance(parameter, Parameter)
    if parameter.options:
        return ", ".join(map(str, parameter.labels))
    spread = ", log" if parameter.log else f", step {parameter.step:g}" if parameter.step else ""
    return f"{parameter.low:g} to {parameter.high:g}{spread}"


JOB = Job(
    does="Searches the parameters of a recipe for files that none other beats, on one or several machines.",
    example="--model=my.keras --data=my.npz --recipe=space.yaml --trials=50",
    more="Each trial is a run of a recipe, in OUTPUT_DIR/NAME/trial-NUMBER; a third of the test data is what is "
    "searched by, and the files that none other beats are judged on the rest. The same command once more goes on where "
    "it was killed; in another process, and with the same --storage on another machine, it joins in. Needs pip install "
    "'tfcompress[search]'.",
    run=search,
    flags=(
        *("model", *DATA, "output_dir", "name", "overwrite", "unsafe", "space", "trials", "objectives", "max_drop"),
        *("storage", "evaluation_batch_size", "dry_run"),
    ),
    required=("model", "recipe"),
)
