"""Judge, weigh and time models: Keras, TFLite and ONNX alike."""

from tfcompress.evaluation.evaluator import evaluate
from tfcompress.evaluation.metrics import Metrics
from tfcompress.evaluation.report import Report, compare
from tfcompress.evaluation.timing import Timing, benchmark

__all__ = ["Metrics", "Report", "Timing", "benchmark", "compare", "evaluate"]
