"""What a compressed weight is in a file: integers with scales, or places in a table of values."""

from tfcompress.quantization.encoding.affine import Affine, pieces
from tfcompress.quantization.encoding.base import Encoding
from tfcompress.quantization.encoding.bias import encode_bias
from tfcompress.quantization.encoding.table import LARGEST_TABLE, Table

__all__ = ["LARGEST_TABLE", "Affine", "Encoding", "Table", "encode_bias", "pieces"]
