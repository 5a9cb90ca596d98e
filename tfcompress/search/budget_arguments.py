"""What `compress` is asked for: what can be refused before any work."""

from __future__ import annotations

from typing import Any

from tfcompress.core.arguments import check_choice, check_count, check_model, check_number, short
from tfcompress.graph import check_built
from tfcompress.quantization.quantize import is_quantized
from tfcompress.search.candidates import FORMATS, MINIMIZE
from tfcompress.search.for_target import formats_for
from tfcompress.targets import Target


def check_arguments(
    model: Any,
    formats: Any,
    minimize: Any,
    max_drop: Any,
    target: Target | None,
    *,
    batch_size: Any,
    learning_rate: Any,
    max_seconds: Any,
    seed: Any,
) -> tuple[str, ...]:
    """Refuse what can be refused before any work; return the formats."""
    check_model(model)
    check_built(model)
    if is_quantized(model):
        raise ValueError(
            f"Expected a model that isn't quantized. Received: {model.name!r}, which is. Take the one it was made of."
        )
    given = formats_for(target, (formats,) if isinstance(formats, str) else formats)
    if not given:
        raise ValueError("Expected formats to be 'tflite', 'onnx' or both. Received: none.")
    for one in given:
        check_choice("formats", one, FORMATS)
    check_choice("minimize", minimize, MINIMIZE)
    if max_drop is not None:
        check_number("max_drop", max_drop)
        if max_drop <= 0:
            raise ValueError(
                "Expected max_drop above 0: by how much the metric may be worse than the float model's, in points of "
                f"accuracy. Received: max_drop={short(max_drop)}. That nothing is lost can't be shown by samples."
            )
    check_count("batch_size", batch_size)
    check_number("learning_rate", learning_rate, 0, above=True)
    if max_seconds is not None:
        check_number("max_seconds", max_seconds, 0, above=True)
    check_count("seed", seed, 0, 2**32 - 1)
    return tuple(dict.fromkeys(given))


def check_unused(**given: tuple[Any, Any]) -> None:
    """Refuse arguments of a search that differ from their default: {name: (default, value)}."""
    for name, (default, value) in given.items():
        if value != default:
            raise ValueError(
                f"Expected no {name} with a recipe, which says itself what is done and exported. Received: "
                f"{name}={short(value)}. Change the recipe, or leave {name} away."
            )
