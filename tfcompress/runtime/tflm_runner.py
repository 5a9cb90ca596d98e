"""`.tflite` files in TFLite Micro, whose kernels are those of a microcontroller."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfcompress.data.named_inputs import TensorInfo
from tfcompress.runtime.arena import Arena
from tfcompress.runtime.runner import Runner, RuntimeRefusal, refusals
from tfcompress.runtime.tflm_process import TFLMError, TFLMProcess
from tfcompress.runtime.tflm_worker import MOST

ARENAS = (2**28, MOST)
"""Bytes: memory is taken only as far as it is used, so the first is as good as a small one; the second is the most."""

DECODE = "TFLM_DECODE"
"""Its operator that looks weights up in tables, which no other runtime has."""

MISSING = "Didn't find op"
"""Begins what TFLite Micro says of an operator that it hasn't: more memory wouldn't help."""


class TFLMRunner(Runner):
    """A `.tflite` file in TFLite Micro's interpreter with its portable kernels, in a process of its own.

    It has one thread, and the file's own sizes: none may be free.
    """

    format = "tflite"
    runtime = ("tflite-micro", "TFLite Micro")

    def __init__(self, path: pathlib.Path, threads: int = 1) -> None:
        ends = [list(_ends(path, kind)) for kind in ("inputs", "outputs")]
        free = [name for name, _, shape in ends[0] if -1 in shape]
        if free:
            raise RuntimeRefusal(
                f"Expected a file of fixed sizes, as TFLite Micro needs. Received: {str(path)!r}, whose input "
                f"{free[0]!r} has free ones. Export with batch_size=1, of a model whose other sizes are fixed.",
                ValueError("free sizes"),
            )
        self._process, details = _opened(path, [len(each) for each in ends])
        self._places = [{name: place for name, place, _ in each} for each in ends]
        named = [
            {name: _details(found[place]) for name, place in places.items()}
            for places, found in zip(self._places, details, strict=True)
        ]
        self.details = named[0], named[1]
        self._fixed = {name: (tuple(detail["shape"]), detail["dtype"]) for name, detail in named[0].items()}
        infos = [
            {name: TensorInfo(tuple(detail["shape"]), detail["dtype"]) for name, detail in each.items()}
            for each in named
        ]
        super().__init__(path, 1, infos[0], infos[1])

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the file once (see `Runner.run`)."""
        with refusals(self.path, inputs):
            _, values = self._process.ask("run", self._ordered(inputs))
            return {name: values[place] for name, place in self._places[1].items()}

    def arena(self) -> Arena:
        """Return what the file needs of memory to work in; it is run for that, on zeros."""
        given = {name: np.zeros(shape, dtype) for name, (shape, dtype) in self._fixed.items()}
        self.run(given)
        known = Arena.read(self._process.printed("allocations"))
        least, _ = self._process.ask("least", self._ordered(given), arena=known.total)
        return dataclasses.replace(known, total=least["arena"])

    def _ordered(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return [np.ascontiguousarray(inputs[name]) for name in sorted(inputs, key=self._places[0].__getitem__)]


def _opened(path: pathlib.Path, counts: list[int]) -> tuple[TFLMProcess, list[list[dict[str, Any]]]]:
    for arena in ARENAS:
        process = TFLMProcess()
        try:
            what: dict[str, Any] = {
                "path": str(path.absolute()),
                "arena": arena,
                "inputs": counts[0],
                "outputs": counts[1],
            }
            answer, _ = process.ask("open", **what)
            return process, [answer["inputs"], answer["outputs"]]
        except TFLMError as error:
            process.close()
            if arena == ARENAS[-1] or MISSING in str(error):
                raise
    raise AssertionError(ARENAS)


def _details(found: Mapping[str, Any]) -> dict[str, Any]:
    grid = {"scales": np.float32(found["scales"]), "zero_points": np.int32(found["zero_points"])}
    return {"shape": found["shape"], "dtype": found["dtype"], "quantization_parameters": grid}


def _ends(path: pathlib.Path, kind: str) -> Iterator[tuple[str, int, list[int]]]:
    """Yield name, place and shape (-1: free) of each input or output: by the signature, else by tensor, of a file."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    graph = model.subgraphs[0]
    entries = [entry for signature in (model.signatureDefs or [])[:1] for entry in getattr(signature, kind)]
    for place, index in enumerate(getattr(graph, kind)):
        tensor = graph.tensors[index]
        entry = next((entry for entry in entries if entry.tensorIndex == index), None)
        if entry is not None:
            entries.remove(entry)  # one tensor may be several outputs
        name = (tensor.name or b"") if entry is None else entry.name
        shape = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
        yield name.decode(), place, [int(size) for size in ([] if shape is None else shape)]
