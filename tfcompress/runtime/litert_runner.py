"""`.tflite` files in LiteRT."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfcompress.core.quiet_output import quiet
from tfcompress.data.named_inputs import TensorInfo
from tfcompress.runtime.runner import Runner, refusals


class TFLiteRunner(Runner):
    """A `.tflite` file in the ai_edge_litert interpreter, addressed through its signature."""

    format = "tflite"
    runtime = ("ai-edge-litert", "LiteRT")

    def __init__(self, path: pathlib.Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with quiet():
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            if all((detail["shape_signature"] >= 0).all() for detail in self._interpreter.get_input_details()):
                # Not with free sizes: they count as 1 until data comes, too small for many a convolution. And
                # now, for it is refused once a signature runner holds the interpreter.
                self._interpreter.allocate_tensors()
            signatures = self._interpreter.get_signature_list()
            key = "serving_default" if "serving_default" in signatures else next(iter(signatures), None)
            # Old files, and those that other tools wrote, may have no signature: then by tensor name.
            self._signature = self._interpreter.get_signature_runner(key) if key else None
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        if self._signature:
            # A signature sorts its names; the graph has them in the order of the traced function's arguments.
            inputs = _in_graph_order(self._signature.get_input_details(), inputs)
            outputs = _in_graph_order(self._signature.get_output_details(), outputs)
        else:
            inputs = {detail["name"]: detail for detail in inputs}
            outputs = {detail["name"]: detail for detail in outputs}
        self.details = inputs, outputs
        super().__init__(
            path,
            threads,
            {name: _tflite_info(detail) for name, detail in inputs.items()},
            {name: _tflite_info(detail) for name, detail in outputs.items()},
        )

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the file once (see `Runner.run`)."""
        with refusals(self.path, inputs):
            return self._run(inputs)

    def _run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._signature:
            results = self._signature(**inputs)
            return {name: results[name] for name in self.output_specs}
        shapes = {detail["index"]: tuple(detail["shape"]) for detail in self._interpreter.get_input_details()}
        for name, detail in self.details[0].items():
            if shapes[detail["index"]] != inputs[name].shape:
                self._interpreter.resize_tensor_input(detail["index"], inputs[name].shape)
        self._interpreter.allocate_tensors()
        for name, detail in self.details[0].items():
            self._interpreter.set_tensor(detail["index"], inputs[name])
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(detail["index"]) for name, detail in self.details[1].items()}


def _in_graph_order(
    by_name: Mapping[str, Mapping[str, Any]], in_order: Sequence[Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    places = {detail["index"]: place for place, detail in enumerate(in_order)}
    return dict(sorted(by_name.items(), key=lambda item: places.get(item[1]["index"], len(places))))


def _tflite_info(detail: Mapping[str, Any]) -> TensorInfo:
    shape = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    return TensorInfo(tuple(None if size < 0 else int(size) for size in shape), np.dtype(detail["dtype"]).name)
