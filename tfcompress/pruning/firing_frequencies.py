"""How often channels fire on data: counted behind the activation of the layers that make them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.channels import Analysis, ChannelGroup, elementwise_rules, shape_rules
from tfcompress.channels.rule_table import rule_of
from tfcompress.core.keras_private import producer
from tfcompress.core.passthrough import innermost
from tfcompress.core.replicas import predict_on_batch
from tfcompress.data.model_batches import batches
from tfcompress.graph.index import GraphIndex, index_of
from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.graph.naming import free
from tfcompress.graph.own_weights import Parameter
from tfcompress.graph.recursion_limit import functional
from tfcompress.graph.stateful_layers import beginning
from tfcompress.pruning.gradient_statistics import Evidence

Tensor = Any

_PASSED = {
    *(elementwise_rules.unary, elementwise_rules.nary, elementwise_rules.batch_normalization, elementwise_rules.prelu),
    *(elementwise_rules.rescaling, elementwise_rules.normalization),
    *(
        shape_rules.flatten,
        shape_rules.reshape,
        shape_rules.permute,
        shape_rules.expand_dims,
        shape_rules.squeeze,
        shape_rules.concatenate,
    ),
    *(shape_rules.repeat, shape_rules.repeat_vector),
}
"""The rules of what looks at each value by itself, or moves values about: an activation is behind all of it."""


def gather_frequencies(
    model: keras.Model, analysis: Analysis, groups: Sequence[ChannelGroup], evidence: Evidence
) -> dict[str, np.ndarray]:
    """Return how often each channel of some groups is above 0.

    It is counted at each position, in all calls, where what follows the layers that make the channels is no more an
    activation or the like, but pools them, reduces them or reads them with weights.

    Args:
        model: A flat functional model.
        analysis: That of the model.
        groups: Of the analysis.
        evidence: Its data are as for `tfcompress.calibrate`, or a tuple whose first part is.

    Returns:
        {group's name: float32 vector with a share in [0, 1] for each channel}.

    Raises:
        ValueError: If a group has no such place, if there is no batch, or one doesn't fit the model.
    """
    number = {group.name: index for index, group in enumerate(analysis.groups)}
    made = index_of(model)
    places = {group.name: list(_places(made, analysis, group, number[group.name])) for group in groups}
    for group in groups:
        if group.kind != "channel" or not places[group.name]:
            raise ValueError(
                f"Expected channels that a convolution or dense layer makes. Received: {group.name!r}, of whose "
                "activations nothing is known. Leave it out of `layers`, or take another criterion."
            )
    probed = list({(id(x), axis): (x, axis) for found in places.values() for x, axis in found}.values())
    shares = _shares(model, probed, evidence)
    by_place = {(id(x), axis): share for (x, axis), share in zip(probed, shares, strict=True)}
    found = {}
    group_of, channel_of = analysis.channels
    for group in groups:
        fired, indices = np.zeros(group.size), np.zeros(group.size)
        for x, axis in places[group.name]:
            labels = np.asarray(analysis.axes[id(x)][axis])
            mine = (labels >= 0) & (group_of[labels] == number[group.name])
            np.add.at(fired, channel_of[labels[mine]], by_place[id(x), axis][mine])
            np.add.at(indices, channel_of[labels[mine]], 1)
        found[group.name] = (fired / indices).astype("float32")
    return found


def _places(made: GraphIndex, analysis: Analysis, group: ChannelGroup, number: int) -> Iterator[tuple[Tensor, int]]:
    """Yield the tensors behind the activations of a group's channels, and the axis along which these lie."""
    group_of, _ = analysis.channels

    def axis_of(x: Tensor) -> int | None:
        for axis, labels in enumerate(analysis.axes[id(x)]):
            if axis and labels is not None and np.any((labels >= 0) & (group_of[labels] == number)):
                return axis
        return None

    waiting = [
        x
        for call in made
        if call.operation.name in group.producers and not isinstance(innermost(call.operation), Parameter)
        for x in call.outputs
    ]
    seen: set[int] = set()
    while waiting:
        x = waiting.pop(0)
        axis = axis_of(x)
        if axis is None or id(x) in seen:
            continue
        seen.add(id(x))
        read_by = made.readers(x)
        passed = [call for call in read_by if rule_of(call.operation) in _PASSED]
        if len(passed) < len(read_by):
            yield x, axis
        waiting += [output for call in passed for output in call.outputs]


def _shares(model: keras.Model, places: Sequence[tuple[Tensor, int]], evidence: Evidence) -> list[np.ndarray]:
    """Return, for each index of an axis of a tensor, the share of samples and positions that are above 0."""
    inputs = graph_of(model).input
    names = {operation.name for operation in graph_of(model).operations}
    fires = []
    for x, axis in places:
        fires.append(_Firing(axis, free("firing", names))(x))
        names.add(producer(fires[-1]).name)
    probe = functional(inputs, fires)
    sums = [np.zeros(x.shape[axis]) for x, axis in places]
    seen = 0
    data = evidence.data[0] if isinstance(evidence.data, tuple) else evidence.data
    with beginning(probe):
        for batch in batches(model, data, evidence.batch_size):
            # A ReLU makes zeros of NaN: what is wrong isn't seen behind it.
            if any(np.issubdtype(part.dtype, np.floating) and not np.isfinite(part).all() for part in batch):
                raise ValueError("Expected finite data. Received: NaN or infinite values in a batch of `data`.")
            outputs = predict_on_batch(probe, keras.tree.pack_sequence_as(inputs, batch))
            for (x, _), total, output in zip(places, sums, keras.tree.flatten(outputs), strict=True):
                value = np.asarray(output)
                if np.isnan(value).any():
                    name = producer(x).name
                    raise ValueError(
                        f"Expected finite activations. Received: NaN behind layer {name!r}. Look at the weights."
                    )
                np.add(total, value.sum(axis=0, dtype="float64"), out=total)
            seen += len(batch[0])
    return [total / seen for total in sums]


class _Firing(keras.layers.Layer):
    """Gives, for each sample, the share of positions at which each index of an axis is above 0; NaN stays."""

    def __init__(self, axis: int, name: str):
        super().__init__(name=name, dtype="float32")
        self.axis = axis

    def call(self, x: Tensor) -> Tensor:
        x = ops.cast(x, "float32")
        fires = ops.where(ops.isnan(x), x, ops.cast(x > 0, "float32"))
        over = [at for at in range(1, len(x.shape)) if at != self.axis]
        return ops.mean(fires, axis=over) if over else fires
