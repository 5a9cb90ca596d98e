#!/usr/bin/env bash
# ai-edge-litert 2.3.0: the reference kernels (OpResolverType.BUILTIN_REF) are wrong in the int8 SUM of a file that
# TensorFlow 2.21.0's own converter calibrated: 16 numbers of 0..1 that add up to 8.12 come out as 3.17. The default
# kernels, and the optimized ones without a delegate, say 8.13. A MEAN is right in all three. So the reference kernels
# can't stand for the truth there. No error.
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

x = np.random.default_rng(0).uniform(0, 1, (16, 1, 16)).astype("float32")


def computed(function):
    """Return what the default, the optimized and the reference kernels make of `function` in int8."""
    module = tf.Module()
    module.run = tf.function(lambda x: function(x, axis=-1), input_signature=[tf.TensorSpec((1, 16), name="x")])
    convert = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
    convert.optimizations = [tf.lite.Optimize.DEFAULT]
    convert.representative_dataset = lambda: ([sample] for sample in x)
    file = convert.convert()
    for kernels in (
        OpResolverType.AUTO,
        OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        OpResolverType.BUILTIN_REF,
    ):
        interpreter = Interpreter(model_content=file, experimental_op_resolver_type=kernels)
        (value,) = interpreter.get_signature_runner()(x=x[0]).values()
        yield float(value[0])


for function in (tf.reduce_sum, tf.reduce_mean):
    right, (default, optimized, reference) = float(function(x[0])), computed(function)
    print(f"{function.__name__}: right {right:.3f}, default {default:.3f}, optimized {optimized:.3f}, "
          f"reference {reference:.3f}")
    assert abs(default - right) < 0.02 and default == optimized, (default, optimized)
    if function is tf.reduce_mean:
        assert reference == default, reference
    else:
        assert abs(reference - right) > 4, reference
PYTHON
echo "as described: the reference kernels' int8 sum is wrong, the others' is right"
