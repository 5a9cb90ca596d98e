"""python -m benchmarks.picture

Draws docs/int8.svg from benchmarks/results/quantization_speed.json: time and size of int8 files beside float32 ones.
"""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.harness import ROOT, rows_of

PATH = ROOT / "docs" / "int8.svg"
FILES = [(network, format) for network in ("ResNet50", "MobileNetV2", "ResNet-8") for format in ("TFLite", "ONNX")]
COLOURS = {"float32": "#9aa5b1", "int8": "#3f51b5"}
PANELS = {"ms": "time of one inference, one thread", "MB": "size of the file"}


def values() -> dict[tuple[str, int, str], float]:
    """Return {("ms" or "MB", place in FILES, "float32" or "int8"): value}."""
    rows: dict[Any, dict[str, Any]] = {
        (row["network"], row["format"], row["file"]): row for row in rows_of("quantization_speed")
    }
    found = {}
    for place, (network, format) in enumerate(FILES):
        for numbers in COLOURS:
            row = rows[network, format, f"tfcompress {numbers}"]
            found["ms", place, numbers] = float(row["ms"])
            found["MB", place, numbers] = int(row["bytes"]) / 1e6
    return found


def label(value: float, unit: str) -> str:
    """Return what stands at a bar.

    >>> label(38.94, "ms"), label(0.0453, "ms")
    ('38.9 ms', '0.0453 ms')
    """
    return f"{value:.3g} {unit}"


def is_up_to_date(text: str) -> bool:
    """Return whether a picture shows all values; how it is drawn depends on the version of matplotlib."""
    return all(f">{label(value, unit)}<" in text for (unit, _, _), value in values().items())


def drawn() -> str:
    """Return the picture as SVG."""
    found = values()
    style = {"svg.hashsalt": "int8", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
    with plt.rc_context(style):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
        for axis, (unit, title) in zip(axes, PANELS.items(), strict=True):
            for place in range(len(FILES)):
                for shift, numbers in ((-0.2, "float32"), (0.2, "int8")):
                    value = found[unit, place, numbers]
                    share = value / found[unit, place, "float32"]
                    axis.barh(place + shift, share, 0.38, color=COLOURS[numbers])
                    axis.text(share + 0.01, place + shift, label(value, unit), va="center", fontsize=8)
            axis.set(title=f"{title} (float32 = 1)", xlim=(0, 1.22), xticks=(0, 0.25, 0.5, 0.75, 1))
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_yticks(range(len(FILES)), [", ".join(names) for names in FILES])
        axes[0].invert_yaxis()
        patches = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
        figure.legend(patches, COLOURS, loc="outside lower center", ncols=2, frameon=False)
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
        plt.close(figure)
    return re.sub(r" +\n", "\n", content.getvalue())  # its paths' lines end in a blank


if __name__ == "__main__":
    PATH.write_text(drawn())
