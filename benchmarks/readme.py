"""python -m benchmarks.readme

Fills the tables of README.md and of docs/ from benchmarks/results/*.json, and draws docs/int8.svg; with --check it only
says whether all are up to date.
"""

from __future__ import annotations

import json
import pathlib
import re
import statistics
import sys
from collections.abc import Iterable
from typing import Any

from benchmarks import lenets, picture, pruning, rounding
from benchmarks import precision as mixed
from benchmarks.harness import FOLDER, ROOT, rows_of


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row.values())) + " |" for row in rows)])


def claims() -> list[str]:
    """Return what was measured, in sentences; the three that matter most come first."""
    digits = {row["model"]: row for row in rows_of("digits")}
    dense, small = digits["dense.tflite"], digits["pruned_int8.tflite"]
    training = {(row["XLA"], row["model"]): float(row["ratio to plain"]) for row in rows_of("training")}
    ratio = {
        row["format"]: row["times the fastest peer's"]
        for row in rows_of("conversion")
        if (row["network"], row["way"]) == ("MobileNetV2", "tfcompress, proven")
    }
    ptq = {(row["format"], row["model"]): row for row in rows_of("quantization_ptq_cifar10")}
    plain, tflite, there = (
        ptq["Keras", "Keras float32"],
        ptq["TFLite", "tfcompress int8"],
        ptq["ONNX", "tfcompress int8"],
    )
    speed = {(row["network"], row["format"], row["file"]): row for row in rows_of("quantization_speed")}
    faster = "; ".join(
        f"{name} {speed[name, 'TFLite', 'tfcompress int8']['faster than float32']} in TFLite, "
        f"{speed[name, 'ONNX', 'tfcompress int8']['faster than float32']} in ONNX"
        for name in ("MobileNetV2", "ResNet50")
    )
    furthest = _steps(max(tflite["largest difference"], there["largest difference"]))
    step = {(row["network"], row["XLA"], row["model"]): row for row in rows_of("quantization_step")}
    exact = (
        f"- **The file is the model**: of a ResNet-8's int8 outputs on CIFAR-10's test images {tflite['equal %']} % in "
        f"TFLite and {there['equal %']} % in ONNX equal Keras' bit by bit, none is off by more than {furthest}. "
        f"Accuracy: float {plain['accuracy %']}, int8 in Keras {tflite['Keras accuracy %']}, TFLite "
        f"{tflite['accuracy %']}, ONNX {there['accuracy %']} %."
    )
    fast = f"- **Real integer kernels**, beside float32 on one thread: {faster}."
    small_file = (
        f"- **{float(dense['zip kB']) / float(small['zip kB']):.1f}x smaller download** on the demo's digits "
        f"({dense['zip kB']} to {small['zip kB']} kB zipped), accuracy {dense['accuracy']} to {small['accuracy']}."
    )
    quantized_step = (
        f"- **{step['ResNet-8', 'off', 'tfcompress int8']['ratio to plain']}x a plain training step** for "
        f"quantization-aware training, {step['ResNet-8', 'on', 'tfcompress int8']['ratio to plain']}x with XLA "
        "(ResNet-8)."
    )
    pruned_step = (
        f"- **{training['off', 'tfcompress, frequency 1']:.2f}x a plain training step with masks computed at every "
        f"step** (tfmot on tf_keras: {training['off', 'tfmot, frequency 1']:.2f}x); every 100 steps "
        f"{training['off', 'tfcompress, frequency 100']:.2f}x (tfmot: {training['off', 'tfmot, frequency 100']:.2f}x)."
    )
    conversion = (
        f"- **From float to a proven int8 file in {ratio['tflite']}x the time** of the fastest peer for TFLite, "
        f"{ratio['onnx']}x for ONNX, and the peers prove nothing (MobileNetV2, processor seconds)."
    )
    return [exact, fast, small_file, quantized_step, pruned_step, conversion]


