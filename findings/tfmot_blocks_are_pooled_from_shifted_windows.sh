#!/usr/bin/env bash
# tensorflow-model-optimization 0.8.1, TensorFlow 2.21.0: pruning in blocks of 1x3 of a kernel that is four columns wide
# judges other weights than it removes. The blocks' means come from a pooling with SAME padding, which puts one column
# of padding in front, so its windows are the columns (0, 1) and (2, 3); the masks are laid out from the first column,
# in (0, 1, 2) and (3). A large weight in column 2 counts for the block that doesn't hold it.
# Fails if the block that is removed is the one of the smaller mean magnitude.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    tensorflow-model-optimization==0.8.1 tensorflow==2.21.0 tf_keras==2.21.0 numpy==2.4.6
cd "$folder"
TF_USE_LEGACY_KERAS=1 TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot

sparsity = tfmot.sparsity.keras
model = tf.keras.Sequential([tf.keras.layers.Dense(4, use_bias=False, input_shape=(2,))])
schedule = sparsity.ConstantSparsity(0.5, begin_step=0, frequency=1)
pruned = sparsity.prune_low_magnitude(model, schedule, block_size=(1, 3), block_pooling_type="AVG")
row = [1.0, 1.0, 9.0, 2.0]  # means: 3.67 of the block (0, 1, 2), 2 of the block (3)
pruned.layers[0].layer.kernel.assign([row, row])
pruned.compile(tf.keras.optimizers.SGD(0.0), "mse")
pruned.fit(np.zeros((1, 2)), np.zeros((1, 4)), verbose=0, callbacks=[sparsity.UpdatePruningStep()])
left = sparsity.strip_pruning(pruned).layers[0].get_weights()[0]
print("row", row, "-> pruned", left.tolist())
assert left.tolist() == [[0.0, 0.0, 0.0, 2.0]] * 2, left
PYTHON
echo "as described: the block with the larger mean was removed"
