"""What makes each tensor of a graph and what reads it: found once, and asked by all that look at the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import keras

from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.rewrite import Call, calls

Operator = TypeVar("Operator")
Tensor = TypeVar("Tensor", bound=Hashable)

NOT_GIVEN = ("", -1)
"""What an ONNX and a TFLite file have in the place of an optional tensor that isn't there."""


class TensorIndex(Generic[Operator, Tensor]):
    """What makes each tensor of any graph, what reads it, and at which of its inputs.

    Whoever makes the index says how a tensor is known: in Keras by its `id`, in a TFLite file by its number, in an
    ONNX file by its name. Whoever changes the graph says it here too, so that the index stays right.

    Args:
        operators: Each with the tensors that it reads, in their places, and those that it makes.
        outputs: The tensors that the graph returns.

    Example:

    >>> index = TensorIndex([("conv", ["image", "kernel", ""], ["x"]), ("square", ["x", "x"], ["y"])], outputs=["y"])
    >>> index.producer("x"), index.producer("image"), index.readers("x"), index.readings("kernel")
    ('conv', None, ['square', 'square'], [('conv', 1)])
    >>> index.set_input("square", 0, "x", "image")
    >>> index.only_reader("x"), index.only_reader("y"), index.readers("image")
    ('square', None, ['conv', 'square'])
    """

    def __init__(
        self,
        operators: Iterable[tuple[Operator, Iterable[Tensor], Iterable[Tensor]]] = (),
        outputs: Iterable[Tensor] = (),
    ):
        self._producers: dict[Tensor, Operator] = {}
        self._readings: dict[Tensor, dict[tuple[int, int], Operator]] = {}  # by `id` of the operator, and place
        self._outputs = set(outputs)
        for operator, read, made in operators:
            self.add(operator, read, made)

    def producer(self, x: Tensor) -> Operator | None:
        """Return the operator that makes a tensor; `None` of an input or constant of the graph."""
        return self._producers.get(x)

    def readers(self, x: Tensor) -> list[Operator]:
        """Return the operators that read a tensor, one that reads it twice twice."""
        return list(self._readings.get(x, {}).values())

    def readings(self, x: Tensor) -> list[tuple[Operator, int]]:
        """Return the operators that read a tensor, each with the place among its inputs."""
        return [(operator, place) for (_, place), operator in self._readings.get(x, {}).items()]

    def only_reader(self, x: Tensor) -> Operator | None:
        """Return the one operator that reads a tensor; `None` if there are others, or none, or it is an output."""
        readers = self.readers(x)
        return readers[0] if len(readers) == 1 and not self.is_output(x) else None

    def is_output(self, x: Tensor) -> bool:
        """Return whether the graph returns a tensor."""
        return x in self._outputs

    def add(self, operator: Operator, read: Iterable[Tensor], made: Iterable[Tensor]) -> None:
        """Say that there is an operator more, which reads and makes tensors."""
        self._producers.update((x, operator) for x in made if x not in NOT_GIVEN)
        for place, x in enumerate(read):
            if x not in NOT_GIVEN:
                self._readings.setdefault(x, {})[id(operator), place] = operator

    def remove(self, operator: Operator, read: Iterable[Tensor], made: Iterable[Tensor]) -> None:
        """Say that an operator is gone, which read and made tensors."""
        for x in made:
            if self._producers.get(x) is operator:
                del self._producers[x]
        for place, x in enumerate(read):
            self._readings.get(x, {}).pop((id(operator), place), None)

    def set_input(self, operator: Operator, place: int, old: Tensor, new: Tensor) -> None:
        """Say that an operator reads another tensor in a place."""
        self._readings.get(old, {}).pop((id(operator), place), None)
        if new not in NOT_GIVEN:
            self._readings.setdefault(new, {})[id(operator), place] = operator

    def set_output(self, old: Tensor, new: Tensor) -> Operator:
        """Say that what made a tensor makes another one in its place; return that operator."""
        self._producers[new] = self._producers.pop(old)
        return self._producers[new]


class GraphIndex(Sequence[Call]):
    """The calls of a flat graph of Keras, in an order in which they can be made, and what connects them.

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
        called = ((call, map(id, call.inputs), map(id, call.outputs)) for call in self._calls)
        self._tensors: TensorIndex[Call, int] = TensorIndex(called, map(id, outputs))
        self._times = Counter(id(call.operation) for call in self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, place: Any) -> Any:
        return self._calls[place]

    def producer(self, x: Any) -> Call | None:
        """Return the call that makes a tensor; `None` of an input of the graph."""
        return self._tensors.producer(id(x))

    def readers(self, x: Any) -> Sequence[Call]:
        """Return the calls that read a tensor, one that reads it twice twice."""
        return self._tensors.readers(id(x))

    def readers_of_call(self, call: Call) -> list[Call]:
        """Return the calls that read what a call makes."""
        return [reader for x in call.outputs for reader in self.readers(x)]

    def only_reader(self, x: Any) -> Call | None:
        """Return the one call that reads a tensor; `None` if there are others, or none, or it is an output."""
        return self._tensors.only_reader(id(x))

    def is_output(self, x: Any) -> bool:
        """Return whether the graph returns a tensor."""
        return self._tensors.is_output(id(x))

    def times(self, operation: Any) -> int:
        """Return how many calls of a layer or operation there are."""
        return self._times[id(operation)]


def index_of(model: keras.Model | FlatGraph) -> GraphIndex:
    """Return the index of a flat functional model, or graph."""
    return GraphIndex(calls(model), model.outputs)
