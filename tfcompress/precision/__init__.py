"""Mixed precision: a model that computes in 16 bits, with float32 weights, and float32 where range is needed."""

from tfcompress.precision.explain import PrecisionReport, PrecisionRow, explain
from tfcompress.precision.mixed import full_precision, mixed_precision
from tfcompress.precision.range_check import check_float16
from tfcompress.precision.range_report import Float16Report, Float16Row

__all__ = [
    "Float16Report",
    "Float16Row",
    "PrecisionReport",
    "PrecisionRow",
    "check_float16",
    "explain",
    "full_precision",
    "mixed_precision",
]
