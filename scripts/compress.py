"""python scripts/compress.py --model=my.keras --data=my.npz --sparsity=0.8

Prunes a model while it is trained, trains it quantized, writes it as TFLite and ONNX in float32, float16 and int8,
compares every file with the Keras model, and prints one table of size, accuracy and latency. Without --model it trains
a small model first; without --data it takes scikit-learn's digits. Everything is written to OUTPUT_DIR/NAME.
"""

import _environment  # noqa: F401

from tfcompress.cli import app, flags
from tfcompress.cli.jobs.compress import compress

flags.define("model", "data", "output_dir", "name", "sparsity", "layers", "epochs", "finetune_epochs", "qat_epochs")
flags.define("batch_size", "learning_rate", "seed", "threads", "overwrite", "unsafe")
flags.default("qat_epochs", 3)

if __name__ == "__main__":
    app.run(compress, __doc__)
