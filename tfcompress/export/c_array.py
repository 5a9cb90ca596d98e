"""A file as an array of C, for a program that has no files."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence

from tfcompress.core.atomic_files import draft
from tfcompress.data.named_inputs import TensorInfo

_ROW = 16
"""Bytes in a line."""


def write_c_array(
    target: pathlib.Path,
    name: str,
    content: bytes,
    notes: list[str],
    *,
    more: Sequence[str] = (),
    others: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """Write bytes as an array of C++, aligned as TensorFlow Lite Micro reads them, and the header that declares it.

    Args:
        target: of the `.cc` file; the header has its name with `.h`. Both are written whole.
        name: of the array.
        content: of it.
        notes: what a reader of the header should know.
        more: lines of the header, behind the declarations.
        others: {name: text} of files that belong to it, and are written with it.

    Returns:
        The path of the header.
    """
    header = target.with_suffix(".h")
    guard = re.sub(r"\W", "_", header.name).upper() + "_"
    lines = [f"#ifndef {guard}", f"#define {guard}", "", *(f"// {note}" for note in notes), ""]
    lines += [
        f"extern const unsigned char {name}[];",
        f"extern const unsigned int {name}_size;",
        *more,
        "",
        "#endif",
        "",
    ]
    rows = (content[start : start + _ROW] for start in range(0, len(content), _ROW))
    beside_it = {header.name: "\n".join(lines), **(others or {})}
    with draft(target, replacing=tuple(beside_it) if target.exists() else ()) as beside:
        for other, text in beside_it.items():
            beside.with_name(other).write_text(text)
        with beside.open("w") as file:
            file.write(f'#include "{header.name}"\n\nalignas(16) const unsigned char {name}[] = {{\n')
            file.writelines("    " + ", ".join(f"0x{byte:02x}" for byte in row) + ",\n" for row in rows)
            file.write(f"}};\nconst unsigned int {name}_size = {len(content)};\n")
    return header


def described(kind: str, tensors: Mapping[str, TensorInfo]) -> list[str]:
    """Return a line for each input or output: its name, dtype and shape, and what its integers stand for.

    >>> described("input", {"x": TensorInfo((1, 4), "int8", 0.5, -3)})
    ['input x: int8 (1, 4), an integer q stands for 0.5 * (q + 3)']
    """
    lines = []
    for name, info in tensors.items():
        shape = ", ".join("any" if size is None else str(size) for size in info.shape)
        lines.append(f"{kind} {name}: {info.dtype} ({shape})")
        if info.scale is not None:
            point = info.zero_point or 0
            inner = "q" if not point else f"(q {'-' if point > 0 else '+'} {abs(point)})"
            lines[-1] += f", an integer q stands for {info.scale:.9g} * {inner}"
    return lines
