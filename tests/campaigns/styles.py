"""Every model of `tests.styles` through prune, quantize and both exports: what is taken, refused, or wrong.

    python -m tests.campaigns.styles [--only=NAME ...] [--json=PATH]

A verb that raises `ValueError` or `TypeError` in this package's words has refused; anything else that is raised is a
fault, and so is a copy or a file that computes something else than the model on the model's own data.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
import time
import warnings
from collections import Counter
from typing import Any

import keras
import numpy as np
from keras import tree

import tfcompress as tfc
from tests.styles import styles

STEPS = ("prune", "tflite", "onnx", "quantize", "int8 tflite", "int8 onnx")


def outputs(model: keras.Model, x: Any) -> list[np.ndarray]:
    """Return what a model computes in inference, flat; the model's own inputs in its own structure."""
    return [np.asarray(y) for y in tree.flatten(model(x, training=False))]


def same(old: list[np.ndarray], new: list[np.ndarray]) -> bool:
    """Return whether two models compute the same to float32's precision."""
    return len(old) == len(new) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(old, new, strict=True)
    )


def verdict(step: Any) -> tuple[str, Any, str]:
    """Run a step; return "ok", "refused", "wrong" or "fault", its result and what was said."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "ok", step(), ""
    except tfc.ParityError as error:
        return "refused", None, f"ParityError: {error}"
    except AssertionError as error:
        return "wrong", None, str(error)
    except (ValueError, TypeError) as error:
        kind = "refused" if str(error).startswith("Expected") else "fault"
        return kind, None, f"{type(error).__name__}: {error}"
    except Exception as error:
        return "fault", None, f"{type(error).__name__}: {error}"


def run(build: Any, folder: pathlib.Path) -> dict[str, tuple[str, str]]:
    """Take one model through all steps."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model, x = build()
    before = outputs(model, x)
    weights = [np.array(w) for w in model.weights]
    count = len(tree.flatten(x)[0])
    found: dict[str, tuple[str, str]] = {}

    def note(step: str, do: Any) -> Any:
        kind, result, text = verdict(do)
        found[step] = (kind, text)
        return result

    def pruned() -> keras.Model:
        made = tfc.prune(model, tfc.PruneConfig(tfc.ConstantSparsity(0.5, begin_step=0, frequency=1)))
        assert same(before, outputs(made, x)), "the copy computes something else before any step"
        return made

    def exported(source: keras.Model, suffix: str) -> Any:
        return tfc.export(source, folder / f"m{suffix}", batch_size=count, verify=x, overwrite=True)

    note("prune", pruned)
    note("tflite", lambda: exported(model, ".tflite"))
    note("onnx", lambda: exported(model, ".onnx"))
    quantized = note("quantize", lambda: tfc.quantize(model, "int8", data=x, batch_size=count))
    if quantized is not None:
        note("int8 tflite", lambda: exported(quantized, ".tflite"))
        note("int8 onnx", lambda: exported(quantized, ".onnx"))
    if not all(np.array_equal(a, b) for a, b in zip(weights, map(np.array, model.weights), strict=True)):
        found["prune"] = ("wrong", "the model given was changed")
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run all, print a line a model and the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--json", type=pathlib.Path, default=None)
    flags = parser.parse_args(arguments)
    chosen = {name: build for name, build in styles().items() if flags.only is None or name in flags.only}
    results: dict[str, dict[str, tuple[str, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, build in chosen.items():
            start = time.perf_counter()
            results[name] = run(build, pathlib.Path(folder))
            line = "  ".join(f"{step} {results[name][step][0]}" for step in STEPS if step in results[name])
            print(f"{name:36} {line}  ({time.perf_counter() - start:.0f} s)", flush=True)
            for step, (kind, text) in results[name].items():
                if kind != "ok":
                    print(f"    {step} {kind}: {' '.join(text.split())[:400]}", flush=True)
            if flags.json:
                flags.json.write_text(json.dumps(results, indent=1))
    for step in STEPS:
        print(f"{step:12} {dict(Counter(r[step][0] for r in results.values() if step in r))}")


if __name__ == "__main__":
    main()
