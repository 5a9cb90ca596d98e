"""`tfcompress compress --max_drop=0.5`: the smallest files that are shown to keep a budget."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from absl.flags import FlagValues

from tfcompress.cli.job import Result
from tfcompress.cli.pages import table_width
from tfcompress.cli.wrong_use import UsageError, refuse_without_effect

if TYPE_CHECKING:
    import keras

    from tfcompress.data.dataset import Dataset
    from tfcompress.recipes import Recipe

NEEDS_BUDGET = ("minimize", "formats", "max_seconds", "target")
WITHOUT = ("sparsity", "config", "layers", "finetune_epochs", "qat_epochs", "epochs", "threads", "scans", "dry_run")


def check(values: FlagValues) -> None:
    """Refuse flags that have no effect with --max_drop, or without it."""
    if values.max_drop is None:
        refuse_without_effect(values, "without --max_drop", *NEEDS_BUDGET)
    else:
        refuse_without_effect(values, "with --max_drop, where the search says it", *WITHOUT)
        if values.recipe is not None:
            refuse_without_effect(values, "with --recipe, which says what is done and exported", *NEEDS_BUDGET)


def search(
    values: FlagValues, model: keras.Model | None, data: Dataset, folder: pathlib.Path, recipe: Recipe | None
) -> Result:
    """Search, print what was found, and return it."""
    import tfcompress as tfc

    if model is None:
        raise UsageError(
            "Expected --model, a trained one, with --max_drop. Received: none. `tfcompress train` makes one."
        )
    how = {name: getattr(values, name) for name in ("batch_size", "learning_rate") if values[name].present}
    result = tfc.compress(
        model,
        recipe,
        data=data,
        max_drop=values.max_drop,
        minimize=values.minimize,
        formats=tuple(values.formats) if values["formats"].present else None,
        target=values.target,
        output_dir=folder,
        max_seconds=values.max_seconds,
        seed=values.seed,
        progress=values.verbosity != "quiet",
        **how,
    )
    print(result.table(width=table_width()))
    print(f"Written to {folder}; the same command goes on with what lies there.")
    return {**result.to_dict(), "folder": str(folder)}
