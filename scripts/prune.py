"""python scripts/prune.py --model=my.keras --data=my.npz --sparsity=0.8 --output=pruned.keras

Prunes a model while it is trained, and saves it without the wrappers: a plain Keras model with zeros in it.
Whole channels (--granularity=channel) are taken out, so that the model is smaller and faster.
Without --data it takes scikit-learn's digits. With --sweep=0.5,0.8,0.9 --output=sweep.json it does so for each of these
sparsities and compares them on training and test data, in a table, a picture and the .json file.
"""

import _environment  # noqa: F401

from tfcompress.cli import app, device_flags, flags
from tfcompress.cli.jobs.prune import prune

flags.define("model", "data", "output", "sparsity", "sweep", "scope", "layers", "finetune_epochs", "batch_size")
flags.define("criterion", "granularity", "threshold", "shrink", "learning_rate", "seed", "overwrite", "unsafe")
flags.define(*device_flags.FLAGS)
flags.require("model", "output")

if __name__ == "__main__":
    app.run(prune, __doc__)