def headline() -> str:
    """Return the three measured claims that README.md begins with."""
    return "\n".join(claims()[:3])


def all_claims() -> str:
    """Return all of them."""
    return "\n".join(claims())


def main_rows() -> str:
    """Return the demo's four rows that README.md shows."""
    chosen = ("dense.tflite", "pruned.tflite", "pruned_int8.tflite", "pruned_int8.onnx")
    columns = ("model", "file kB", "zip kB", "accuracy", "Δ points", "ms", "speed-up")
    return table([{key: row[key] for key in columns} for row in rows_of("digits") if row["model"] in chosen])


def _of(name: str, format: str) -> str:
    """Return the rows of one format of a benchmark, without the columns that say which."""
    rows = [row for row in rows_of(name) if row["format"] == format]
    return table([{key: value for key, value in row.items() if key != "format"} for row in rows])


def phone() -> str:
    """Return the times of TFLite files."""
    return _of("quantization_speed", "TFLite")


def phone_pruned() -> str:
    """Return the times of TFLite files with fewer channels."""
    return _of("pruning_speed", "TFLite")


def server_single() -> str:
    """Return the times of ONNX files at one image."""
    return _of("quantization_speed", "ONNX")


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


STEPS = ("LiteRT steps", "TFLite Micro steps", "ONNX Runtime steps")
"""Columns of the matrix of layers."""


