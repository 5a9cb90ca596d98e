"""Ship a Keras model as TFLite or ONNX, with proof that the file is the model."""

from tfcompress.export.artifact import Artifact
from tfcompress.export.exporter import export
from tfcompress.export.plan.export_plan import ExportPlan, PlannedOperator, plan_export
from tfcompress.parity.proof import Parity, ParityError
from tfcompress.runtime.opening import open_runner
from tfcompress.runtime.runner import Runner

__all__ = [
    "Artifact",
    "ExportPlan",
    "Parity",
    "ParityError",
    "PlannedOperator",
    "Runner",
    "export",
    "open_runner",
    "plan_export",
]
