#!/usr/bin/env bash
# TensorFlow 2.21.0, eager, on a CPU: tf.Variable(value, name=...) takes about five times as long for a name that the
# process hasn't used yet as for one that it has (570 against 103 microseconds on one machine): each new name becomes a
# new attribute of the operation, for which a kernel is looked up and kept. A Keras model gives each variable a name of
# its own, with its layer's; to build 1,000 of them costs more than half a second for names alone.
# Fails if a new name costs less than twice an old one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow==2.21.0 numpy==2.4.6
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import time

import numpy as np
import tensorflow as tf

value = np.zeros(4, "float32")
times = {"new": [], "old": []}
tf.Variable(value, name="known")
for number in range(500):
    for kind, name in (("new", f"variable_{number}"), ("old", "known")):
        begun = time.perf_counter()
        tf.Variable(value, name=name)
        times[kind].append(time.perf_counter() - begun)
new, old = (1e6 * sorted(times[kind])[250] for kind in ("new", "old"))
print(f"a variable of a new name takes {new:.0f} microseconds, one of a known name {old:.0f} (medians)")
assert new > 2 * old
PYTHON
echo "as described: a new name costs more than the variable"
