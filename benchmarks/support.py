"""What becomes of every layer of Keras: pruned, quantized to int8, shipped as TFLite and ONNX.

    python -m benchmarks.support [--layers=LSTM,GRU]

Each layer is put into a small model, pruned, quantized, exported to both formats, run there and compared with the
quantized Keras model. "yes": pruned; computed in integers. "float fallback": computed in float between integers,
with the same numbers. "-": it has no kernel, or does nothing in inference. "refused": with the reason. The layers are
those of `tests/layer_cases.py`; `tests/test_support_matrix.py` finds the same table again.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from absl import app, flags

from benchmarks.harness import save, show
from tests.layer_cases import CASES, known
from tests.layer_support import NAME, committed, examine

LAYERS = flags.DEFINE_list("layers", [], "Layers to examine, by a part of their name; all, if none is given.")


def main(_: list[str]) -> None:
    """Examine all layers, or those that are named, and write the table."""
    rows = committed() if LAYERS.value else {}
    for name in known():
        if not LAYERS.value or any(part in name for part in LAYERS.value):
            verdict = examine(name)
            rows[name] = verdict.row
            print(*verdict.row.values(), *verdict.problems, sep=" | ", flush=True)
    ordered = [rows[name] for name in CASES if name in rows]
    save(NAME, ordered, command="python -m benchmarks.support")
    show("Layers", ordered)


if __name__ == "__main__":
    app.run(main)
