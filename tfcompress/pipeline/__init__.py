"""From a model and data to files and a report: what the jobs of the command do."""

from tfcompress.data.dataset import Data, Dataset
from tfcompress.data.sources.digits import digits
from tfcompress.data.sources.npz import read_npz
from tfcompress.pipeline.compress_job import compress_job
from tfcompress.pipeline.training import check_fits, default_model, fit

__all__ = ["Data", "Dataset", "check_fits", "compress_job", "default_model", "digits", "fit", "read_npz"]
