"""What is in a model or a file."""

from __future__ import annotations

import collections
import dataclasses
import math
import pathlib
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli.job import Job, Result

if TYPE_CHECKING:
    from tfcompress.pipeline.checkpoints import Resume


def inspect(values: FlagValues, resume: Resume) -> Result:
    """Print what is in a model or a file."""
    from tfcompress.evaluation.inspection import inspect_file
    from tfcompress.runtime.runner import FORMATS

    if pathlib.Path(values.model).suffix.lower() not in FORMATS:
        return _of_model(values)
    found = inspect_file(values.model)
    print(found)
    return found.to_dict()


def _of_model(values: FlagValues) -> Result:
    """Print the summary of a Keras model, its inputs and outputs, and the bytes of its weights by what they are."""
    import numpy as np

    import tfcompress as tfc
    from tfcompress.evaluation.inspection import table_of_bytes
    from tfcompress.graph.inputs.symbolic import graph_of, has_graph
    from tfcompress.reports.tables import to_text

    model = tfc.load(values.model, unsafe=values.unsafe)
    summary = tfc.summary(model)
    inputs = {tensor.name: tensor for tensor in getattr(model, "inputs", None) or ()}  # a subclassed model has none
    names = graph_of(model).output_names if has_graph(model) else ()
    outputs = dict(zip(names, getattr(model, "outputs", None) or (), strict=False))
    ends: dict[str, dict[str, Any]] = {
        kind: {name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype)} for name, tensor in given.items()}
        for kind, given in (("inputs", inputs), ("outputs", outputs))
    }
    sizes: collections.Counter[str] = collections.Counter()
    for weight in model.weights:
        sizes[f"{weight.dtype} {weight.name}"] += math.prod(weight.shape) * np.dtype(weight.dtype).itemsize
    by_kind = dict(sizes.most_common())
    print(summary)
    for kind, tensors in ends.items():
        for name, tensor in tensors.items():
            shape = ", ".join("any" if size is None else str(size) for size in tensor["shape"])
            print(f"  {kind[:-1]} {name}: {tensor['dtype']} ({shape})")
    print(to_text(table_of_bytes(by_kind)))
    rows = [dataclasses.asdict(row) for row in summary.rows]
    return {"path": values.model, "format": "keras", **ends, "layers": rows, "bytes_by_kind": by_kind}


JOB = Job(
    does="Says what is in a model or a file: layers or operators, inputs and outputs with scales, bytes by kind.",
    example="--model=my.tflite",
    more="Of a Keras model: each layer's weights, zeros and status. Of a .tflite or .onnx file, written by anyone: how "
    "many operators of each kind compute in integers and how many in float, and what its bytes are.",
    run=inspect,
    flags=("any_model", "overwrite", "unsafe"),
    required=("model",),
)
