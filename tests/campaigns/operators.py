"""Every operation that the table has, as a float file of both formats: equal, or refused by layer.

    python -m tests.campaigns.operators [--only=int8] [--formats=tflite,onnx] [--json=out.json]

A case is "equal", "refused" (a clear error that names the layer), "caught" (a wrong file that the proof held back),
"wrong" (one that it let pass), or "raw" (another library's error). The last two are faults.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import re
import tempfile
import warnings

import numpy as np

import tfcompress as tfc
from tests.campaigns.operator_cases import Case, model_of
from tests.campaigns.operator_floats import all_cases

BAD = ("wrong", "raw")
ABOUT = re.compile(r"layers? .*'operation'|operation")


def outcome(case: Case, suffix: str, folder: str) -> tuple[str, str]:
    """Export one case, with random inputs to prove it on; return what came of it, and the message."""
    try:
        model = model_of(case)
        expected = [model(_given(case.data, slice(i, i + 1)), training=False) for i in range(len(case.data[0]))]
    except Exception as error:
        return "not Keras", f"{type(error).__name__}: {error}"
    try:
        artifact = tfc.export(
            model, f"{folder}/model{suffix}", batch_size=1, overwrite=True, verify=_given(case.data, slice(0, 1))
        )
    except tfc.ParityError as error:
        return "caught", str(error)
    except ValueError as error:
        text = str(error)
        clear = text.startswith("Expected ") and "Received: " in text
        return ("refused" if clear and ABOUT.search(text) else "raw"), text
    except Exception as error:
        return "raw", f"{type(error).__name__}: {error}"
    for i, wanted in enumerate(map(np.asarray, expected)):
        try:
            received = np.asarray(
                artifact._runner.run({f"x{j}": x[i : i + 1] for j, x in enumerate(case.data)}).popitem()[1]
            )
        except Exception as error:
            return "raw", f"run: {type(error).__name__}: {error}"
        if received.shape != wanted.shape:
            return "wrong", f"shape {received.shape}, not {wanted.shape}"
        exact = wanted.dtype.kind in "iub"
        if exact and received.dtype != wanted.dtype:
            return "wrong", f"dtype {received.dtype}, not {wanted.dtype}"
        same = (received == wanted) if exact else np.isclose(received, wanted, rtol=1e-4, atol=1e-5, equal_nan=True)
        if not np.all(same):
            at = tuple(np.argwhere(~same)[0])
            return "wrong", f"{received[at]} at {at}, not {wanted[at]}"
    return "equal", ""


def _given(data: tuple[np.ndarray, ...], rows: slice) -> object:
    return [x[rows] for x in data] if len(data) > 1 else data[0][rows]


def main() -> None:
    """Run the table and print what is not equal, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--formats", default="tflite,onnx")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in all_cases():
            if not re.search(arguments.only, case.name):
                continue
            for kind in arguments.formats.split(","):
                what, message = outcome(case, f".{kind}", folder)
                counts[kind][what] += 1
                rows.append({"case": case.name, "format": kind, "outcome": what, "message": message})
                if what != "equal":
                    print(f"{kind:6} {what:9} {case.name}: {' '.join(message.split())[:300]}", flush=True)
    for kind, found in counts.items():
        print(kind, dict(found))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
