"""python -m benchmarks.wild [--networks=table,digits]

Small networks by kind: float, quantized, as files, beside TensorFlow's converter and ONNX Runtime on the same
calibration data; adds what isn't there yet to benchmarks/results/wild.json. Takes minutes.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import functools
import json
import pathlib
import sys
import tempfile
import warnings
from typing import Any

import keras
import numpy as np
from absl import app, flags, logging

import tfcompress as tfc
from benchmarks import peers
from benchmarks.files import NOTHING
from benchmarks.harness import collected, in_a_process, show
from benchmarks.wild_networks import METRICS, NETWORKS, Data, trained
from tfcompress.evaluation.predictor import open_predictor, predict

CALIBRATION = 256
PEERS = {"TensorFlow": ".tflite", "ONNX Runtime": ".onnx"}

NAMES = flags.DEFINE_list("networks", list(NETWORKS), "Which ones.")
PEER = flags.DEFINE_enum("peer", None, list(PEERS), "For this program itself: the peer that is judged in this process.")
FOLDER = flags.DEFINE_string("folder", None, "For this program itself: where the float model and its data are.")


def main(_: list[str]) -> None:
    """Measure all networks, or what one peer makes of one."""
    logging.set_verbosity(logging.ERROR)
    unknown = [name for name in NAMES.value if name not in NETWORKS]
    if unknown:
        raise app.UsageError(f"Expected --networks among {list(NETWORKS)}. Received: {unknown[0]!r}.")
    if PEER.value:
        print(json.dumps(peer(PEER.value, NAMES.value[0], pathlib.Path(FOLDER.value))))
        return
    rows = []
    for name in NAMES.value:
        network = NETWORKS[name]
        key = {"network": network.title, "metric": network.metric}
        rows.append(collected("wild", "python -m benchmarks.wild", key, functools.partial(measure, name)))
    show("Networks by kind", rows)


def measure(name: str) -> dict[str, Any]:
    """Return the figures of a network."""
    model, data = trained(name)
    metric = NETWORKS[name].metric
    row: dict[str, Any] = {"float": score(model, data, metric)}
    calibration = [array[:CALIBRATION] for array in data.train]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        quantized = tfc.quantize(model, "int8", data=data.packed(calibration))
    for warning in told:
        if warning.category is UserWarning:
            print(f"{name}: {warning.message}", file=sys.stderr)
    row["int8 Keras"] = score(quantized, data, metric)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for label, suffix in (("TFLite", ".tflite"), ("ONNX", ".onnx")):
            path = folder / f"ours{suffix}"
            artifact = tfc.export(quantized, path, verify=data.packed(calibration))
            print(f"{name}: {artifact}", file=sys.stderr)
            (found,) = tfc.verify(quantized, path, data.packed(data.test)).outputs
            row[label] = score(path, data, metric)
            row[f"{label}: steps off"] = (
                round(found.max_steps) if found.max_steps is not None else f"({found.max_rel:.1e})"
            )
        tfc.save(model, folder / "float.keras")
        tfc.export(model, folder / "float.onnx")
        np.savez(folder / "data.npz", *data.x, y=data.y, tested=data.tested, names=np.array(data.names, str))
        for way in PEERS:
            row[way] = judged_apart(way, name, folder)
    return row


def judged_apart(way: str, name: str, folder: pathlib.Path) -> Any:
    """Return a peer's figure, or that it fails; the process that it may end is another."""
    try:
        return in_a_process("wild", f"--peer={way}", f"--networks={name}", f"--folder={folder}")
    except SystemExit as error:
        print(error, file=sys.stderr)
        return "fails"


def peer(way: str, name: str, folder: pathlib.Path) -> Any:
    """Return the figure of a peer's file, made of the float model that lies in a folder."""
    with np.load(folder / "data.npz") as file:
        x = [file[f"arr_{place}"] for place in range(len(file.files) - 3)]
        data = Data(x, file["y"], int(file["tested"]), tuple(file["names"]))
    calibration = [array[:CALIBRATION] for array in data.train]
    path = folder / f"peer{PEERS[way]}"
    if way == "TensorFlow":
        model = keras.models.load_model(folder / "float.keras", compile=False)
        path.write_bytes(peers.tensorflow(model, calibration))
    else:
        path.write_bytes(peers.onnx_runtime(folder / "float.onnx", calibration))
    return score(path, data, NETWORKS[name].metric)


def score(source: Any, data: Data, metric: str) -> Any:
    """Return the metric of a model or a file on the test data."""
    predictor = open_predictor(source)
    (output,) = predict(predictor, predictor.check(data.packed(data.test)), batch_size=256).values()
    if not np.isfinite(output).all():
        return NOTHING
    return round(METRICS[metric](data.y[-data.tested :], output), 2 if metric == "accuracy %" else 4)


if __name__ == "__main__":
    app.run(main)
