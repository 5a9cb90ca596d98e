"""A model run on data layer by layer, while what is visited changes its variables."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
from keras import layers as L
from keras import ops

from tfcompress.core.keras_private import flatten_layers, run_through_graph, seed_generators
from tfcompress.core.transform import read
from tfcompress.graph.flat_graph import caller
from tfcompress.graph.inputs.symbolic import graph_of, is_graph
from tfcompress.graph.rewrite import calls
from tfcompress.graph.stateful_layers import beginning

Call = Callable[..., Any]
"""Calls a layer or operation."""

KEPT = 2**29
"""Bytes of activations that may be kept between two passes; where it would be more, they are computed again."""


def check_graph(model: Any) -> None:
    """Raise ValueError unless a model is functional."""
    if not isinstance(model, keras.Model) or not is_graph(model):
        raise ValueError(
            f"Expected a functional model. Received: {model!r} of type {type(model).__name__}. Make one of it with "
            "tfcompress.graph.rebuild."
        )


def run(
    model: keras.Model,
    batch: list[Any],
    visit: Callable[[Any, Call, Any, Any], Any],
    training: bool = False,
    number: int = 0,
) -> None:
    """Run a batch through a graph, in inference by default, each layer called by `visit(layer, call, ...)`.

    What layers draw is that of the batch's `number`.
    """
    graph = graph_of(model)
    times: Counter[int] = Counter()

    def operation_fn(operation: Any) -> Call:
        call = seeded(operation, caller(operation, training), number, times[id(operation)])
        times[id(operation)] += 1
        return lambda *args, **kwargs: visit(operation, call, args, kwargs)

    run_through_graph(graph, _tensors(graph, batch), operation_fn=operation_fn)


def _tensors(graph: Any, batch: list[Any]) -> list[Any]:
    return [ops.convert_to_tensor(x, dtype=declared.dtype) for x, declared in zip(batch, graph.inputs, strict=True)]


def seeded(operation: Any, call: Call, batch: int, time: int) -> Call:
    """Return what calls a layer so that it draws the same in a model and in what it was quantized to.

    Args:
        operation: The layer; its name says what it draws.
        call: What calls it.
        batch: The number of the batch.
        time: How many calls of the layer with that batch are before this one.
    """
    if not isinstance(operation, L.Layer):
        return call
    states = [seed.state for layer in flatten_layers(operation) for seed in seed_generators(layer)]
    if not states:
        return call
    # A layer that gave its name to the quantizer of an output has another since.
    name = zlib.crc32(operation.name.removesuffix("_linear").encode()) >> 1

    def seeded_call(*args: Any, **kwargs: Any) -> Any:
        for place, state in enumerate(states):
            state.assign([name + place, 1000 * batch + 100 * time])
        return call(*args, **kwargs)

    return seeded_call


def in_stages(
    model: keras.Model,
    data: Iterable[list[Any]],
    operations: Sequence[Any],
    measure: Callable[[Any, Call, Any, Any], None],
    adjust: Callable[[Any], None],
) -> None:
    """Run all of the data up to one layer after the other, in inference, each time with those before it settled.

    So what is found does not depend on how the data is cut into batches or ordered. What reaches the layers that
    are still to come is kept from stage to stage, up to `KEPT` bytes.

    Args:
        model: A flat functional model.
        data: Its batches; they are kept.
        operations: Layers of the model.
        measure: `measure(operation, call, args, kwargs)` looks at one call of one of them, with one batch.
        adjust: `adjust(operation)` changes it, after all its calls with all batches.
    """
    graph, made, wanted = graph_of(model), calls(model), {id(operation) for operation in operations}
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for place, call in enumerate(made):
        if id(call.operation) in wanted:
            first.setdefault(id(call.operation), place)
            last[id(call.operation)] = place
    before: Counter[int] = Counter()
    time = []  # how many calls of its layer are before each
    for call in made:
        time.append(before[id(call.operation)])
        before[id(call.operation)] += 1
    order = sorted(last, key=lambda key: last[key])
    states = [dict(zip(map(id, graph.inputs), _tensors(graph, batch), strict=True)) for batch in data]
    start = 0
    for number, key in enumerate(order):
        # The calls before the first one that is not settled need not be made again.
        settled = min(first[other] for other in order[number:])
        stop = last[key] + 1
        read_later = {id(x) for call in made[settled:] for x in call.inputs}
        kept: list[dict[int, Any]] | None = []
        size = 0
        with beginning(model):
            for batch, state in enumerate(states):
                tensors = dict(state)
                for place in range(start, stop):
                    if place == settled and kept is not None:
                        kept.append({name: x for name, x in tensors.items() if name in read_later})
                        size += sum(map(_bytes, kept[-1].values()))
                        kept = kept if size <= KEPT else None
                    call = made[place]
                    args, kwargs = call.node.arguments.fill_in(tensors)
                    made_by = seeded(call.operation, caller(call.operation), batch, time[place])
                    if id(call.operation) == key:
                        measure(call.operation, made_by, args, kwargs)
                    if place < stop - 1:
                        outputs = keras.tree.flatten(made_by(*args, **kwargs))
                        tensors.update(zip(map(id, call.outputs), outputs, strict=True))
        adjust(made[last[key]].operation)
        if kept is not None and settled > start:
            states, start = kept, settled


def _bytes(x: Any) -> int:
    return 4 * math.prod(x.shape)


@contextlib.contextmanager
def only_moving(model: keras.Model, moving: list[keras.Variable]) -> Iterator[None]:
    """Put all state but that in `moving` back at the end of the block, and that too if it fails."""
    ids = {id(variable) for variable in moving}
    before = [(variable, read(variable)) for variable in moving]
    state = [(variable, read(variable)) for variable in model.non_trainable_variables if id(variable) not in ids]
    try:
        yield
    except BaseException:
        for variable, value in before:
            variable.assign(value)
        raise
    finally:
        for variable, value in state:
            variable.assign(value)
