"""A file as a program for TensorFlow Lite Micro: the array, its operators, the arena, and a sketch that runs it."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from tfcompress.core.atomic_files import check_target
from tfcompress.data.named_inputs import TensorInfo
from tfcompress.export.artifact import Artifact
from tfcompress.export.c_array import described, is_c_name, write_array
from tfcompress.runtime.arena import Arena
from tfcompress.targets import get as get_target

SPECIAL = {
    "BATCH_MATMUL": "BatchMatMul",
    "CUMSUM": "CumSum",
    "PADV2": "PadV2",
    "TFLM_DECODE": "Decode",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}
"""Operators whose method isn't called as the rule says."""

_OPERATORS = """#ifndef {guard}
#define {guard}

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

// The {count} operators that {name} needs, and no others: their code alone is linked.
using {name}_resolver = tflite::MicroMutableOpResolver<{count}>;

inline TfLiteStatus {name}_register(
    {name}_resolver& resolver) {{
{calls}
  return kTfLiteOk;
}}

#endif
"""

_SKETCH = """// Runs {name} once. Fill the inputs, call setup() once and loop() as often as is wanted.
#include "{name}.h"
#include "{name}_operators.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {{
alignas(16) uint8_t arena[{name}_arena_size];
{name}_resolver resolver;
tflite::MicroInterpreter* interpreter = nullptr;
}}  // namespace

void setup() {{
  if ({name}_register(resolver) != kTfLiteOk) return;
  static tflite::MicroInterpreter made(tflite::GetModel({name}), resolver, arena, {name}_arena_size);
  if (made.AllocateTensors() != kTfLiteOk) return;  // the arena is too small
  interpreter = &made;
}}

void loop() {{
  if (interpreter == nullptr) return;
{inputs}
  if (interpreter->Invoke() != kTfLiteOk) return;
{outputs}
}}
"""

FIELDS = {"int8": "int8", "uint8": "uint8", "int16": "i16", "float32": "f", "int32": "i32", "bool": "b"}
"""{dtype: what the union of a tensor's data calls it}."""

TAKEN = ("arena", "interpreter", "loop", "made", "resolver", "setup", "tflite")
"""Names that the sketch has."""

TYPES = {"float32": "float", "bool": "bool"}
"""{dtype: its type in C++}, where that isn't the dtype with "_t" behind it."""


def method(operator: str) -> str:
    """Return what adds an operator to a resolver.

    >>> method("DEPTHWISE_CONV_2D"), method("BATCH_TO_SPACE_ND"), method("RELU6")
    ('AddDepthwiseConv2D', 'AddBatchToSpaceNd', 'AddRelu6')
    """
    parts = (part if part[0].isdigit() else part.capitalize() for part in operator.split("_"))
    return f"Add{SPECIAL.get(operator) or ''.join(parts)}"


@dataclasses.dataclass(frozen=True)
class Program:
    """What is written for a header: files beside each other, and the name of what is in them.

    Attributes:
        name: of the array.
        file: the `.tflite` file.
        others: what runs it: array, header, operators and sketch.
    """

    name: str
    file: pathlib.Path
    others: tuple[pathlib.Path, ...]

    @property
    def replaced(self) -> tuple[str, ...]:
        """The names of files that are replaced with the `.tflite` file."""
        return tuple(path.name for path in self.others) if self.file.exists() else ()

    def write(self, file: pathlib.Path, artifact: Artifact) -> None:
        """Write the array, the operators and the sketch of a file that was proved, beside it."""
        assert artifact.arena is not None and artifact.operators is not None
        notes = [*described("input", artifact.inputs), *described("output", artifact.outputs)]
        size = f"constexpr int {self.name}_arena_size = {_rounded(artifact.arena)};"
        lines = [f"// {line}" for line in _about_arena(artifact.arena)] + [size]
        array, _, resolver, sketch = (file.with_name(path.name) for path in self.others)
        write_array(array, self.name, file.read_bytes(), notes, lines)
        resolver.write_text(_operators(self.name, artifact.operators.kinds))
        sketch.write_text(_sketch(self.name, artifact))


