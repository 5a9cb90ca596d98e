"""What is clustered and how, from flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from absl.flags import FlagValues

from tfcompress.cli.config_file import layer_configs
from tfcompress.cli.wrong_use import UsageError, refuse_without_effect
from tfcompress.clustering import ClusterConfig
from tfcompress.core.arguments import is_whole, short
from tfcompress.graph.config_map import LayerConfigs

FIELDS = ("number_of_clusters", "init", "codebook", "granularity", "preserve_sparsity")
"""Of a `ClusterConfig`, that are flags."""


def config_of(values: FlagValues) -> ClusterConfig | LayerConfigs:
    """Return the configuration that the flags describe, or that of each layer."""
    if values.config is not None:
        refuse_without_effect(values, "with --config, whose file says it for each layer", *FIELDS)
        return layer_configs(values.config, read_config)
    try:
        fields: dict[str, Any] = {name: values[name].value for name in FIELDS}
        text = fields["granularity"]
        return ClusterConfig(**{**fields, "granularity": int(text) if text.isdecimal() else text})
    except ValueError as error:
        raise UsageError(str(error)) from error


def read_config(value: Any) -> ClusterConfig:
    """Return a config as a file has it: a number of clusters, or fields by name.

    >>> read_config({"number_of_clusters": 4, "init": "linear"}).init
    'linear'
    """
    if is_whole(value):
        return ClusterConfig(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"Expected a number of clusters, or fields of a ClusterConfig. Received: {short(value)}.")
    return ClusterConfig.from_dict(value)
