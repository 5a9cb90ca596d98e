"""A file as an array of C, for a program that has no files."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Collection, Mapping, Sequence

from tfcompress.core.atomic_files import draft
from tfcompress.data.named_inputs import TensorInfo

_ROW = 16
"""Bytes in a line."""


WORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class compl
concept const consteval constexpr constinit const_cast continue co_await co_return co_yield decltype default delete do
double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace
new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires return
short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try typedef
typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq main std
"""
"""Those of C++ that name nothing else."""


def is_c_name(name: object, taken: Collection[str] = ()) -> bool:
    """Return whether an array of C++ can have a name; some may be taken.

    >>> is_c_name("net_2"), is_c_name("2_net"), is_c_name("float"), is_c_name("arena", taken=["arena"])
    (True, False, False, False)
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        return False
    return name not in WORDS.split() and name not in taken


def write_c_array(target: pathlib.Path, name: str, content: bytes, notes: list[str]) -> pathlib.Path:
    """Write bytes as an array of C++, and the header that declares it, whole or not at all (see `write_array`).

    Returns:
        The path of the header.
    """
    header = target.with_suffix(".h")
    with draft(target, replacing=(header.name,) if target.exists() else ()) as beside:
        write_array(beside, name, content, notes)
    return header


def write_array(path: pathlib.Path, name: str, content: bytes, notes: Sequence[str], more: Sequence[str] = ()) -> None:
    """Write bytes as an array of C++, aligned as TensorFlow Lite Micro reads them, and the header that declares it.

    Args:
        path: of the `.cc` file; the header has its name with `.h`.
        name: of the array.
        content: of it.
        notes: what a reader of the header should know.
        more: lines of the header, behind the declarations.
    """
    header = path.with_suffix(".h")
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
    header.write_text("\n".join(lines))
    rows = (content[start : start + _ROW] for start in range(0, len(content), _ROW))
    with path.open("w") as file:
        file.write(f'#include "{header.name}"\n\nalignas(16) const unsigned char {name}[] = {{\n')
        file.writelines("    " + ", ".join(f"0x{byte:02x}" for byte in row) + ",\n" for row in rows)
        file.write(f"}};\nconst unsigned int {name}_size = {len(content)};\n")


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
