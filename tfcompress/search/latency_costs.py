"""How long each layer takes by each choice: a file of the layer alone, timed in the runtime."""

from __future__ import annotations

import json
import pathlib
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.passthrough import innermost
from tfcompress.data.model_batches import batches
from tfcompress.evaluation.timing import benchmark
from tfcompress.export import export
from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.graph.rewrite import Call, calls
from tfcompress.quantization.quantize import quantize
from tfcompress.quantization.quantize_config import QuantizeConfig
from tfcompress.search.changed_kernels import Unit
from tfcompress.search.choices import FLOAT, WIDE, Choice
from tfcompress.search.file_costs import EXPORT

SECONDS = 0.2
"""For the timed runs of one file."""

SAMPLES = 8
"""That reach a layer and calibrate it."""

Latencies = dict[str, dict[Choice, float]]
"""{layer: {choice: milliseconds of one inference}}."""


def latency_costs(
    kind: str,
    model: keras.Model,
    units: Sequence[Unit],
    *,
    choices: Sequence[Choice],
    base: QuantizeConfig,
    data: Any,
) -> Latencies:
    """Return the median time of each choice for each layer, of all its calls.

    Layers that differ by their weights alone are timed once, and so are choices that the runtime has one kernel for:
    zeros and tables take as long as any integers. A layer that can't be a model by itself, as one with several inputs,
    counts as 0 for every choice, with a warning.

    Args:
        kind: "tflite" or "onnx".
        model: Flat.
        units: Of its layers.
        choices: For each.
        base: How layers are quantized but for the bits.
        data: Inputs, as for `fit`, of which a few are looked at.
    """
    owners = {id(layer): unit.name for unit in units for layer in unit.layers}
    made = [call for call in calls(model) if id(call.operation) in owners]
    reaching = _reaching(model, made, data)
    found: Latencies = {unit.name: dict.fromkeys(choices, 0.0) for unit in units}
    known: dict[str, float] = {}
    left = []
    with tempfile.TemporaryDirectory() as folder:
        for call in made:
            alone = _alone(call)
            if alone is None:
                left.append(call.operation.name)
                continue
            x = reaching[id(call)]
            for choice in choices:
                plain = _timed_as(choice, kind)
                key = json.dumps([_description(call), list(x.shape[1:]), str(plain)], default=str)
                if key not in known:
                    known[key] = _time(alone, plain, base, x, pathlib.Path(folder) / f"layer.{kind}")
                found[owners[id(call.operation)]][choice] += known[key]
    if left:
        warnings.warn(
            f"Not timed, since they can't be models by themselves: {', '.join(sorted(set(left)))}. They count as "
            "equally fast by all choices.",
            stacklevel=2,
        )
    return found


def _timed_as(choice: Choice, kind: str) -> Choice:
    """Return the choice that the same kernel is timed for."""
    bits = choice.weight_bits
    if bits is None:
        return Choice(FLOAT)
    if choice.bits == WIDE:
        return Choice(WIDE)
    return Choice(8) if kind == "onnx" else Choice(4 if bits == 3 else bits)


def _reaching(model: keras.Model, made: Sequence[Call], data: Any) -> dict[int, np.ndarray]:
    """Return what reaches calls of one input, of a few samples."""
    read = [call for call in made if len(call.inputs) == 1]
    probe = keras.Model(graph_of(model).inputs, [call.inputs[0] for call in read])
    batch = next(batches(model, data, SAMPLES))
    values = probe([keras.ops.convert_to_tensor(x) for x in batch], training=False)
    return {id(call): keras.ops.convert_to_numpy(x) for call, x in zip(read, values, strict=True)}


def _alone(call: Call) -> keras.Model | None:
    """Return a model of a call by itself; `None`: there is none."""
    if len(call.inputs) != 1:
        return None
    x = call.inputs[0]
    inputs = keras.Input(batch_shape=x.shape, dtype=x.dtype)

    def fill(value: Any) -> Any:
        return inputs if keras.utils.is_keras_tensor(value) else value

    arguments, keywords = keras.tree.map_structure(fill, (call.arguments, call.keywords))
    return keras.Model(inputs, call.operation(*arguments, **keywords))


def _description(call: Call) -> Any:
    """Return what decides how long a layer takes: all but its name."""
    layer = innermost(call.operation)
    try:
        config: Mapping[str, Any] = layer.get_config()
    except NotImplementedError:
        return layer.name
    return [type(layer).__name__, {name: value for name, value in config.items() if name != "name"}]


def _time(alone: keras.Model, choice: Choice, base: QuantizeConfig, x: np.ndarray, path: pathlib.Path) -> float:
    """Return the median milliseconds of a model of one layer."""
    config = choice.quantize(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is said of a layer by itself says nothing of the model
        model = alone if config is None else quantize(alone, config, x)
        integers = config is not None and config.activations is not None and not config.activations.dynamic
        ends = "int8" if integers and choice.bits != WIDE and x.dtype.kind == "f" else "float32"
        export(model, path, overwrite=True, verify=False, inference_io=ends, **EXPORT[path.suffix[1:]])
        return benchmark(path, seconds=SECONDS).median_ms
