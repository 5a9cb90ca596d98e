#!/usr/bin/env bash
# ai-edge-litert 2.3.0 on x86-64: the int8 ADD of a file that TensorFlow 2.21.0's own converter made. Where the step of
# the inputs is 300 times that of the output (a sum of large numbers that cancelled in calibration), sums beyond the
# output's range come out at its other end: 300 + 300 is -1.003, and .995, the largest number, with the reference
# kernels. No error. At 100 times both saturate alike.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tensorflow==2.21.0 ai-edge-litert==2.3.0 numpy==2.4.6
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

COUNT = 256


def sums(ratio):
    """Return what the default and the reference kernels make of `ratio + x`, x in 0..ratio, on a grid of -1..1."""
    rng = np.random.default_rng(0)
    large = rng.uniform(-ratio, ratio, (8, COUNT)).astype("float32")
    small = rng.uniform(-1, 1, (8, COUNT)).astype("float32")
    module = tf.Module()
    signature = [tf.TensorSpec((COUNT,), name="x"), tf.TensorSpec((COUNT,), name="y")]
    module.run = tf.function(lambda x, y: x + y, input_signature=signature)
    convert = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
    convert.optimizations = [tf.lite.Optimize.DEFAULT]
    convert.representative_dataset = lambda: ([a, b - a] for a, b in zip(large, small, strict=True))
    file = convert.convert()
    x = np.linspace(0.01 * ratio, ratio, COUNT).astype("float32")
    y = np.full(COUNT, ratio, "float32")
    for kernels in (OpResolverType.AUTO, OpResolverType.BUILTIN_REF):
        interpreter = Interpreter(model_content=file, experimental_op_resolver_type=kernels)
        (value,) = interpreter.get_signature_runner()(x=x, y=y).values()
        yield value


for ratio in (100, 300):
    default, reference = sums(ratio)
    print(f"ratio {ratio}: default {default.min():.3f}..{default.max():.3f}, "
          f"reference {reference.min():.3f}..{reference.max():.3f}")
    assert reference.min() == reference.max() > 0.99
    if ratio == 100:
        assert np.array_equal(default, reference)
    else:
        assert default.min() < -0.99, default.min()
PYTHON
echo "as described: the default kernels wrap around, the reference kernels saturate"
