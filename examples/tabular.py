"""python examples/tabular.py --csv=FILE --target=COLUMN

A network for a table of numbers, pruned while it is trained and quantized, as ONNX and TFLite files. FILE has a line of
names first; the column that --target names is what is predicted, as classes, and all others hold numbers. Without --csv
it takes scikit-learn's measurements of breast cancer.
"""

from __future__ import annotations

import argparse
import csv
import pathlib

import keras
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import tfcompress as tfc

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def read_csv(path: pathlib.Path, target: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return numbers, classes, and the names of the classes."""
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or target not in rows[0]:
        raise SystemExit(f"Expected --target to be a column of {path}. Received: {target!r}.")
    columns = [name for name in rows[0] if name != target]
    x = np.array([[float(row[name]) for name in columns] for row in rows], "float32")
    names, y = np.unique([row[target] for row in rows], return_inverse=True)
    return x, y, list(names)


def network(x: np.ndarray, classes: int) -> keras.Model:
    """Return a network that is told the mean and the spread of each column."""
    normalization = keras.layers.Normalization()
    normalization.adapt(x)
    return keras.Sequential(
        [
            keras.Input(x.shape[1:], name="columns"),
            normalization,
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(classes, name="scores"),
        ]
    )


def main(arguments: list[str] | None = None) -> tfc.Report:
    """Do it all, print a table, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=pathlib.Path, help="a table with a line of names")
    parser.add_argument("--target", default="target", help="the column that is predicted")
    parser.add_argument("--epochs", type=int, default=20, help="of training, and as many while it is pruned")
    parser.add_argument("--sparsity", type=float, default=0.8, help="share of the weights that become zero")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(), help="folder for the files")
    given = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    if given.csv is None:
        table = load_breast_cancer()
        x, y, names = table.data.astype("float32"), table.target, [str(name) for name in table.target_names]
    else:
        x, y, names = read_csv(given.csv, given.target)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)

    model = network(x_train, len(names))
    model.compile("adam", LOSS)
    model.fit(x_train, y_train, epochs=given.epochs, verbose=0)

    end = given.epochs * -(-len(x_train) // 32) // 2
    schedule = tfc.PolynomialSparsity(0.0, given.sparsity, begin_step=0, end_step=end, frequency=max(1, end // 20))
    pruned = tfc.prune(model, schedule)
    pruned.compile("adam", LOSS)
    pruned.fit(x_train, y_train, epochs=given.epochs, verbose=0)

    quantized = tfc.quantize(pruned, "int8", data=x_train)
    print(tfc.summary(quantized))  # columns of very different size: what stays float, and why
    files = {kind: tfc.export(quantized, given.output / f"table.{kind}", overwrite=True) for kind in ("tflite", "onnx")}
    report = tfc.compare({"float": model, **files}, x_test, y_test, class_names=names)
    print(report)
    return report


if __name__ == "__main__":
    main()
