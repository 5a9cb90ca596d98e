"""What makes each tensor of a graph and what reads it: found once, and asked by all that look at the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from tfcompress.graph.rewrite import Call, calls


class GraphIndex(Sequence[Call]):
    """The calls of a flat graph, in an order in which they can be made, and what connects them.

    Args:
        made: The calls.
        outputs: The tensors that the graph returns.

    Example:

    >>> x = keras.Input((2,), name="x")
    >>> y = keras.layers.Dense(2, name="dense")(x)
    >>> graph = index_of(keras.Model(x, [y, keras.layers.ReLU(name="relu")(y)]))
    >>> graph.producer(y).operation.name, [call.operation.name for call in graph.readers(y)]
    ('dense', ['relu'])
    >>> graph.producer(x), graph.only_reader(x) is graph[0], graph.only_reader(y)
    (None, True, None)
    """

    def __init__(self, made: Iterable[Call], outputs: Iterable[Any] = ()):
        self._calls = tuple(made)
        self._producers = {id(x): call for call in self._calls for x in call.outputs}
        self._readers: dict[int, list[Call]] = {}
        for call in self._calls:
            for x in call.inputs:
                self._readers.setdefault(id(x), []).append(call)
        self._outputs = {id(x) for x in outputs}
        self._times = Counter(id(call.operation) for call in self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, place: Any) -> Any:
        return self._calls[place]

    def producer(self, x: Any) -> Call | None:
        """Return the call that makes a tensor; `None` of an input of the graph."""
        return self._producers.get(id(x))

    def readers(self, x: Any) -> Sequence[Call]:
        """Return the calls that read a tensor, one that reads it twice twice."""
        return self._readers.get(id(x), ())

    def readers_of_call(self, call: Call) -> list[Call]:
        """Return the calls that read what a call makes."""
        return [reader for x in call.outputs for reader in self.readers(x)]

    def only_reader(self, x: Any) -> Call | None:
        """Return the one call that reads a tensor; `None` if there are others, or none, or it is an output."""
        readers = self.readers(x)
        return readers[0] if len(readers) == 1 and not self.is_output(x) else None

    def is_output(self, x: Any) -> bool:
        """Return whether the graph returns a tensor."""
        return id(x) in self._outputs

    def times(self, operation: Any) -> int:
        """Return how many calls of a layer or operation there are."""
        return self._times[id(operation)]


def index_of(model: keras.Model) -> GraphIndex:
    """Return the index of a flat functional model."""
    return GraphIndex(calls(model), model.outputs)
