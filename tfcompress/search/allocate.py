"""Which layer gets what, in one call; and the widths of `tfcompress.quantize(model, "auto", data, size="200kB")`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfcompress.graph.config_map import LayerConfigs
from tfcompress.graph.inputs.declared import takes_inputs
from tfcompress.graph.selectors import Layers
from tfcompress.quantization import automatic
from tfcompress.search.allocation import Allocation
from tfcompress.search.allocator import FORMATS, Allocator
from tfcompress.search.choices import dense
from tfcompress.search.scores import SAMPLES


@takes_inputs
def allocate(
    model: keras.Model,
    data: Any,
    *,
    size: int | str | None = None,
    max_rise: float | None = None,
    config: Any = "int8",
    choices: Sequence[Any] | None = None,
    layers: Layers = None,
    formats: str | Sequence[str] = FORMATS,
    loss: Any = None,
    samples: int = SAMPLES,
    batch_size: int = 32,
    seed: int = 0,
    input_shapes: Any = None,
    input_dtypes: Any = None,
) -> Allocation:
    """Return which layer gets what, so that a file keeps within a size: by measured bytes and an integer programme.

    For each layer and choice (float, 16 bits of activations, weights of 8, 4, 3 and 2 bits; pruned; sharing a few
    values) the expected rise of the loss is half of the loss' curvature in the direction of what it changes of the
    weights, found in one pass over data; its bytes are those of the form that the exporter stores it in. What is
    returned was exported: its real file keeps within the size.

    Args:
        model: A built Keras model of any kind that isn't quantized; it is not changed.
        data: A few hundred inputs, without labels, as `tfcompress.quantize` takes them.
        size: Of a file of each format, at most: a number of bytes or "200kB".
        max_rise: The expected rise of the loss, at most, in place of a size.
        config: How layers are quantized but for the bits: "int8", or weights alone: "int8_weights".
        choices: What a layer may become, such as ["float", "int8", "int4 50% pruned", "16 values"]; `None`: all.
        layers: Which layers, as in `tfcompress.quantize`; the others stay float.
        formats: "tflite", "onnx" or both: what the size holds for, of files that are exported with `prefer="size"` and
            `weights="auto"`.
        loss: As for `compile`, which says what outputs are where that isn't seen: logits of classes end in no
            softmax; `None`: the one that `model` is compiled with.
        samples: How many inputs are looked at.
        batch_size: Samples in a batch for calibration.
        seed: Of the targets that are drawn.
        input_shapes: As in `tfcompress.quantize`.
        input_dtypes: As in `tfcompress.quantize`.

    Returns:
        An `Allocation`: rows, `table()`, the configs `.prune`, `.cluster` and `.quantize`, `apply(model, data)`.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: As `Allocator`; or if no file is so small: the message says what the smallest takes.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> keras.utils.set_random_seed(0)
    >>> layers = [keras.layers.Dense(64, activation="relu", name="hidden"), keras.layers.Dense(4, name="out")]
    >>> model = keras.Sequential([keras.Input((32,)), *layers])
    >>> x = np.random.default_rng(0).normal(size=(64, 32)).astype("float32")
    >>> found = tfc.allocate(model, x, size="6kB", formats="tflite", choices=["float", "int8", "int4"])
    >>> max(found.nbytes.values()) <= 6000, len(found.rows)
    (True, 2)
    """
    how = {"config": config, "choices": choices, "layers": layers, "formats": formats, "loss": loss}
    found = Allocator(model, data, **how, samples=samples, batch_size=batch_size, seed=seed)
    return found.allocate(size=size, max_rise=max_rise)


@automatic.register
def choose_widths(
    model: keras.Model,
    data: Any,
    *,
    size: int | str,
    formats: Any = None,
    layers: Any = None,
    batch_size: int = 32,
    **how: Any,
) -> LayerConfigs:
    """Return a config for each layer.

    Args:
        model: That is quantized.
        data: To score and calibrate with.
        size: Of a file of each format, at most.
        formats: "tflite", "onnx" or both; `None`: both.
        layers: Which are quantized.
        batch_size: Samples in a batch.
        **how: As for `tfcompress.quantize`, but for the rounding.
    """
    chosen = {"choices": dense(), "layers": layers, "batch_size": batch_size, "applied": how}
    found = Allocator(model, data, formats=FORMATS if formats is None else formats, **chosen).allocate(size=size)
    if found.quantize is None:
        raise ValueError(
            f"Expected a size below that of the float file. Received: {size!r}, and a file of "
            f"{max(found.nbytes.values()):,} bytes without quantization. Export the model as it is."
        )
    return found.quantize
