"""Judge, weigh and time models: Keras, TFLite and ONNX alike."""

from tfcompress.evaluation.compare import compare
from tfcompress.evaluation.evaluate import evaluate
from tfcompress.evaluation.footprint import Footprint, footprint
from tfcompress.evaluation.metrics import Metrics
from tfcompress.evaluation.report import Report
from tfcompress.evaluation.timing import Timing, benchmark

__all__ = ["Footprint", "Metrics", "Report", "Timing", "benchmark", "compare", "evaluate", "footprint"]
