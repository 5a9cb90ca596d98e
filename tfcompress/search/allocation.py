"""Which layer gets what: the answer, as a table and as the configs that the verbs take."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import keras

from tfcompress.clustering import cluster
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.pruning.prune import prune, update_masks
from tfcompress.quantization.quantize import quantize
from tfcompress.quantization.quantize_config import QuantizeConfig
from tfcompress.recipes.steps import Cluster, Prune, Quantize, Step
from tfcompress.reports.json_document import Document
from tfcompress.reports.tables import significant, to_text
from tfcompress.search.choices import FLOAT, Choice


@dataclasses.dataclass(frozen=True)
class LayerAllocation:
    """What one layer gets, or several that share a weight.

    Attributes:
        layer: Its name; of several the first one's.
        layers: The names of all.
        choice: What it becomes.
        nbytes: {format: bytes of a file that its kernels take}.
        score: The expected rise of the loss.
        parameters: How many weights its kernels have.
        ms: Of one inference by itself; `None`: not measured.
    """

    layer: str
    layers: tuple[str, ...]
    choice: Choice
    nbytes: Mapping[str, int]
    score: float
    parameters: int
    ms: float | None = None


@dataclasses.dataclass(frozen=True)
class Allocation(Document):
    """What each layer of a model gets, so that a file keeps within a budget.

    Attributes:
        rows: One for each layer with a kernel, or for several that share a weight.
        nbytes: {format: bytes of the whole file}, measured of one that was exported without training.
        size: What was asked for; `None`: no size was.
        base: How layers are quantized but for the bits.
        gap: How much lower what is made small (the sum of scores; with `max_rise` that of bytes or of milliseconds)
            could be at most by other choices, as a share; 0: the best is proven, for the bytes that were counted.
        seconds: That the integer programme took, the last time.
    """

    rows: tuple[LayerAllocation, ...]
    nbytes: Mapping[str, int]
    size: int | None
    base: QuantizeConfig
    gap: float = 0.0
    seconds: float = 0.0

    @property
    def score(self) -> float:
        """The expected rise of the loss by all of it together."""
        return sum(row.score for row in self.rows)

    @property
    def mean_bits(self) -> float:
        """The mean width of the weights, those of a table counted as places in it."""
        widths = ((32 if row.choice.bits == FLOAT else min(row.choice.bits, 8), row.parameters) for row in self.rows)
        total = sum(row.parameters for row in self.rows)
        return sum(bits * count for bits, count in widths) / total

    @property
    def prune(self) -> LayerConfigs | None:
        """The config of `tfcompress.prune`; `None`: nothing is pruned."""
        return self._configs(lambda choice: choice.prune)

    @property
    def cluster(self) -> LayerConfigs | None:
        """The config of `tfcompress.cluster`; `None`: nothing is clustered."""
        return self._configs(lambda choice: choice.cluster)

    @property
    def quantize(self) -> LayerConfigs | None:
        """The config of `tfcompress.quantize`; `None`: all stays float."""
        if all(row.choice.bits == FLOAT for row in self.rows):
            return None
        named = {name: row.choice.quantize(self.base) for row in self.rows for name in row.layers}
        return LayerConfigs({re.escape(name): config for name, config in named.items()})

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of a recipe that prunes, clusters and quantizes so; what is to be trained goes between them."""
        given = ((Prune, self.prune), (Cluster, self.cluster), (Quantize, self.quantize))
        return tuple(kind(config=config) for kind, config in given if config is not None)

    def _configs(self, config_of: Callable[[Choice], Any]) -> LayerConfigs | None:
        """Return configs, each once, for the names of all layers that have it: a model is made anew for each."""
        named: list[tuple[Any, list[str]]] = []
        for row in self.rows:
            config = config_of(row.choice)
            alike = next((names for one, names in named if one == config), None)
            if alike is None:
                named.append((config, alike := []))
            alike.extend(map(re.escape, row.layers))
        found: dict[Any, Any] = {"|".join(names): config for config, names in named if config is not None}
        return LayerConfigs(found) if found else None

    def apply(self, model: keras.Model, data: Any = None, **how: Any) -> keras.Model:
        """Return the model with masks, values and widths as chosen, calibrated and without training.

        Args:
            model: That the allocation was made for.
            data: To calibrate with.
            **how: As for `tfcompress.quantize`, such as `batch_size`.
        """
        made = model
        if self.prune is not None:
            made = prune(made, self.prune)
            update_masks(made)
        if self.cluster is not None:
            made = cluster(made, self.cluster)
        if self.quantize is not None:
            made = quantize(made, self.quantize, data, **how)
        return made

    def table(self) -> str:
        """Return the rows as text, those that were given the most score first."""
        from rich import box
        from rich.table import Table

        formats = list(self.rows[0].nbytes)
        timed = any(row.ms is not None for row in self.rows)
        total = ", ".join(f"{count:,} bytes of .{kind}" for kind, count in self.nbytes.items())
        title = f"{total}; expected rise of the loss {significant(self.score)}"
        if self.gap:
            title += f"; not proven to be the best, which may be better by {100 * self.gap:.2g} %"
        table = Table(title=title, box=box.SIMPLE)
        for heading in ("layer", "weights", "choice", *formats, *(["ms"] if timed else []), "score"):
            table.add_column(heading, justify="left" if heading in ("layer", "choice") else "right")
        for row in self.rows:
            sizes = [f"{row.nbytes[kind]:,}" for kind in formats]
            ms = [] if not timed else [significant(row.ms)]
            table.add_row(
                ", ".join(row.layers), f"{row.parameters:,}", str(row.choice), *sizes, *ms, significant(row.score)
            )
        return to_text(table, width=120)

    def __str__(self) -> str:
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        configs = {"prune": self.prune, "cluster": self.cluster, "quantize": self.quantize}
        return {
            "version": 1,
            "size": self.size,
            "nbytes": dict(self.nbytes),
            "score": self.score,
            "gap": self.gap,
            "rows": [
                {**dataclasses.asdict(row), "choice": str(row.choice), "layers": list(row.layers)} for row in self.rows
            ],
            **{name: None if config is None else config.to_dict() for name, config in configs.items()},
        }
