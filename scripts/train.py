"""python scripts/train.py --data=my.npz --output=my.keras --epochs=20 --precision=auto

Trains a small model that fits the data, or goes on with --model, and saves it. Without --data it takes
scikit-learn's digits.
"""

import _environment  # noqa: F401

from tfcompress.cli import app, device_flags, flags
from tfcompress.cli.jobs.train import train

flags.define("model", "data", "output", "epochs", "batch_size", "learning_rate", "training_precision", "seed")
flags.define("overwrite", "unsafe")
flags.define(*device_flags.FLAGS)
flags.require("output")

if __name__ == "__main__":
    app.run(train, __doc__)
