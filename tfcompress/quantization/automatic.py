"""Widths for each layer that are chosen by the size of a file: by what knows of files, which this package doesn't."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfcompress.core.arguments import short
from tfcompress.graph.config_map import LayerConfigs

AUTO = "auto"
"""What `tfcompress.quantize` takes in place of a config."""

Choose = Callable[..., LayerConfigs]

_registered: list[Choose] = []


def register(choose: Choose) -> Choose:
    """Let a function choose widths: `choose(model, data, size=, formats=, layers=, batch_size=, **how)`."""
    _registered[:] = [choose]
    return choose


def widths(config: Any, model: Any, data: Any, size: Any, formats: Any, **how: Any) -> Any:
    """Return the config for each layer where it is to be chosen, any other as it is.

    Raises:
        ValueError: If a size is given and nothing is to be chosen, or the other way round.
        RuntimeError: If `tfcompress` itself isn't imported.
    """
    automatic = isinstance(config, str) and config == AUTO
    if not automatic:
        if size is not None or formats is not None:
            raise ValueError(
                f"Expected size= and formats= with config='auto', by which widths are chosen. Received: "
                f"config={short(config)}. Take 'auto', or leave them out."
            )
        return config
    if size is None:
        raise ValueError("Expected size= with config='auto', such as size=\"200kB\". Received: size=None.")
    if data is None:
        raise ValueError("Expected data with config='auto', by which layers are scored. Received: None.")
    if not _registered:
        raise RuntimeError("Expected tfcompress to be imported, which chooses widths. Write: import tfcompress.")
    return _registered[0](model, data, size=size, formats=formats, **how)
