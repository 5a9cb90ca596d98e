"""Real values in and out of files whose inputs and outputs are integers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcompress.data.named_inputs import TensorInfo, by_name
from tfcompress.runtime.runner import Runner

QUANTIZERS = "tfcompress.quantizers"
"""The entry of a file's metadata that maps the names of layers to those of tensors, as JSON."""
METADATA = "tfcompress.inference_io"
"""Key of an ONNX file's metadata: {name: {"scale", "zero_point"}} of its integer inputs and outputs, as JSON."""


def io_grids(runner: Runner) -> dict[str, tuple[float, int]]:
    """Return the scale and zero point of each input and output of a file that holds quantized integers.

    A TFLite file has them in its tensors. The ONNX standard has no place for them: there they are entries of the
    metadata.

    Args:
        runner: the file, opened.

    Returns:
        {name: (scale, zero point)}; an integer q stands for (q - zero point) * scale. Inputs and outputs of other
        kinds are left out.
    """
    specs = {**runner.input_specs, **runner.output_specs}
    whole = {name for name, spec in specs.items() if np.dtype(spec.dtype).kind in "iu"} if specs else set()
    if runner.format == "tflite":
        details: dict[str, Any] = {**runner.details[0], **runner.details[1]}  # type: ignore[attr-defined]
        found = {name: details[name]["quantization_parameters"] for name in whole}
        return {
            name: (float(grid["scales"][0]), int(grid["zero_points"][0]))
            for name, grid in found.items()
            if len(grid["scales"]) == 1
        }
    try:
        entries = runner.session.get_modelmeta().custom_metadata_map  # type: ignore[attr-defined]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected a file whose notes are text. Received: {str(runner.path)!r}, which is damaged ({error}). Export "
            "it again."
        ) from error
    grids = json.loads(entries.get(METADATA, "{}"))
    return {name: (float(grids[name]["scale"]), int(grids[name]["zero_point"])) for name in whole if name in grids}


def with_grids(specs: Mapping[str, TensorInfo], runner: Runner) -> dict[str, TensorInfo]:
    """Return the inputs or outputs of a file with the scale and zero point of those that are quantized integers."""
    grids = io_grids(runner)
    return {
        name: dataclasses.replace(info, scale=grids[name][0], zero_point=grids[name][1]) if name in grids else info
        for name, info in specs.items()
    }


def predict(runner: Runner, x: Any) -> Any:
    """Run a file on real values, whatever dtype its inputs and outputs have.

    Args:
        runner: the file, opened.
        x: as `Runner.predict` takes it. For a quantized input values of its own integer dtype go in as they are,
            others are quantized.

    Returns:
        As `Runner.predict`; quantized outputs are dequantized, except where all quantized inputs were given as
        integers: then they are integers, too.

    Raises:
        ValueError: `x` doesn't fit the inputs, or holds NaN for a quantized one.
    """
    grids = io_grids(runner)
    if not grids:
        return runner.predict(x)
    named, real = as_integers(by_name(x, runner.input_specs), runner.input_specs, grids)
    outputs = runner.predict(named)
    if not real:
        return outputs
    if isinstance(outputs, Mapping):
        return {name: real_values(value, grids.get(name)) for name, value in outputs.items()}
    return real_values(outputs, grids.get(runner.output_names[0]))


def as_integers(
    named: Mapping[str, Any], specs: Mapping[str, TensorInfo], grids: Mapping[str, tuple[float, int]]
) -> tuple[dict[str, np.ndarray], bool]:
    """Return inputs with the integers that stand for them where a file takes integers, and what outputs are to be.

    Args:
        named: {input name: values}; for a quantized input values of its own integer dtype stay as they are.
        specs: of these inputs.
        grids: as `io_grids` returns them.

    Returns:
        The inputs, and whether outputs are to be real values: `False` where all quantized inputs were integers.
    """
    found = {name: np.asarray(value) for name, value in named.items()}
    quantized = [name for name in found if name in grids]
    real = [name for name in quantized if found[name].dtype != specs[name].dtype]
    for name in real:
        found[name] = quantize(name, found[name], *grids[name], specs[name].dtype)
    return found, bool(real) or not quantized


def held(runner: Runner, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return inputs as a file takes them: for a quantized one the real values that its integers stand for.

    Args:
        runner: the file, opened.
        inputs: {input name: array of real values}.
    """
    grids = io_grids(runner)
    dtypes = {name: runner.input_specs[name].dtype for name in inputs if name in grids}
    return {
        name: real_values(quantize(name, value, *grids[name], dtypes[name]), grids[name]) if name in dtypes else value
        for name, value in inputs.items()
    }


def quantize(name: str, values: np.ndarray, scale: float, zero_point: int, dtype: str) -> np.ndarray:
    """Return the integers that stand for real values, rounded as the runtimes do: halves to even.

    >>> quantize("x", np.array([-9.0, 0.25, 0.75]), 0.5, 3, "int8")
    array([-15,   3,   5], dtype=int8)
    """
    if values.dtype.kind not in "biuf" or np.isnan(values).any():
        raise ValueError(
            f"Expected numbers for input {name!r}. Received: "
            + ("NaN." if values.dtype.kind == "f" else f"dtype {values.dtype}.")
        )
    limits = np.iinfo(dtype)
    integers = np.rint(values.astype(np.float32) * (np.float32(1) / np.float32(scale))) + float(zero_point)
    return np.clip(integers, limits.min, limits.max).astype(dtype)


def real_values(values: np.ndarray, grid: tuple[float, int] | None) -> np.ndarray:
    """Return the real values that integers of a scale and zero point stand for; `None`: these are values already.

    >>> real_values(np.array([-15, 3, 5], np.int8), (0.5, 3))
    array([-9.,  0.,  1.], dtype=float32)
    """
    if grid is None:
        return values
    return (values.astype(np.int32) - grid[1]).astype(np.float32) * np.float32(grid[0])
