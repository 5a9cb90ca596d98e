#!/usr/bin/env bash
# scikit-learn 1.9.1: train_test_split(stratify=y) may leave a class out of the test part, or out of the training part,
# without a warning: of a class of 2 among 100 samples it puts none into a test part of 10 %, whatever the seed. Two
# samples are enough for stratify, which refuses a class of one; so it looks as if each class were on both sides.
# Fails if the class gets into the test part, or a warning is given.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" -W error - <<'PYTHON'
import numpy as np
from sklearn.model_selection import train_test_split

y = np.repeat([0, 1, 2], [58, 40, 2])
x = np.arange(len(y))
for size in (0.1, 0.9):
    counts = []
    for seed in range(100):
        _, _, train, test = train_test_split(x, y, test_size=size, stratify=y, random_state=seed)
        counts.append((int(np.sum(train == 2)), int(np.sum(test == 2))))
    print(f"test_size={size}: of the rare class in the training and test parts:", sorted(set(counts)))
    assert set(counts) == ({(2, 0)} if size == 0.1 else {(0, 2)})
try:
    train_test_split(x, np.append(y[:-1], 1), test_size=0.1, stratify=np.append(y[:-1], 1))
except ValueError as error:
    print("one sample of a class:", error)
PYTHON
echo "as described: a class of two samples is on one side alone"
