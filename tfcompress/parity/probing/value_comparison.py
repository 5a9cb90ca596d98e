"""A model beside a file: which tensors are the same, found by their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.graph.recursion_limit import functional
from tfcompress.parity.probing.axis_order import in_order, laid_alike
from tfcompress.parity.probing.file_tensors import FileTensor, Observer
from tfcompress.parity.probing.model_tensors import probes
from tfcompress.parity.probing.tensor_comparison import outputs_of, together
from tfcompress.parity.probing.tensor_matching import fits
from tfcompress.parity.probing.values import Values

LEAST = 6.0
"""dB from which on a tensor of the file may be one of the model: those of others differ by 0 or less."""

BESIDE = 1.0
"""dB within which several tensors of the model, one the other in another shape, are the same one of the file."""

SAMPLES = 8
"""That tensors are told apart by."""

SPREAD = 3.0
"""By which factor the standard deviation of a tensor may be another in the file."""


class ValueComparison:
    """A model beside a file that computes much the same, whichever model that was made from.

    Names alone don't say which tensor of such a file is which of the model: an operator of the file may do the work of
    several layers, and is called as the first of them.

    Args:
        model: flat.
        observer: the file.

    Attributes:
        probes: the tensors of the model.
        tensors: {place of a probe: the tensor of the file}, once there was a batch.
    """

    def __init__(self, model: keras.Model, observer: Observer):
        self.observer = observer
        self.probes = probes(model)
        self.tensors: dict[int, FileTensor] = {}
        self._orders: dict[int, tuple[int, ...] | None] = {}
        self._model = functional(graph_of(model).inputs, [probe.tensor for probe in self.probes])
        real = (tensor for tensor in observer.tensors if tensor.real_numbers)
        found = {tensor.key: tensor for tensor in (observer.rounded.get(tensor.key, tensor) for tensor in real)}
        inputs = {tensor.key for tensor in observer.inputs.values()}
        self._candidates = [tensor for key, tensor in found.items() if key not in inputs]

    def run(
        self, keras_inputs: Sequence[Any], file_inputs: Sequence[Mapping[str, np.ndarray]]
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Run both on a batch; yield the place of each probe that the file has, its tensor, and that of the file.

        Args:
            keras_inputs: in the order of the model's.
            file_inputs: the same samples in as many batches as the file takes them in, each by the names of its inputs.
        """
        ours = outputs_of(self._model, keras_inputs)
        first = not self._orders
        wanted = self._candidates if first else list({x.key: x for x in self.tensors.values()}.values())
        theirs = together(wanted, [self.observer.run(batch, wanted) for batch in file_inputs], file_inputs[0])
        if first:
            self._match(ours, theirs)
        for place, tensor in self.tensors.items():
            laid = in_order(theirs[tensor.key], self._orders[place]).reshape(ours[place].shape)
            yield place, ours[place], laid

    def _match(self, ours: Sequence[np.ndarray], theirs: Mapping[Any, np.ndarray]) -> None:
        """Find for each probe the tensor that is most like it, unless that is clearly more like another probe."""
        best: dict[int, tuple[float, FileTensor]] = {}
        most: dict[Any, float] = {}
        spreads = {key: float(value[:SAMPLES].std()) for key, value in theirs.items()}
        for place, probe in enumerate(self.probes):
            reference = ours[place][:SAMPLES]
            spread = float(reference.std())
            for tensor in self._candidates:
                value = theirs[tensor.key]
                if value.size != ours[place].size or not fits(probe, tensor):
                    continue
                if not spread / SPREAD <= spreads[tensor.key] <= spread * SPREAD:
                    continue
                found = laid_alike(value, ours[place])
                if found is None:
                    continue
                values = Values(None)
                values.add(reference, found[1][:SAMPLES])
                likeness = np.inf if values.sqnr is None else values.sqnr
                most[tensor.key] = max(likeness, most.get(tensor.key, LEAST))
                if likeness >= LEAST and (place not in best or likeness > best[place][0]):
                    best[place] = (likeness, tensor)
                    self._orders[place] = found[0]
        for place, (likeness, tensor) in best.items():
            if likeness >= most[tensor.key] - BESIDE:
                self.tensors[place] = tensor
