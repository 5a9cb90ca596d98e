"""Values of ONNX constants in a file of their own beside the model: protobuf holds no more than 2 GB.

The model's file says of each such constant in which file (by name, so both can be moved together), where and how long
its values are; ONNX Runtime reads them from there.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any

ALIGNMENT = 4096
"""Bytes: a runtime can then map the values into memory where they stand."""

LEAST_BYTES = 1024
"""Smaller constants stay in the model's file: shapes and axes must."""


def data_file(path: pathlib.Path) -> pathlib.Path:
    """Return the file in which a `.onnx` file that is written here has its values outside.

    >>> data_file(pathlib.Path("m.onnx")).name
    'm.onnx.data'
    """
    return path.with_name(f"{path.name}.data")


def move_out(proto: Any, path: pathlib.Path) -> None:
    """Write the values of a model's constants to `data_file(path)`, and take them out of the model.

    Args:
        proto: an `onnx.ModelProto`, changed in place; written to `path` it reads them from there.
        path: of the model.
    """
    from onnx.external_data_helper import set_external_data

    beside = data_file(path)
    with open(beside, "xb") as file:
        for tensor in tensors(proto.graph):
            values = tensor.raw_data if tensor.HasField("raw_data") else b""
            if len(values) < LEAST_BYTES:
                continue
            offset = -(-file.tell() // ALIGNMENT) * ALIGNMENT
            file.write(bytes(offset - file.tell()))
            file.write(values)
            set_external_data(tensor, beside.name, offset, len(values))
            tensor.ClearField("raw_data")


def tensors(graph: Any) -> Iterator[Any]:
    """Yield the constants of an `onnx.GraphProto` and of the graphs in it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from tensors(inner)


def external_files(path: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Return the files beside a `.onnx` file that hold some of its tensors."""
    import onnx

    return outside(onnx.load(os.fspath(path), load_external_data=False), path)


def whole(path: pathlib.Path) -> list[pathlib.Path]:
    """Return a model's file, of either format, and those that hold some of its tensors."""
    return [path, *(external_files(path) if path.suffix.lower() == ".onnx" else ())]


def outside(proto: Any, path: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Return the files that hold some of the tensors of an `onnx.ModelProto` which was read from `path`."""
    folder = pathlib.Path(os.path.realpath(path)).parent
    places = {
        entry.value for tensor in tensors(proto.graph) for entry in tensor.external_data if entry.key == "location"
    }
    return [folder / name for name in sorted(places)]


def read(path: str | os.PathLike[str]) -> Any:
    """Return a `.onnx` file as an `onnx.ModelProto` with all values in it.

    Raises:
        FileNotFoundError: a file that holds some of its values isn't there.
    """
    import onnx

    proto = onnx.load(os.fspath(path), load_external_data=False)
    check_outside(proto, path)
    onnx.external_data_helper.load_external_data_for_model(proto, os.path.dirname(os.path.realpath(path)))
    return proto


def raw_values(tensor: Any, path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a constant of the model that was read from `path`, wherever they stand."""
    import onnx

    if onnx.external_data_helper.uses_external_data(tensor):
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        onnx.external_data_helper.load_external_data_for_tensor(copy, os.path.dirname(os.path.realpath(path)))
        tensor = copy
    values: bytes = tensor.raw_data
    return values


def check_outside(proto: Any, path: str | os.PathLike[str]) -> None:
    """Refuse a model whose values are not all where it says.

    Args:
        proto: as read from `path`.
        path: of the model.

    Raises:
        FileNotFoundError: a file that holds some of them isn't there.
        ValueError: it is too short.
    """
    sizes: dict[str, int] = {}
    for file in outside(proto, path):
        if not file.is_file():
            raise FileNotFoundError(
                f"Expected weights of {os.fspath(path)!r} in {str(file)!r}. Received: no such file. The two belong "
                "together: copy or move both into one folder, and leave the second its name."
            )
        sizes[os.fspath(file)] = file.stat().st_size
    folder = pathlib.Path(os.path.realpath(path)).parent
    for tensor in tensors(proto.graph):
        place = {entry.key: entry.value for entry in tensor.external_data}
        end = int(place.get("offset", 0)) + int(place.get("length", 0))
        if place and end > (have := sizes[os.fspath(folder / place["location"])]):
            raise ValueError(
                f"Expected {end:,} bytes of weights in {place['location']!r}, beside {os.fspath(path)!r}. Received: "
                f"{have:,} bytes: half a copy, or what belongs to another model. Copy both files again."
            )
