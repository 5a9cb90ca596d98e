"""What the graphs of a TFLite file share: the codes of its operators, and the buffers of its constants."""

from __future__ import annotations

from typing import Any

import numpy as np


class FileTables:
    """A file in the schema's object form, with names for numbers.

    Args:
        content: Its bytes; they aren't changed.

    Attributes:
        model: The schema's object.
        schema: The generated module.
        types: {number of a tensor's type: its name}.
    """

    def __init__(self, content: bytes):
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self._names = _by_number(schema.BuiltinOperator)
        self.types = _by_number(schema.TensorType)
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        self._read = len(content)

    def name(self, op: Any) -> str:
        """Return what kind of operator `op` is, as in the schema; a custom one by the name that it was given."""
        code = self.model.operatorCodes[op.opcodeIndex]
        name = self._names[_number(code)]
        return name if name != "CUSTOM" or code.customCode is None else code.customCode.decode()

    def code(self, name: str, version: int) -> int:
        """Return the index of an operator's code, added where it is new."""
        number = getattr(self.schema.BuiltinOperator, name)
        for index, code in enumerate(self.model.operatorCodes):
            if self._names[_number(code)] == name and code.version == version:
                return index
        code = self.schema.OperatorCodeT()
        # Readers from before 2020 know the one field, which has room for 127 operators.
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def buffer(self, data: np.ndarray) -> int:
        """Add a buffer, which takes the array itself where it is contiguous; return its index."""
        buffer = self.schema.BufferT()
        buffer.data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def detach(self) -> None:
        """Let go of the bytes that the file was read from where most of them have been replaced; the rest is copied."""
        left = sum(len(buffer.data) for buffer in self.model.buffers if buffer.data is not None)
        if 2 * left < self._read:
            _copy_views(self.model)


def _copy_views(table: Any) -> None:
    """Copy the arrays of an object of the schema, and of those in it, that are views of the bytes of a file."""
    for name, value in vars(table).items():
        if isinstance(value, np.ndarray):
            if not value.flags.writeable:
                setattr(table, name, value.copy())
        else:
            for part in value if isinstance(value, list) else [value]:
                if hasattr(part, "__dict__"):
                    _copy_views(part)


def _number(code: Any) -> int:
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _by_number(enum: Any) -> dict[int, str]:
    return {number: name for name, number in vars(enum).items() if not name.startswith("_")}
