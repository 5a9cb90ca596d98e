"""python scripts/evaluate.py --models=my.keras,my.tflite,my.onnx --data=my.npz --html=report.html

Judges models on the test data: one table of size, accuracy, difference to the first, and latency; then for each
precision, recall and F1 by class. Without --data it takes scikit-learn's digits.
"""

import _environment  # noqa: F401

from tfcompress.cli import app, flags
from tfcompress.cli.jobs.evaluate import evaluate

flags.define("models", "data", "threads", "html", "json", "overwrite")
flags.require("models")

if __name__ == "__main__":
    app.run(evaluate, __doc__)
