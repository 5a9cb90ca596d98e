"""A table in a `.csv` file, or in a folder with `train.csv` and `test.csv`, through `tf.data.experimental.CsvDataset`.

Columns of numbers are taken as they are. Columns of text are categories: one-hot in the one array that a model with one
input gets, and numbers from 0, in the order of the alphabet, for a model that has an input for each column.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tfcompress.core.arguments import did_you_mean
from tfcompress.core.error_messages import told
from tfcompress.data.dataset import Dataset
from tfcompress.data.sources.class_folders import NAMES
from tfcompress.data.sources.csv_columns import Column, Table, read_header, scan
from tfcompress.data.sources.division import said
from tfcompress.data.sources.model_input import shapes_of
from tfcompress.data.sources.samples import divided, stream
from tfcompress.data.sources.source import Request, Source
from tfcompress.data.sources.targets import Targets, classes_of


def _open(place: str, request: Request) -> Dataset:
    import tensorflow as tf

    paths = _files(place)
    table = scan(list(paths.values()))
    target = _label(table, request.label, place)
    _check_target(target)
    inputs = {name: column for name, column in table.columns.items() if name != target.name}
    as_input = _as_input(inputs, request)
    dtypes = [
        tf.int64
        if column is target and target.numeric and target.whole
        else tf.float32
        if column.numeric
        else tf.constant([""])
        for column in table.columns.values()
    ]
    place_of = {name: index for index, name in enumerate(table.columns)}

    def records(path: pathlib.Path, columns: list[int] | None = None) -> Any:
        kinds = [dtypes[index] for index in columns or range(len(dtypes))]
        how = {"header": True, "field_delim": table.separator, "select_cols": columns}
        return tf.data.experimental.CsvDataset(str(path), kinds, **how).take(table.rows[path])

    seen = {part: _targets(path, records(path, [place_of[target.name]])) for part, path in paths.items()}
    classes = classes_of(list(seen.values()), what=f"column {target.name!r}")
    as_class = next(iter(seen.values())).as_class(classes.names)

    def made(*cells: Any) -> Any:
        y = _stripped(cells[place_of[target.name]])
        return as_input({name: _stripped(cells[place_of[name]]) for name in inputs}), as_class(y) if as_class else y

    def how(part: str) -> dict[str, Any]:
        path = paths[part]
        each = 64 * len(dtypes) + path.stat().st_size // table.rows[path]
        return {"made": made, "each": each, "failed": lambda error: _unread(path, error)}

    def split(part: str) -> Any:
        return stream(lambda: records(paths[part]), seen[part].samples, **how(part))

    drawn = None
    if "test" in paths:
        train, test = split("train"), split("test")
    else:
        train, test = divided(lambda: records(paths["train"]), seen["train"], seed=request.seed, **how("train"))
        drawn = said(request.seed, by_class=classes.number is not None)
    validation = split("validation") if "validation" in paths else None
    return Dataset(
        pathlib.Path(place).resolve().stem,
        train,
        test,
        validation,
        classes.number,
        classes.names,
        classes.smallest,
        drawn,
    )


def _stripped(cell: Any) -> Any:
    """Return a cell without spaces around its text."""
    import tensorflow as tf

    return tf.strings.strip(cell) if cell.dtype == tf.string else cell


def _targets(path: pathlib.Path, cells: Any) -> Targets:
    """Return what the targets are, the only cells that are given."""
    import tensorflow as tf

    found = Targets()
    try:
        for (batch,) in cells.batch(1024):
            found.see(_stripped(batch).numpy())
    except tf.errors.OpError as error:
        raise _unread(path, error) from error
    return found


def _unread(path: pathlib.Path, error: Exception) -> ValueError:
    return ValueError(f"Expected cells that TensorFlow reads as Python does. Received: {path}: {told(error)}")


def _files(place: str) -> dict[str, pathlib.Path]:
    """Return the files by what they are for."""
    if not os.path.isdir(place):
        path = pathlib.Path(place)
        if not path.exists():
            raise FileNotFoundError(f"Expected a .csv file. Received: no file at {path}.")
        return {"train": path}
    there = {path.stem.lower(): path for path in sorted(pathlib.Path(place).glob("*.csv"))}
    found = {part: next((there[name] for name in names if name in there), None) for part, names in NAMES.items()}
    if found["test"] is None:
        found["test"], found["validation"] = found["validation"], None
    return {part: path for part, path in found.items() if path is not None}


def _wanted_label(place: str) -> str:
    with open(_files(place)["train"], newline="", encoding="utf-8-sig", errors="replace") as file:
        return f"the column that is to be predicted; {place} has {', '.join(read_header(file)[0]) or 'none'}"


def _label(table: Table, label: str | None, place: str) -> Column:
    if label is None or label not in table.columns:
        raise ValueError(
            f"Expected `label` to be a column of {place}: {', '.join(table.columns)}. Received: {label!r}."
            f"{did_you_mean(label, table.columns)}"
        )
    return table.columns[label]


def _check_target(column: Column) -> None:
    """Raise ValueError unless the column that is predicted has a class, or a value, in each row."""
    if column.empty_at:
        raise ValueError(
            f"Expected what is to be predicted in every row of column {column.name!r}. Received: an empty cell in "
            f"line {column.empty_at}. Fill it in, or leave the row out."
        )
    if column.numeric and column.whole and column.smallest < 0:
        raise ValueError(
            f"Expected classes from 0 on in column {column.name!r}. Received: {column.smallest:.0f}; number them 0, "
            "1, 2, ... or, for a regression, write numbers with a decimal point."
        )


def _as_input(columns: Mapping[str, Column], request: Request) -> Any:
    """Return a function from cells by name to what a model takes: one array, or one value for each of its inputs."""
    import keras
    import tensorflow as tf

    shapes = shapes_of(request)
    texts = {name: column.categories for name, column in columns.items() if not column.numeric}
    if len(shapes) > 1 or (len(shapes) == 1 and set(shapes) == set(columns)):
        if set(shapes) != set(columns) or not all(shape in ((), (1,)) for shape in shapes.values()):
            raise ValueError(
                f"Expected a model with one input, or with one of shape (1,) for each of the columns "
                f"{', '.join(columns)}. Received: one with inputs {shapes}. Name them after the columns."
            )
        numbers = {n: keras.layers.StringLookup(vocabulary=texts[n], num_oov_indices=0) for n in texts}
        dtypes = {name: info.dtype for name, info in (request.inputs or {}).items()}

        def by_name(cells: dict[str, Any]) -> Any:
            found = {name: numbers[name](cell) if name in numbers else cell for name, cell in cells.items()}
            return {name: tf.reshape(tf.cast(found[name], dtypes[name]), shapes[name]) for name in cells}

        return by_name
    width = sum(len(texts.get(name, "1")) for name in columns)
    if shapes and next(iter(shapes.values())) not in ((width,), (None,)):
        sizes = ", ".join(f"{name} ({len(texts[name])} categories)" if name in texts else name for name in columns)
        raise ValueError(
            f"Expected a model whose input has shape ({width},), for the columns {sizes}. Received: "
            f"one with inputs {shapes}."
        )
    one_hot = {
        n: keras.layers.StringLookup(vocabulary=texts[n], num_oov_indices=0, output_mode="one_hot") for n in texts
    }

    def as_array(cells: dict[str, Any]) -> Any:
        found = [one_hot[n](cell) if n in one_hot else cell for n, cell in cells.items()]
        return tf.ensure_shape(tf.concat([tf.reshape(tf.cast(part, "float32"), [-1]) for part in found], 0), [width])

    return as_array


def _takes(place: str) -> bool:
    if place.lower().endswith(".csv"):
        return True
    return os.path.isdir(place) and any(os.path.isfile(os.path.join(place, f"{name}.csv")) for name in NAMES["train"])


SOURCE = Source(
    "a .csv file whose first line names the columns, or a folder with train.csv and test.csv",
    _takes,
    _open,
    frozenset({"label"}),
    {"label": _wanted_label},
)
