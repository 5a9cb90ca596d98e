"""What a model has again and again, written once in an ONNX file, as functions.

Nodes that follow each other in the same way at several places become one call, as in Re-Pair (Larsson & Moffat, 2000):
the most frequent pair of neighbours is joined, again and again, and what makes the smallest file is written.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tfcompress.export.onnx.container import short_names
from tfcompress.export.onnx.functions import DOMAIN, add
from tfcompress.export.onnx.node_index import captures, index_of, inner_graphs
from tfcompress.export.onnx.weights.folding import computed_of_constants

FOLLOWS = {"QuantizeLinear": None, "Relu": None, "Clip": None, "DequantizeLinear": "QuantizeLinear"}
"""{operator: what it may be joined with} of what is computed of inputs; `None`: anything. All others stay tensors of
the file, which can be looked at: what layers make."""

Unit = tuple[Any, ...]
"""Nodes that are one call, each behind those that it reads; the last one makes what others read."""


def write_once(proto: Any) -> None:
    """Let functions do what several groups of nodes do, where the file gets smaller by it, in place.

    Args:
        proto: An `onnx.ModelProto`; nodes have no names, and no attributes that say what is so anyway.
    """
    writer = _Writer(proto)
    units: list[Unit] = [(node,) for node in proto.graph.node]
    joints = list(_joints(proto.graph))
    least, best = writer.size(units), units
    while joints:
        units, joints = _joined(units, joints)
        size = writer.size(units)
        if size < least:
            least, best = size, units
    nodes, functions = writer.written(best)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    add(proto, functions)


def _joints(graph: Any) -> Iterator[str]:
    """Yield the tensors that may be inside of a function: one node makes them and nothing else, one reads them."""
    index = index_of(graph)
    constant = {name for node in computed_of_constants(graph) for name in node.output}
    for node in graph.node:
        name = node.output[0]
        readers = list(index.readers(name))
        if len(node.output) > 1 or len(readers) != 1 or index.is_output(name) or any(inner_graphs(node)):
            continue
        reader = readers[0]
        if len(reader.output) > 1 or any(inner_graphs(reader)) or list(reader.input).count(name) > 1:
            continue
        if name in constant or FOLLOWS.get(reader.op_type, "") in (None, node.op_type):
            yield name


def _joined(units: list[Unit], joints: list[str]) -> tuple[list[Unit], list[str]]:
    """Return the units, the most frequent pair of neighbours joined; and the tensors that may be joined at yet."""
    makers = {unit[-1].output[0]: unit for unit in units}
    readers = {name: unit for unit in units for node in unit for name in node.input}
    kinds: dict[Any, list[str]] = collections.defaultdict(list)
    forms = {id(unit): _form(unit) for unit in units}
    for name in joints:
        maker, reader = makers[name], readers[name]
        place = _inputs(reader).index(name)
        kinds[forms[id(maker)], forms[id(reader)], place].append(name)
    chosen = max(kinds.values(), key=len)
    if len(chosen) < 2:
        return units, []
    made: dict[int, Unit] = {}  # by the `id` of the unit that read
    gone: set[int] = set()
    done: set[str] = set()
    for name in chosen:
        maker, reader = makers[name], readers[name]
        if not any(id(unit) in gone or id(unit) in made for unit in (maker, reader)):
            made[id(reader)] = (*maker, *reader)
            gone.add(id(maker))
            done.add(name)
    return [made.get(id(unit), unit) for unit in units if id(unit) not in gone], [x for x in joints if x not in done]


def _inputs(unit: Unit) -> list[str]:
    """Return what a unit reads of others, each once."""
    own = {node.output[0] for node in unit}
    return list(dict.fromkeys(name for node in unit for name in node.input if name and name not in own))


def _form(unit: Unit) -> Any:
    """Return what units have in common that one function can stand for: all but lists of numbers, its attributes."""
    places = {name: place for place, name in enumerate(_inputs(unit))}
    places |= {node.output[0]: -1 - place for place, node in enumerate(unit)}
    return tuple(
        (
            node.domain,
            node.op_type,
            tuple(places.get(name) for name in node.input),
            tuple(sorted(x.SerializeToString() for x in node.attribute if x.type != x.INTS)),
        )
        for node in unit
    )


class _Writer:
    """Nodes and functions of units, and how many bytes they take.

    Args:
        proto: An `onnx.ModelProto`.
    """

    def __init__(self, proto: Any) -> None:
        self.versions = {entry.domain: entry.version for entry in proto.opset_import} | {DOMAIN: 1}
        self.taken = {made.name for made in proto.functions}
        self._sizes: dict[tuple[int, ...], tuple[int, bool]] = {}

    def size(self, units: Iterable[Unit]) -> int:
        """Return the bytes of all nodes and new functions."""
        return sum(self._size(group)[0] for group in _groups(units))

    def _size(self, group: Sequence[Unit]) -> tuple[int, bool]:
        """Return the bytes of units of one form, and whether a function makes them less."""
        key = tuple(id(node) for unit in group for node in unit)
        if key not in self._sizes:
            size = plain = sum(_bytes(node) for unit in group for node in unit)
            if len(group) > 1 and all(len(node.output) == 1 and not any(captures(node)) for node in group[0]):
                function, calls = self._function("f", group)
                size = _bytes(function) + sum(map(_bytes, calls))
            self._sizes[key] = min(plain, size), size < plain
        return self._sizes[key]

    def written(self, units: Sequence[Unit]) -> tuple[list[Any], list[Any]]:
        """Return the nodes of the file, and the functions that they call."""
        names = (name for name in short_names() if name not in self.taken)
        functions: list[Any] = []
        instead: dict[int, Unit] = {}
        for group in _groups(units):
            if self._size(group)[1]:
                function, calls = self._function(next(names), group)
                functions.append(function)
                instead.update((id(unit), (call,)) for unit, call in zip(group, calls, strict=True))
        return [node for unit in units for node in instead.get(id(unit), unit)], functions

    def _function(self, name: str, group: Sequence[Unit]) -> tuple[Any, list[Any]]:
        """Return the function for units of one form, and a call for each; its attributes are called a, b, ..."""
        import onnx

        first, attributes = group[0], short_names()
        made = onnx.FunctionProto(name=name, domain=DOMAIN)
        calls = [onnx.NodeProto(op_type=name, domain=DOMAIN, input=_inputs(x), output=x[-1].output) for x in group]
        letters = dict(zip([*_inputs(first), *(node.output[0] for node in first)], short_names(), strict=False))
        made.input.extend(letters[x] for x in _inputs(first))
        made.output.append(letters[first[-1].output[0]])
        for domain in sorted({node.domain for node in first}):
            entry = made.opset_import.add(version=self.versions[domain])
            if domain:
                entry.domain = domain
        for place, node in enumerate(first):
            inside = made.node.add(op_type=node.op_type, input=[letters.get(x, "") for x in node.input])
            inside.output.append(letters[node.output[0]])
            if node.domain:
                inside.domain = node.domain
            given = [{x.name: x for x in unit[place].attribute} for unit in group]
            for key in sorted(set().union(*given)):
                values = [one.get(key) for one in given]
                if all(value == values[0] for value in values):
                    inside.attribute.append(values[0])
                    continue
                letter = next(attributes)
                inside.attribute.add(name=key, type=onnx.AttributeProto.INTS, ref_attr_name=letter)
                made.attribute.append(letter)
                for call, value in zip(calls, values, strict=True):
                    if value is not None:
                        call.attribute.append(value)
                        call.attribute[-1].name = letter
        return made, calls


def _groups(units: Iterable[Unit]) -> list[list[Unit]]:
    """Return the units of each form."""
    groups: dict[Any, list[Unit]] = collections.defaultdict(list)
    for unit in units:
        groups[_form(unit)].append(unit)
    return list(groups.values())


def _bytes(message: Any) -> int:
    """Return the bytes of a node or a function in a file, where its tag and length stand before it."""
    size: int = message.ByteSize()
    return size + 2 + (size > 127) + (size > 16383)
