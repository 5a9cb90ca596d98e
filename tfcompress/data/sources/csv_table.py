"""A table in a `.csv` file, or in a folder with `train.csv` and `test.csv`, through `tf.data.experimental.CsvDataset`.

Columns of numbers are taken as they are. Columns of text are categories: one-hot in the one array that a model with one
input gets, and numbers from 0, in the order of the alphabet, for a model that has an input for each column.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tfcompress.data.dataset import Dataset
from tfcompress.data.sources.class_folders import NAMES
from tfcompress.data.sources.csv_columns import Column, Table, scan
from tfcompress.data.sources.model_input import shapes_of
from tfcompress.data.sources.samples import divided, stream
from tfcompress.data.sources.source import Request, Source


def _open(place: str, request: Request) -> Dataset:
    import tensorflow as tf

    paths = _files(place)
    table = scan(list(paths.values()))
    target = _label(table, request.label, place)
    inputs = {name: column for name, column in table.columns.items() if name != target.name}
    as_input = _as_input(inputs, request)
    classes, as_target = _target_of(target)
    defaults = [
        tf.int64
        if column is target and target.numeric and target.whole
        else tf.float32
        if column.numeric
        else tf.constant([""])
        for column in table.columns.values()
    ]
    place_of = {name: index for index, name in enumerate(table.columns)}

    def made(*cells: Any) -> Any:
        return as_input({name: cells[place_of[name]] for name in inputs}), as_target(cells[place_of[target.name]])

    def records(path: pathlib.Path) -> Any:
        return lambda: tf.data.experimental.CsvDataset(str(path), defaults, header=True, field_delim=table.separator)

    each = {path: 64 * len(defaults) + path.stat().st_size // rows for path, rows in table.rows.items()}

    def split(part: str) -> Any:
        path = paths[part]
        return stream(records(path), table.rows[path], made, each=each[path])

    if "test" in paths:
        train, test = split("train"), split("test")
    else:
        path = paths["train"]
        train, test = divided(records(path), table.rows[path], made, request.seed, each=each[path])
    names = None if target.numeric else tuple(target.categories)
    validation = split("validation") if "validation" in paths else None
    return Dataset(pathlib.Path(place).resolve().stem, train, test, validation, classes, names)


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


def _label(table: Table, label: str | None, place: str) -> Column:
    names = ", ".join(table.columns)
    if label is None:
        raise ValueError(
            f"Expected the column that is to be predicted, as `label`. Received: none. {place} has {names}."
        )
    if label not in table.columns:
        raise ValueError(f"Expected `label` to be a column of {place}: {names}. Received: {label!r}.")
    return table.columns[label]


def _target_of(column: Column) -> tuple[int | None, Any]:
    """Return the number of classes, and a function from a cell to the target."""
    import keras

    if not column.numeric:
        lookup = keras.layers.StringLookup(vocabulary=column.categories, num_oov_indices=0)
        return len(column.categories), lookup
    if not column.whole:
        return None, lambda cell: cell
    if column.smallest < 0:
        raise ValueError(
            f"Expected classes from 0 on in column {column.name!r}. Received: {column.smallest:.0f}; number them 0, "
            "1, 2, ... or, for a regression, write numbers with a decimal point."
        )
    return int(column.largest) + 1, lambda cell: cell


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
)
