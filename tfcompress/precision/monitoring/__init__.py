"""What half precision does to a training: the callback that looks on."""

from tfcompress.precision.monitoring.monitor import PrecisionMonitor
from tfcompress.precision.monitoring.training_report import MonitorReport, MonitorRow

__all__ = ["MonitorReport", "MonitorRow", "PrecisionMonitor"]
