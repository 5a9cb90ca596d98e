"""Ship a Keras model as TFLite or ONNX, with proof that the file is the model."""

from tfcompress.export.artifact import Artifact
from tfcompress.export.exporter import export
from tfcompress.export.runtime import Runner, open_runner
from tfcompress.export.verify import Parity, ParityError

__all__ = ["Artifact", "Parity", "ParityError", "Runner", "export", "open_runner"]
