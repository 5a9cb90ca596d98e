"""How many values weights share, and which they are at first."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfcompress.core.arguments import check_choice, check_count, check_fields, check_flag, is_whole, says_fields
from tfcompress.core.names import STARTS_ELSEWHERE
from tfcompress.quantization.encoding import LARGEST_TABLE
from tfcompress.quantization.weights.codebook import GRADIENTS
from tfcompress.quantization.weights.levels import LEVELS
from tfcompress.quantization.weights.starts import STARTS

GRANULARITIES = ("per_tensor", "per_channel")


@says_fields
@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """How many values the weights of a kernel share, and which they are at first; training moves them.

    Args:
        number_of_clusters: Values, 2 to 256.
        init: Where free values start: "kmeans++", "linear", "random" and "density" are those of TensorFlow Model
            Optimization; "quantile": as many weights near each; "kmeans": the values of least squared error, exactly.
        codebook: "free": any values; or "uniform", "power_of_two" or "additive_power_of_two": fixed levels times a
            scale of least squared error, which is trained. Their number is odd, of the last a power of two less 1;
            `init` doesn't count.
        granularity: "per_tensor": one table for a kernel; "per_channel": one for each output channel (of attention,
            for each head); or how many output channels share a table.
        preserve_sparsity: Whether one of the values is always 0, and zeros stay zeros in training.
        gradient: Whether a value is trained with the "sum" or the "mean" of the gradients of its weights.
        seed: Of "kmeans++", which draws among the weights, and of "random".

    Raises:
        ValueError: If a field holds something else, or fields don't go together.

    Example:

    >>> import tfcompress as tfc
    >>> tfc.ClusterConfig(16, "linear").granularity
    'per_tensor'
    """

    number_of_clusters: int
    init: str = "kmeans++"
    codebook: str = "free"
    granularity: str | int = "per_tensor"
    preserve_sparsity: bool = True
    gradient: str = "sum"
    seed: int = 9

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        most = LARGEST_TABLE
        set_field(self, "number_of_clusters", check_count("number_of_clusters", self.number_of_clusters, 2, most))
        check_choice("init", self.init, STARTS, also=STARTS_ELSEWHERE)
        check_choice("codebook", self.codebook, ("free", *LEVELS))
        check_choice("gradient", self.gradient, GRADIENTS, also={"avg": "mean", "average": "mean"})
        check_flag("preserve_sparsity", self.preserve_sparsity)
        set_field(self, "seed", check_count("seed", self.seed, 0))
        if is_whole(self.granularity):
            set_field(self, "granularity", check_count("granularity", self.granularity, 2))
        else:
            check_choice("granularity", self.granularity, GRANULARITIES, " or a number of channels")
        self._check_levels()

    def _check_levels(self) -> None:
        count = self.number_of_clusters
        if self.codebook == "free":
            return
        if self.init != "kmeans++":
            raise ValueError(
                f"Expected no init with codebook={self.codebook!r}, whose levels are fixed. Received: "
                f"init={self.init!r}. Leave it out, or take codebook='free'."
            )
        if not count % 2:
            raise ValueError(
                f"Expected an odd number_of_clusters with codebook={self.codebook!r}: 0, and as many levels below it "
                f"as above. Received: number_of_clusters={count}. Take {count - 1}."
            )
        if self.codebook == "additive_power_of_two" and (count + 1) & count:
            raise ValueError(
                "Expected number_of_clusters to be a power of two less 1 with codebook='additive_power_of_two'. "
                f"Received: number_of_clusters={count}. Take {(1 << (count.bit_length() - 1)) - 1}."
            )

    @classmethod
    def get(cls, config: Any, **fields: Any) -> ClusterConfig:
        """Return a configuration itself, or that of a number of clusters.

        Args:
            config: A `ClusterConfig`, or a number of clusters.
            **fields: Others, of a number.

        >>> ClusterConfig.get(16, init="linear").init
        'linear'
        """
        if isinstance(config, cls):
            return dataclasses.replace(config, **fields)
        return cls(config, **fields)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> ClusterConfig:
        """Return the configuration that `to_dict` was called on."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**check_fields("a ClusterConfig", values, names, least=("number_of_clusters",)))
