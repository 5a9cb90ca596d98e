"""Data to train with, to validate and to test on, wherever it comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfcompress.core.arguments import short
from tfcompress.core.names import nearest_names
from tfcompress.data.array_checks import array_of, numbers_of, one_hot_classes
from tfcompress.data.named_inputs import TensorInfo
from tfcompress.data.splits import ArraySplit, Split

Names = tuple[str, ...]

PARTS = ("train", "test")


@dataclasses.dataclass(frozen=True)
class Target:
    """What one output is to say.

    Attributes:
        info: Shape and dtype of a batch.
        classes: Number of classes; `None`: numbers that are no classes.
        class_names: Of the classes, in their order; `None`: they are numbers.
    """

    info: TensorInfo
    classes: int | None = None
    class_names: Names | None = None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Samples with targets, divided by what they are for.

    Attributes:
        name: What the data is called.
        train: To train with.
        test: What training never sees.
        validation: What is looked at after each epoch; `None`: nothing.
        classes: Number of classes; `None` where the targets aren't whole numbers. Where there are targets of several
            outputs, a dict by the names of these.
        class_names: Of the classes, in their order; `None`: they are numbers. Of several outputs likewise a dict.
        smallest: The smallest class of one output that occurs, as far as that was looked for.
        drawn: How it was drawn which samples are for tests; `None`: the data says so.

    Example:

    >>> part = ArraySplit(np.zeros((3, 2)), np.zeros(3))
    >>> Dataset("six", part, part).division()
    '3 samples to train with, 3 to test on: as the data is divided'
    """

    name: str
    train: Split
    test: Split
    validation: Split | None = None
    classes: int | Mapping[str, int | None] | None = None
    class_names: Names | Mapping[str, Names | None] | None = None
    smallest: int = 0
    drawn: str | None = None

    def division(self) -> str:
        """Return how many samples are for what, and who says so."""
        checked = f", {self.validation.samples:,} to validate on" if self.validation else ""
        return (
            f"{self.train.samples:,} samples to train with{checked}, {self.test.samples:,} to test on: "
            f"{self.drawn or 'as the data is divided'}"
        )

    @property
    def is_classes(self) -> bool:
        """Whether all targets are classes."""
        return None not in (self.classes.values() if isinstance(self.classes, Mapping) else (self.classes,))

    def targets(self, outputs: Sequence[str]) -> list[Target]:
        """Return what each output of a model is to say.

        Args:
            outputs: The names of all, in the model's order; what one alone is called doesn't count.

        Raises:
            ValueError: If the data has targets for others.

        Example:

        >>> y = {"a": np.array([0, 1, 2]), "b": np.array([0.5, 1.0, 2.0])}
        >>> data = Data("two", np.zeros((3, 2)), y, np.zeros((3, 2)), y)
        >>> [target.classes for target in data.targets(["b", "a"])]
        [None, 3]
        """
        infos = self.train.y if isinstance(self.train.y, Mapping) else {"": self.train.y}
        names = list(outputs) if isinstance(self.train.y, Mapping) else [""]
        if set(names) != set(infos) or len(names) != len(outputs):
            received = f"those of {list(infos)}" if isinstance(self.train.y, Mapping) else "one"
            hint = nearest_names(infos, names) if isinstance(self.train.y, Mapping) else ""
            raise ValueError(
                f"Expected targets for the outputs {list(outputs)}, by name where there are several. Received: "
                f"{received}.{hint}"
            )
        classes, class_names = (_named(given) for given in (self.classes, self.class_names))
        return [Target(infos[name], classes.get(name), class_names.get(name)) for name in names]


