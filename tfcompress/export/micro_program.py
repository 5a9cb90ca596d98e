"""A file as a program for TensorFlow Lite Micro: the array, its operators, the arena, and a sketch that runs it."""

from __future__ import annotations

import functools
import os
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from tfcompress.core.atomic_files import check_target
from tfcompress.export.artifact import Artifact
from tfcompress.export.c_array import described, write_c_array
from tfcompress.runtime.arena import Arena
from tfcompress.targets import get as get_target

_Export = TypeVar("_Export", bound=Callable[..., Artifact])

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

TYPES = {"float32": "float", "bool": "bool"}
"""{dtype: its type in C++}, where that isn't the dtype with "_t" behind it."""


def method(operator: str) -> str:
    """Return what adds an operator to a resolver.

    >>> method("DEPTHWISE_CONV_2D"), method("BATCH_TO_SPACE_ND"), method("RELU6")
    ('AddDepthwiseConv2D', 'AddBatchToSpaceNd', 'AddRelu6')
    """
    parts = (part if part[0].isdigit() else part.capitalize() for part in operator.split("_"))
    return f"Add{SPECIAL.get(operator) or ''.join(parts)}"


def is_header(path: Any) -> bool:
    """Return whether a program is asked for."""
    return isinstance(path, str | os.PathLike) and pathlib.Path(path).suffix.lower() == ".h"


def name_in_c(path: pathlib.Path) -> str:
    """Return the name of the array of a file.

    Raises:
        ValueError: The file's name isn't one of C.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", path.stem, re.ASCII):
        raise ValueError(
            f"Expected a file whose name is one of C: letters, digits and underscores. Received: {path.name!r}. Give "
            "another."
        )
    return path.stem


def files_of(header: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return what is written for a header, by kind."""
    name = header.stem
    names = {"file": f"{name}.tflite", "array": f"{name}.cc", "header": header.name}
    names |= {"operators": f"{name}_operators.h", "sketch": f"{name}_sketch.cc"}
    return {kind: header.with_name(one) for kind, one in names.items()}


def writes_programs(export: _Export) -> _Export:
    """Let `export` write a program where its path ends in `.h`: the `.tflite` file, and what runs it, beside it."""

    @functools.wraps(export)
    def run(*args: Any, **how: Any) -> Artifact:
        path = how.get("path", args[1] if len(args) > 1 else None)
        if path is None or not is_header(path):
            return export(*args, **how)
        _check(how)
        header = pathlib.Path(path)
        name_in_c(header)
        files = files_of(header)
        for file in files.values():
            check_target(file, file.suffix, how.get("overwrite", False))
        model = how.pop("model", args[0] if args else None)
        artifact = export(model, **{**how, "path": files["file"]})
        write_program(artifact, files)
        return artifact

    return cast(_Export, run)


def _check(how: dict[str, Any]) -> None:
    """Refuse a program for what doesn't run in TFLite Micro, or that isn't run before it is written."""
    given = how.get("target")
    if given is None or "tflm" not in get_target(given).runtimes or how.get("verify") is False:
        received = f"target={given!r}" + (", verify=False" if how.get("verify") is False else "")
        raise ValueError(
            "Expected target='microcontroller' for a program (.h), whose file is run in TFLite Micro. Received: "
            f"{received}. Say so, or name a .tflite file."
        )


def write_program(artifact: Artifact, files: dict[str, pathlib.Path]) -> None:
    """Write the array, the operators and the sketch of a file that was proved."""
    assert artifact.arena is not None and artifact.operators is not None
    name = files["header"].stem
    notes = [*described("input", artifact.inputs), *described("output", artifact.outputs)]
    size = f"constexpr int {name}_arena_size = {_rounded(artifact.arena)};"
    lines = [f"// {line}" for line in _about_arena(artifact.arena)] + [size]
    others = {
        files["operators"].name: _operators(name, artifact.operators.kinds),
        files["sketch"].name: _sketch(name, artifact),
    }
    write_c_array(files["array"], name, artifact.path.read_bytes(), notes, more=lines, others=others)


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


def _ends(kind: str, tensors: dict[str, Any]) -> list[str]:
    lines = []
    for place, (line, info) in enumerate(zip(described(kind, tensors), tensors.values(), strict=True)):
        dtype = TYPES.get(info.dtype, f"{info.dtype}_t")
        const = "const " if kind == "output" else ""
        lines.append(f"  // {line}")
        lines.append(f"  {const}{dtype}* {kind}_{place} = interpreter->{kind}({place})->data.{FIELDS[info.dtype]};")
        lines.append(f"  (void){kind}_{place};" if kind == "output" else f"  {kind}_{place}[0] = 0;")
    return lines
