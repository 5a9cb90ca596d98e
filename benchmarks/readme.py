"""python -m benchmarks.readme

Fills the tables of README.md from benchmarks/results/*.json; with --check it only says whether they are up to date.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]


def rows_of(name: str) -> list[dict[str, Any]]:
    """Return the rows of one benchmark."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["rows"]


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row.values())) + " |" for row in rows)])


def headline() -> str:
    """Return the three measured claims that the page begins with."""
    digits = {row["model"]: row for row in rows_of("digits")}
    dense, small = digits["dense.tflite"], digits["pruned_int8.tflite"]
    training = {(row["XLA"], row["model"]): row["ratio to plain"] for row in rows_of("training")}
    export = {(row["format"], row["way"]): row for row in rows_of("export")}
    onnx = export["onnx", "tfcompress, verify=True"]
    return "\n".join(
        [
            f"- **{float(dense['zip kB']) / float(small['zip kB']):.1f}x smaller download** on the demo's digits "
            f"({dense['zip kB']} to {small['zip kB']} kB zipped), accuracy {dense['accuracy']} to {small['accuracy']}.",
            f"- **{training['off', 'tfcompress, frequency 1']:.2f}x a plain training step with masks computed at every "
            f"step** (tfmot on tf_keras: {training['off', 'tfmot, frequency 1']:.2f}x); every 100 steps "
            f"{training['off', 'tfcompress, frequency 100']:.2f}x "
            f"(tfmot: {training['off', 'tfmot, frequency 100']:.2f}x).",
            f"- **Export and proof in {onnx['time ratio']}x the time** of Keras' own ONNX export alone (MobileNetV2).",
        ]
    )


def support() -> str:
    """Return the matrix of layers, one row for those that fare alike."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows_of("support"):
        verdicts = tuple(row[column] for column in ("pruning", "int8", "TFLite", "ONNX"))
        # Of layers that aren't tried at all, why; of the others the verdicts say it.
        groups.setdefault((*verdicts, row["note"] if set(verdicts) == {"-"} else ""), []).append(row["layer"])
    rows = [
        {
            "layers": _joined(names) + (f" ({note})" if note else ""),
            "pruning": pruning,
            "int8 in Keras": integer,
            "TFLite": tflite,
            "ONNX": onnx,
        }
        for (pruning, integer, tflite, onnx, note), names in sorted(groups.items(), key=_rank)
    ]
    return table(rows)


def _joined(names: list[str]) -> str:
    """Return names with what differs in the number of dimensions alone in one: Conv1D/2D."""
    sizes: dict[str, list[str]] = {}
    for name in names:
        match = re.fullmatch(r"(\w+?)([123]D)", name)
        base, size = (match.group(1), match.group(2)) if match else (name.removeprefix("Activation "), "")
        sizes.setdefault(base, []).append(size)
    return ", ".join(base + "/".join(found) for base, found in sizes.items())


def _rank(group: tuple[tuple[str, ...], list[str]]) -> tuple[int, ...]:
    order = ("yes", "float island", "refused", "-")
    pruning, *others, note = group[0]
    return (bool(note), *(order.index(verdict) for verdict in (*others, pruning)))


def coverage() -> str:
    """Return the models of keras.applications as files of integers."""
    rows = []
    for row in rows_of("coverage"):
        made = {"model": row["model"], "parameters": row["parameters"], "quantized": row["quantized"]}
        for label in ("TFLite", "ONNX"):
            made[f"{label} MB"] = row.get(f"{label} MB", "")
            made[f"{label}: float kernels"] = row.get(f"{label} float kernels", "")
            made[f"{label}: steps off"] = row.get(f"{label} steps", "")
        rows.append(made)
    return table(rows)


BLOCKS = {"headline": headline, "support": support, "coverage": coverage}


def filled(text: str) -> str:
    """Return the page with all blocks made anew."""

    def block(match: re.Match[str]) -> str:
        name = match.group(2)
        return f"<!-- {match.group(1)} -->\n{table(rows_of(name)) if name else BLOCKS[match.group(1)]()}\n<!-- end -->"

    return re.sub(r"<!-- (headline|support|coverage|table:(\w+)) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def main() -> None:
    """Fill or check the page."""
    page = ROOT / "README.md"
    new = filled(page.read_text())
    if "--check" not in sys.argv:
        page.write_text(new)
    elif new != page.read_text():
        sys.exit("README.md is not what benchmarks/results/ says. Run python -m benchmarks.readme.")


if __name__ == "__main__":
    main()
