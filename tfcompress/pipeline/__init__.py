"""Training, and what is looked for by training again and again: what the jobs of the command do."""

from tfcompress.data.dataset import Data, Dataset
from tfcompress.data.sources.digits import digits
from tfcompress.data.sources.npz import read_npz
from tfcompress.pipeline.training import check_fits, default_model, fit

__all__ = ["Data", "Dataset", "check_fits", "default_model", "digits", "fit", "read_npz"]