def _named(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {"": given}


class Data(Dataset):
    """Arrays to train with and others to evaluate on.

    Args:
        name: What the data is called.
        x_train: Inputs, samples first; several by name.
        y_train: Targets: whole numbers are classes, others are regressed; one-hot rows, one column of whole numbers,
            True and False, and text become classes. Of several outputs a dict by their names.
        x_test: Inputs that training never sees.
        y_test: Their targets.
        class_names: Of the classes, in their order; `None`: they are numbers, or named by targets that are text. Of
            several outputs a dict by their names.
        drawn: As in `Dataset`.

    Raises:
        ValueError: If the arrays don't fit each other, or hold no finite numbers; or names of classes are of no target.

    Example:

    >>> data = Data("four", np.zeros((3, 2)), ["b", "a", "b"], np.zeros((1, 2)), ["a"])
    >>> data.y_train.tolist(), data.class_names, data.classes, data.test.samples
    ([1, 0, 1], ('a', 'b'), 2, 1)
    """

    def __init__(
        self,
        name: str,
        x_train: Any,
        y_train: Any,
        x_test: Any,
        y_test: Any,
        *,
        class_names: Names | Mapping[str, Names | None] | None = None,
        drawn: str | None = None,
    ):
        given = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
        arrays = {key: _arrays(value, key) for key, value in given.items()}
        for kind in "xy":
            names = [list(arrays[f"{kind}_{part}"]) for part in PARTS]
            if set(names[0]) != set(names[1]):
                raise ValueError(
                    f"Expected the same names in {kind}_train and {kind}_test. Received: {names[0]} and {names[1]}."
                )
        texts: dict[str, Names | None] = {}
        for key, train in arrays["y_train"].items():
            made = _as_classes(train, arrays["y_test"][key])
            arrays["y_train"][key], arrays["y_test"][key], texts[key] = made
        for part in PARTS:
            _check_rows(arrays[f"x_{part}"], arrays[f"y_{part}"], part)
        classes, smallest = {}, 0
        for key, train in arrays["y_train"].items():
            classes[key], smallest = _classes(train, arrays["y_test"][key], key)
        for key, train in arrays["x_train"].items():
            if train.shape[1:] != arrays["x_test"][key].shape[1:]:
                raise ValueError(
                    "Expected samples of one shape. Received: "
                    f"{train.shape[1:]} in {_called('x_train', key)}, {arrays['x_test'][key].shape[1:]} in x_test."
                )
        found = {key: of_each(value) for key, value in arrays.items()}
        train_split, test_split = (ArraySplit(found[f"x_{part}"], found[f"y_{part}"]) for part in PARTS)
        named = _named(class_names)
        _check_named(named, texts)
        how: dict[str, Any] = {
            "classes": of_each(classes),
            "class_names": of_each({key: value or named.get(key) for key, value in texts.items()}),
            "smallest": smallest if "" in classes else 0,
        }
        super().__init__(name, train_split, test_split, drawn=drawn, **how)
        self.__dict__.update(found)  # the class is frozen

    x_train: Any
    y_train: Any
    x_test: Any
    y_test: Any


def _arrays(value: Any, what: str) -> dict[str, np.ndarray]:
    """Return arrays by name, one alone as ""."""
    found = {}
    for name, part in _named(value).items():
        found[name] = array_of(part, _called(what, name), strings=what.startswith("y"))
        if not found[name].ndim:
            raise ValueError(f"Expected {_called(what, name)} with one row per sample. Received: a single value.")
    return found


def _check_named(class_names: Mapping[str, Any], outputs: Iterable[str]) -> None:
    """Refuse names of classes that are of no output; such as names without an output, where the targets have theirs."""
    outputs = list(outputs)
    if class_names == {"": None} or set(class_names) <= set(outputs):
        return
    wanted = f"a dict by names of targets, {outputs}" if outputs != [""] else "the names of one target's classes"
    received = f"names of {list(class_names)}" if "" not in class_names else short(class_names[""])
    raise ValueError(f"Expected class_names to be {wanted}. Received: {received}.{nearest_names(class_names, outputs)}")


def of_each(named: Mapping[str, Any]) -> Any:
    """Return what is given for each output or input by name, of one alone, called "", without."""
    return named.get("", named)


def _called(what: str, name: str) -> str:
    return f"{what}[{name!r}]" if name else what


def _check_rows(x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray], part: str) -> None:
    """Raise ValueError unless there are as many targets as inputs, and all are finite numbers."""
    inputs = {_called(f"x_{part}", name): array for name, array in x.items()}
    targets = {_called(f"y_{part}", name): array for name, array in y.items()}
    first, samples = next(iter(inputs.items()))
    for name, array in [*inputs.items(), *targets.items()]:
        if len(array) != len(samples) or not len(samples):
            raise ValueError(
                f"Expected as many targets as inputs, at least one. Received: {first} of shape {samples.shape} and "
                f"{name} of shape {array.shape}."
            )
    for name, array in [*inputs.items(), *targets.items()]:
        numbers_of(array, name)


def _classes(train: np.ndarray, test: np.ndarray, name: str) -> tuple[int | None, int]:
    """Return how many classes there are, `None` where targets are none, and the smallest that occurs."""
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"Expected targets of one form. Received: {_called('y_train', name)} of shape {train.shape}, "
            f"{_called('y_test', name)} of shape {test.shape}."
        )
    if not np.issubdtype(train.dtype, np.integer) or train.ndim != 1:
        return None, 0
    smallest = int(min(train.min(), test.min()))
    if smallest < 0:
        of = f" in {_called('y_train', name)}" if name else ""
        raise ValueError(f"Expected classes from 0 on{of}. Received: negative ones; number them 0, 1, 2, ...")
    return int(max(train.max(), test.max())) + 1, smallest


def _as_classes(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...] | None]:
    """Return targets that are classes in another form as whole numbers, and the names of those that were text."""
    if "U" in (train.dtype.kind, test.dtype.kind):
        names = np.unique(np.concatenate([np.ravel(train), np.ravel(test)]).astype(str))
        flat = (np.searchsorted(names, y.astype(str).reshape(len(y), -1)) for y in (train, test))
        made = [y[:, 0] if y.shape[1] == 1 else y for y in flat]
        return made[0], made[1], tuple(map(str, names))
    if train.dtype.kind == test.dtype.kind == "b":
        train, test = train.astype("int64"), test.astype("int64")
    one_hot = [one_hot_classes(y) for y in (train, test)]
    if train.ndim == test.ndim == 2 and one_hot[0] is not None and one_hot[1] is not None:
        return one_hot[0], one_hot[1], None
    if train.shape[1:] == test.shape[1:] == (1,) and train.dtype.kind in "iu" and test.dtype.kind in "iu":
        train, test = train[:, 0], test[:, 0]
    return train, test, None
