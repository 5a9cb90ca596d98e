"""What a model gives in Keras: the reference for its file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from tfcompress.core.arguments import running
from tfcompress.core.keras_private import activations_freed
from tfcompress.core.uneven_rows import cut, is_uneven
from tfcompress.data.named_inputs import count_samples
from tfcompress.graph.inputs.sizes import batch_of
from tfcompress.quantization.graph.quantized_layer import weights_unchanged
from tfcompress.quantization.numerics.custom_gradient import values_alone
from tfcompress.runtime.runner import DEFAULT_BATCH_SIZE, fill
from tfcompress.tracing.float32_view import float32_view
from tfcompress.tracing.trace import Trace


def reference(model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of Keras.

    As many samples are computed at once as the file takes; of one that takes a single one, more, since Keras then shows
    what depends on the others of the batch.
    """
    samples = count_samples(inputs)
    asked = batch_of(spec.shape for spec in trace.inputs.values())
    own = batch_of(spec.shape for spec in trace.signature.inputs.values())
    step = own or (asked if asked is not None and asked > 1 else DEFAULT_BATCH_SIZE)
    if is_uneven(inputs.values()):
        step = samples
    pieces = []
    call = trace.signature.caller(model)
    for part in cut(inputs, step):
        batch = list(part.values())
        here = count_samples(part)
        if here < step == asked:
            batch = [fill(array, step) for array in batch]
        tensors = [keras.ops.convert_to_tensor(array) for array in batch]
        with (
            float32_view(model),
            running(f"the model {model.name!r}", batch),
            keras.StatelessScope(),
            activations_freed(),
            values_alone(),
        ):
            outputs = call(tensors)
        made = {name: keras.ops.convert_to_numpy(outputs[name]) for name in trace.outputs}
        if here < step == asked:
            made = {name: value[:here] if value.shape[:1] == (step,) else value for name, value in made.items()}
        pieces.append(made)
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in trace.outputs}


@contextlib.contextmanager
def weights_once(model: keras.Model) -> Iterator[None]:
    """Let the weights of a model be transformed once for all calls of it in the block."""
    with contextlib.ExitStack() as stack:
        with float32_view(model), values_alone():
            stack.enter_context(weights_unchanged(model))
        yield
