"""What an evaluation finds: the metrics of a compressed model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcompress.reports.tables import number, plain, significant, to_text

MAX_MATRIX_CLASSES = 12


@dataclasses.dataclass(frozen=True)
class ClassMetrics:
    """How well one class is found.

    Attributes:
        name: of the class.
        precision: of the samples called so, the share that is so (0 if none is called so).
        recall: of the samples that are so, the share that is called so (0 if there is none).
        f1: harmonic mean of the two.
        support: samples of the class in `y`.
        roc_auc: of this class against the rest; NaN if `y` holds none or nothing else.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    roc_auc: float


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """Each sample's part in the metrics; of two models on the same samples they are compared in pairs.

    Attributes:
        values: (samples,) whether each was right; where a sample holds several predictions, the share of right ones;
            of regression its squared error.
        labels: (samples,) the right class; None where a sample holds several, and in regression.
        predicted: (samples,) the class that the model says; None likewise.
    """

    values: np.ndarray
    labels: np.ndarray | None = None
    predicted: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Metrics:
    """What `tfc.evaluate` found. Fields that the task doesn't have are None.

    Attributes:
        task: "multiclass", "binary", "regression", or "multi_output".
        samples: number of predictions evaluated.
        accuracy: share of right classes, 0..1.
        macro_f1: mean F1 of the classes that `y` or the predictions hold.
        roc_auc: area under the ROC curve (binary), or the mean of the classes' one-vs-rest areas; NaN if
            undefined.
        classes: one `ClassMetrics` per class, in order.
        confusion_matrix: int64 (classes, classes); rows are the true class, columns the predicted.
        roc_curves: {class name: (false positive rates, true positive rates)}; up to 12 classes, thinned to
            200 points.
        mse: mean squared error.
        mae: mean absolute error.
        r2: coefficient of determination; NaN for fewer than two samples.
        outputs: {output name: Metrics} of a model with several outputs; else empty.
        interval: (low, high) where the accuracy, or the MSE, of all such data lies with 95 % confidence.
        judged: what becomes of each sample.
    """

    task: str
    samples: int
    accuracy: float | None = None
    macro_f1: float | None = None
    roc_auc: float | None = None
    classes: tuple[ClassMetrics, ...] = ()
    confusion_matrix: np.ndarray | None = None
    roc_curves: Mapping[str, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)
    mse: float | None = None
    mae: float | None = None
    r2: float | None = None
    outputs: Mapping[str, Metrics] = dataclasses.field(default_factory=dict)
    interval: tuple[float, float] | None = None
    judged: Judged | None = dataclasses.field(default=None, repr=False)

    def __getitem__(self, output: str) -> Metrics:
        """Return the metrics of one output of several."""
        if output not in self.outputs:
            raise KeyError(f"Expected one of the outputs {list(self.outputs)}. Received: {output!r}.")
        return self.outputs[output]

    @property
    def scores(self) -> dict[str, tuple[str, float]]:
        """The main metric of each output: {output name, "" if only one: ("accuracy" or "mse", value)}."""
        if self.outputs:
            return {name: metrics.scores[""] for name, metrics in self.outputs.items()}
        if self.accuracy is not None:
            return {"": ("accuracy", self.accuracy)}
        return {"": ("mse", math.nan if self.mse is None else self.mse)}

    def to_dict(self) -> dict[str, Any]:
        """Return all that the task has, ready for JSON: NaN is None; the ROC curves' points are left out."""
        if self.outputs:
            outputs = {name: metrics.to_dict() for name, metrics in self.outputs.items()}
            return {"task": self.task, "samples": self.samples, "outputs": outputs}
        if self.task == "regression":
            fields: dict[str, Any] = {"mse": self.mse, "interval": self.interval, "mae": self.mae, "r2": self.r2}
        else:
            fields = {
                "accuracy": self.accuracy,
                "interval": self.interval,
                "macro_f1": self.macro_f1,
                "roc_auc": self.roc_auc,
                "classes": [dataclasses.asdict(entry) for entry in self.classes],
                "confusion_matrix": self.confusion_matrix,
            }
        return plain({"task": self.task, "samples": self.samples, **fields})

    def table(self, width: int = 100) -> str:
        """Return the summary, for classes also each one's metrics and (up to 12) the confusion matrix."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        if self.outputs:
            return "\n\n".join(f"{name}\n{metrics.table(width)}" for name, metrics in self.outputs.items())
        if not self.classes:
            return str(self)
        per_class = Table(box=box.SIMPLE_HEAD)
        per_class.add_column("class")
        for title in ("precision", "recall", "F1", "ROC-AUC", "support"):
            per_class.add_column(title, justify="right")
        for entry in self.classes:
            figures = (entry.precision, entry.recall, entry.f1, entry.roc_auc)
            per_class.add_row(Text(entry.name), *(number(figure) for figure in figures), str(entry.support))
        parts: list[Any] = [str(self), per_class]
        if self.confusion_matrix is not None and len(self.classes) <= MAX_MATRIX_CLASSES:
            matrix = Table(box=box.SIMPLE_HEAD, title="true (rows), predicted (columns)", title_justify="left")
            matrix.add_column("")
            for entry in self.classes:
                matrix.add_column(Text(entry.name), justify="right")
            for entry, row in zip(self.classes, self.confusion_matrix, strict=True):
                matrix.add_row(Text(entry.name), *(str(count) for count in row))
            parts.append(matrix)
        return to_text(*parts, width=width)

    def __str__(self) -> str:
        if self.outputs:
            return "\n".join(f"{name}: {metrics}" for name, metrics in self.outputs.items())
        low, high = self.interval or (math.nan, math.nan)
        if self.task == "regression":
            interval = f" [{significant(low)}, {significant(high)}]" if self.interval else ""
            figures = f"MSE {significant(self.mse)}{interval}, MAE {significant(self.mae)}, R2 {number(self.r2, 4)}"
        else:
            interval = f" [{number(100 * low, 2)}, {number(100 * high, 2)}]" if self.interval else ""
            figures = (
                f"accuracy {number(100 * (self.accuracy or 0), 2)} %{interval}, macro F1 {number(self.macro_f1, 4)}, "
                f"ROC-AUC {number(self.roc_auc, 4)}"
            )
        return f"{figures} ({self.samples:,} samples, {self.task})"
