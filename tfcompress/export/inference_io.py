"""Whether a file's inputs and outputs can be integers; looked at before any work."""

from __future__ import annotations

import keras

from tfcompress.export.plan.scheme import scheme_of
from tfcompress.graph.index import index_of
from tfcompress.quantization.graph.activation_quantizer import (
    ActivationQuantizer,
    activation_quantizers,
    wanted_activations,
)
from tfcompress.quantization.graph.quantizer_sources import quantizer_of
from tfcompress.tracing.trace import Trace


def check_inference_io(model: keras.Model, inference_io: str) -> None:
    """Raise ValueError unless a model's inputs and outputs can have the dtype of `inference_io`."""
    if inference_io == "float32":
        return
    scheme = scheme_of(model)
    if scheme is not None and scheme.activations == "static":
        wide = _wide_ends(model) if scheme.activation_bits != 8 else []
        if not wide:
            return
        raise ValueError(
            f"Expected inference_io='float32': an integer input or output needs activations of 8 bits around it. "
            f"Received: inference_io={inference_io!r}, and {', '.join(wide)}. Quantize those layers with 8 bits."
        )
    wanted = wanted_activations(model)
    if wanted is not None and not wanted.dynamic and not activation_quantizers(model):
        raise ValueError(
            f"Expected inference_io='float32', since no layer of {model.name!r} that is quantized has an integer "
            f"kernel: all of it is computed in float. Received: inference_io={inference_io!r}. tfcompress.summary "
            "says why, layer by layer."
        )
    raise ValueError(
        "Expected inference_io='float32': integer inputs and outputs need a quantized model with activations of 8 "
        f"bits, as tfcompress.quantize(model, 'int8') makes. Received: inference_io={inference_io!r}."
    )


def _wide_ends(model: keras.Model) -> list[str]:
    """Return the inputs and outputs of a quantized model that are on grids of other than 8 bits, in words."""
    graph = index_of(model)
    found = []
    for call in graph:
        quantizer = call.operation
        if (
            isinstance(quantizer, ActivationQuantizer)
            and quantizer.spec.bits != 8
            and graph.producer(call.inputs[0]) is None
        ):
            found.append(f"input {call.inputs[0].name!r} with {quantizer.spec.bits} bits")
    for name, x in zip(model.output_names, model.outputs, strict=True):
        made = quantizer_of(x, graph.producer)
        if made is not None and made.spec.bits != 8:
            found.append(f"output {name!r} with {made.spec.bits} bits")
    return found


def has_integer_ends(model: keras.Model) -> bool:
    """Return whether all inputs and outputs of a quantized model are on grids of 8 bits."""
    graph = index_of(model)
    grids = [
        [call.operation for call in graph.readers(x) if isinstance(call.operation, ActivationQuantizer)]
        for x in model.inputs
    ]
    made = [quantizer_of(x, graph.producer) for x in model.outputs]
    ends = [*(each[0] if each else None for each in grids), *made]
    return all(one is not None and one.spec.bits == 8 and not one.spec.dynamic for one in ends)


def check_no_whole_inputs(traced: Trace, inference_io: str) -> None:
    """Raise ValueError if inputs that are to be quantized integers hold whole numbers."""
    whole = whole_inputs(traced)
    if inference_io != "float32" and whole:
        raise ValueError(
            f"Expected inference_io='float32', since input {whole[0]!r} holds whole numbers (as an Embedding takes "
            f"them), not quantized ones. Received: inference_io={inference_io!r}."
        )


def whole_inputs(traced: Trace) -> list[str]:
    """Return the inputs that hold whole numbers, which are no quantized ones."""
    return [name for name, spec in traced.inputs.items() if name in traced.integral or "float" not in spec.dtype]
