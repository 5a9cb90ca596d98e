"""The mark on a layer that is to be quantized."""

from __future__ import annotations

from typing import Any

import keras

from tfcompress.core.keras_private import context_of_its_own
from tfcompress.core.passthrough import PassThrough


@keras.saving.register_keras_serializable(package="tfcompress")
class QuantizeAnnotate(PassThrough):
    """Calls a layer as it is, and says that it is to be quantized, and how.

    Args:
        layer: The layer, built or not.
        quantize_config: A `QuantizeConfig`; `None`: the default.
    """

    temporary = True
    own_arguments = ("quantize_config",)

    def __init__(self, layer: keras.layers.Layer, quantize_config: Any = None, **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.quantize_config = quantize_config

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Call the layer."""
        with context_of_its_own():
            return self.layer(inputs, *args, **self._inner_kwargs(kwargs, training))

    def get_config(self) -> dict[str, Any]:
        """Return the serialized layer and configuration."""
        config = keras.saving.serialize_keras_object(self.quantize_config)
        return {**super().get_config(), "quantize_config": config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> QuantizeAnnotate:
        """Make the mark, its layer and its configuration from `get_config`'s result."""
        load = keras.saving.deserialize_keras_object
        made = {name: load(config[name]) for name in ("layer", "quantize_config")}
        return cls(**{**config, **made})
