"""What the layers of a report are found from, when it is written."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import keras
import numpy as np

from tfcompress.evaluation.file_changes import KerasSide, file_changes
from tfcompress.evaluation.layer_changes import LayerChanges
from tfcompress.evaluation.model_changes import model_changes
from tfcompress.quantization.quantize import is_quantized


@dataclasses.dataclass(frozen=True, eq=False)
class LayerSource:
    """The candidates that are looked into, and a few samples.

    Attributes:
        models: {candidate: Keras model, or path of a file}, in the order of the report.
        inputs: a few samples, by the input names of the Keras models; of files alone by theirs.
    """

    models: Mapping[str, keras.Model | str | os.PathLike[str]]
    inputs: Mapping[str, np.ndarray]

    def changes(self, baseline: str) -> tuple[LayerChanges, ...]:
        """Return the changes of each candidate to the baseline; where that is no Keras model, to the first float one.

        Of files without a Keras model beside them it is said what they hold.
        """
        models = {name: model for name, model in self.models.items() if isinstance(model, keras.Model)}
        floats = [name for name, model in models.items() if not is_quantized(model)]
        reference = baseline if baseline in models else next(iter(floats), None)
        compared_with = None if reference is None else (reference, models[reference])
        sides = [KerasSide(name, model) for name, model in models.items()]
        float_side = next((side for side in sides if side.name == reference), None) if reference in floats else None
        found = []
        for name, model in self.models.items():
            if not isinstance(model, keras.Model):
                found.append(file_changes((name, model), float_side, sides, self.inputs))
            elif compared_with is not None and name != reference:
                found.append(model_changes((name, model), compared_with, self.inputs))
        return tuple(found)
