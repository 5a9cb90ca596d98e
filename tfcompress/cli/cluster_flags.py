"""What is clustered and how, from flags."""

from __future__ import annotations

from typing import Any

from absl.flags import FlagValues

from tfcompress.cli.wrong_use import UsageError, refuse_without_effect
from tfcompress.clustering import ClusterConfig
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.recipes.config_file import layer_configs
from tfcompress.recipes.written_configs import read_cluster

FIELDS = ("number_of_clusters", "init", "codebook", "granularity", "preserve_sparsity")
"""Of a `ClusterConfig`, that are flags."""


def config_of(values: FlagValues) -> ClusterConfig | LayerConfigs:
    """Return the configuration that the flags describe, or that of each layer."""
    if values.config is not None:
        refuse_without_effect(values, "with --config, whose file says it for each layer", *FIELDS)
        return layer_configs(values.config, read_cluster)
    try:
        fields: dict[str, Any] = {name: values[name].value for name in FIELDS}
        text = fields["granularity"]
        return ClusterConfig(**{**fields, "granularity": int(text) if text.isdecimal() else text})
    except ValueError as error:
        raise UsageError(str(error)) from error