def check_ends(program: Program | None, ends: Mapping[str, TensorInfo]) -> None:
    """Refuse inputs or outputs that a sketch can't write or read.

    Raises:
        ValueError: There is one; the message names it.
    """
    for name, info in ends.items():
        if program is not None and info.dtype not in FIELDS:
            raise ValueError(
                f"Expected inputs and outputs of {', '.join(FIELDS)} for a program (.h). Received: {name!r} of "
                f"{info.dtype}. Make the model with one of these, or name a .tflite file."
            )


def program_of(path: Any, target: Any, verify: Any, overwrite: bool) -> tuple[Any, Program | None]:
    """Return the file that is written, and what runs it: that of a path that ends in `.h`, `None` of others.

    Raises:
        FileExistsError: one of the files is there, and `overwrite` is False.
        ValueError: the file's name is none of C; or the file isn't run in TFLite Micro before it is written.
    """
    if not isinstance(path, str | os.PathLike) or pathlib.Path(path).suffix.lower() != ".h":
        return path, None
    if target is None or "tflm" not in get_target(target).runtimes or verify is False:
        received = f"target={target!r}" + (", verify=False" if verify is False else "")
        raise ValueError(
            "Expected target='microcontroller' for a program (.h), whose file is run in TFLite Micro. Received: "
            f"{received}. Say so, or name a .tflite file."
        )
    header = pathlib.Path(path)
    name = header.stem
    if not is_c_name(name, TAKEN):
        raise ValueError(
            "Expected a file whose name is one of C: letters, digits and underscores, and no word of C++ or of the "
            f"sketch. Received: {header.name!r}. Give another."
        )
    file = header.with_name(f"{name}.tflite")
    names = (f"{name}.cc", header.name, f"{name}_operators.h", f"{name}_sketch.cc")
    others = tuple(header.with_name(one) for one in names)
    for one in (file, *others):
        check_target(one, one.suffix, overwrite)
    if file.is_symlink():
        raise ValueError(f"Expected files beside each other. Received: {str(file)!r}, which is a link. Remove it.")
    return file, Program(name, file, others)


def _rounded(arena: Arena) -> int:
    return -(-arena.total // 16) * 16


def _about_arena(arena: Arena) -> list[str]:
    parts = f"{arena.activations:,} of activations and {arena.persistent:,} that stay"
    return [
        f"Bytes of RAM, as TensorFlow Lite Micro's portable kernels need them on 64 bits: {parts},",
        "which are fewer on 32 bits. Kernels of a vendor may need more.",
    ]


def _operators(name: str, kinds: Iterable[str]) -> str:
    calls = [f"  if (resolver.{method(kind)}() != kTfLiteOk) return kTfLiteError;" for kind in sorted(kinds)]
    guard = f"{name}_operators_h_".upper()
    return _OPERATORS.format(guard=guard, name=name, count=len(calls), calls="\n".join(calls))


def _sketch(name: str, artifact: Artifact) -> str:
    return _SKETCH.format(
        name=name,
        inputs="\n".join(_ends("input", artifact.inputs)),
        outputs="\n".join(_ends("output", artifact.outputs)),
    )


def _ends(kind: str, tensors: Mapping[str, TensorInfo]) -> list[str]:
    lines = []
    for place, (line, info) in enumerate(zip(described(kind, tensors), tensors.values(), strict=True)):
        dtype = TYPES.get(info.dtype, f"{info.dtype}_t")
        const = "const " if kind == "output" else ""
        lines.append(f"  // {line}")
        lines.append(f"  {const}{dtype}* {kind}_{place} = interpreter->{kind}({place})->data.{FIELDS[info.dtype]};")
        lines.append(f"  (void){kind}_{place};" if kind == "output" else f"  {kind}_{place}[0] = 0;")
    return lines