def support_steps() -> str:
    """Return by how many steps int8 files of layers are off, and why, one row for those that fare alike."""
    reasons = json.loads((ROOT / "benchmarks" / "steps_off.json").read_text())
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows_of("support"):
        if row["int8"] == "yes":
            why = (reason["why"] for reason in reasons if row["layer"] in reason["layers"])
            groups.setdefault((*(row[column] for column in STEPS), "; ".join(why)), []).append(row["layer"])
    rows = [
        {"layers": _joined(names), **dict(zip((*STEPS, "why"), group, strict=True))}
        for group, names in sorted(groups.items(), key=lambda one: (bool(one[0][-1]), one[0][-1]))
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
    order = ("yes", "float fallback", "refused", "-")
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


def _steps(value: Any) -> Any:
    return "1 step" if value == "1 steps" else value


def accuracy() -> str:
    """Return post-training int8 beside the peers, on both data sets."""
    rows = []
    for name, title in (("cifar10", "ResNet-8, CIFAR-10"), ("mnist", "small net, MNIST")):
        for row in rows_of(f"quantization_ptq_{name}"):
            way = row["model"]
            if way in ("Keras float32", "tfcompress float32") or (way.endswith(" int8") and "dynamic" not in way):
                chosen = ("model", "format", "accuracy %", "Keras accuracy %", "bytes", "largest difference", "equal %")
                rows.append({"network": title, **{key: _steps(row[key]) for key in chosen}})
    return table(rows)


def sparse() -> str:
    """Return the sparse files beside the dense ones."""
    chosen = [row for row in rows_of("sparse") if row["file"] != "auto"]
    return table([{key: value for key, value in row.items() if key != "stored sparsely"} for row in chosen])


def pruned_mnist() -> str:
    """Return the errors of pruned networks on MNIST."""
    return table(pruning.mnist_summary(rows_of(pruning.MNIST)))


def small_lenets() -> str:
    """Return the bytes and errors of the small files for MNIST."""
    return table(lenets.summary(rows_of(lenets.RUNS)))


def pruned_cifar10() -> str:
    """Return the accuracies of the pruned ResNet-8."""
    return table(pruning.cifar10_summary(rows_of(pruning.CIFAR10)))


def learned() -> str:
    """Return the accuracies of ResNet-8 that was trained with few bits."""
    return table(rounding.learned_summary(rows_of(rounding.LEARNED)))


def precision() -> str:
    """Return the accuracies of networks that were trained in mixed precision."""
    networks = {"precision_mnist": "small net, MNIST", "precision_cifar10": "ResNet-8, CIFAR-10"}
    return table(
        [{"network": title, **row} for name, title in networks.items() for row in mixed.summary(rows_of(name))]
    )


def blockwise_kernels() -> str:
    """Return the times of MatMulNBits: with 4 bits of all sizes, otherwise of one."""
    whole = ("1024", "1024")
    rows = rows_of("blockwise_kernels")
    return table(
        [row for row in rows if row["weights"] == "4 bits" or (str(row["inputs"]), str(row["outputs"])) == whole]
    )


def random_budgets() -> str:
    """Return what random budgets came to, by network; a search has a file of each format."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of("budget_random"):
        found.setdefault(row["network"], []).append(row)

    def drop(row: dict[str, Any], form: str) -> float:
        return float(str(row[f"{form} drop in test"]).split()[0])

    rows = []
    for network, searches in found.items():
        files = [(row, form) for row in searches for form in ("tflite", "onnx") if f"{form} drop in test" in row]
        over = [drop(row, form) - row["budget"] for row, form in files if drop(row, form) > row["budget"]]
        sizes = {
            form: [int(row[form].replace(",", "")) for row, of in files if of == form] for form in ("tflite", "onnx")
        }
        budgets = [row["budget"] for row in searches]
        rows.append(
            {
                "network": network,
                "budgets": f"{len(budgets)}, {min(budgets):g} to {max(budgets):g}",
                "files shipped": f"{len(files)} of {2 * len(searches)}",
                "broken in test": sum(row[f"{form} broken in test"] for row, form in files),
                "seen to lose more than the budget there": f"{len(over)}"
                + (f", by {max(over):.2f} at most" if over else ""),
                **{f".{form} bytes": f"{min(each):,} to {max(each):,}" for form, each in sizes.items()},
                "processor s, median": round(
                    statistics.median(row["processor s"] for row in searches if "resumed" not in row)
                ),
            }
        )
    return table(rows)


BLOCKS = {
    "random_budgets": random_budgets,
    "blockwise_kernels": blockwise_kernels,
    "learned": learned,
    "precision": precision,
    "sparse": sparse,
    "pruned_mnist": pruned_mnist,
    "small_lenets": small_lenets,
    "pruned_cifar10": pruned_cifar10,
    "accuracy": accuracy,
    "headline": headline,
    "claims": all_claims,
    "main_rows": main_rows,
    "phone": phone,
    "phone_pruned": phone_pruned,
    "server_single": server_single,
    "support": support,
    "support_steps": support_steps,
    "coverage": coverage,
}


def measured(name: str) -> str:
    """Return the table of a benchmark, or that it was not run yet."""
    if not (FOLDER / f"{name}.json").exists():
        return f"Not measured yet: `benchmarks/results/{name}.json` is not there."
    return table(rows_of(name))


def filled(text: str) -> str:
    """Return a page with all blocks made anew."""

    def block(match: re.Match[str]) -> str:
        name = match.group(2)
        return f"<!-- {match.group(1)} -->\n{measured(name) if name else BLOCKS[match.group(1)]()}\n<!-- end -->"

    return re.sub(rf"<!-- ({'|'.join(BLOCKS)}|table:(\w+)) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def pages() -> Iterable[pathlib.Path]:
    """Return README.md and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main() -> None:
    """Fill the pages and draw the picture, or check them."""
    stale = {page: new for page in pages() if (new := filled(page.read_text())) != page.read_text()}
    if not picture.PATH.exists() or not picture.is_up_to_date(picture.PATH.read_text()):
        stale[picture.PATH] = picture.drawn()
    if "--check" not in sys.argv:
        for path, text in stale.items():
            path.write_text(text)
    elif stale:
        names = ", ".join(path.relative_to(ROOT).as_posix() for path in stale)
        sys.exit(f"Not what benchmarks/results/ says: {names}. Run python -m benchmarks.readme.")


if __name__ == "__main__":
    main()
