"""What a recipe begins with, and whether it can: the model, and the data that its steps need."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from tfcompress.core.arguments import check_model
from tfcompress.data.dataset import Dataset
from tfcompress.graph import rebuild
from tfcompress.loading import load
from tfcompress.pipeline.quantize_aware_training import finds_ranges
from tfcompress.pipeline.training import check_fits, default_model
from tfcompress.recipes.recipe import Recipe
from tfcompress.recipes.steps import Distill, Load, Prune, Quantize, Report, Training


def check_data(recipe: Recipe, data: Dataset | None) -> None:
    """Raise ValueError if a step needs data, and there are none, or classes, and the data have none."""
    if data is not None:
        taught = next((place for place, step in enumerate(recipe.steps) if isinstance(step, Distill)), None)
        if taught is not None and not data.is_classes:
            several = data.classes.items() if isinstance(data.classes, Mapping) else ()
            which = "".join(f" of {name!r}" for name, count in several if count is None)
            raise ValueError(
                f"At steps[{taught}]: Expected data with classes, which 'distill' compares. Received: {data.name!r}, "
                f"whose targets{which} are numbers. Take `finetune`."
            )
        return
    for place, step in enumerate(recipe.steps):
        needs = isinstance(step, Training | Report)
        if isinstance(step, Prune):
            needs = any("activation_frequency" in one.needs for one in step.configs())
        if isinstance(step, Quantize):
            by_data = step.correct_bias or step.reestimate_batch_norm or step.method is not None
            needs = by_data or any(map(finds_ranges, step.configs()))
        if needs:
            raise ValueError(f"At steps[{place}]: Expected data, which {step.called()!r} needs. Received: none.")


def check_trains(recipe: Recipe, model: keras.Model) -> None:
    """Raise ValueError if a recipe trains, and the model trains itself in another way than by a loss."""
    kind = type(model)
    own = [name for name in ("train_step", "compute_loss") if getattr(kind, name) is not getattr(keras.Model, name)]
    if own and any(isinstance(step, Training) for step in recipe.steps):
        raise ValueError(
            f"Expected a model that is trained by the loss it is compiled with. Received: {model.name!r}, whose class "
            f"{kind.__name__} has a {own[0]} of its own, which a copy of its layers hasn't. Take a recipe "
            "without training, or tfcompress.prune, quantize and the like with your own training."
        )


def first_model(recipe: Recipe, model: keras.Model | None, data: Dataset | None) -> keras.Model:
    """Return the model that a recipe begins with: the one given, that of `load`, or one that is made for the data.

    Raises:
        ValueError: If there are two, or none can be made.
    """
    path = path_of(recipe)
    if model is not None:
        check_model(model)
        if path is not None:
            raise ValueError(
                f"Expected no model with a recipe that loads {path}. Received: {model.name!r}. Leave one out."
            )
        return model
    if path is not None:
        loading = recipe.steps[0]
        return load(path, unsafe=isinstance(loading, Load) and loading.unsafe)
    if data is None:
        raise ValueError("Expected a model, or data that a small one is made for. Received: neither.")
    return default_model(data)


def path_of(recipe: Recipe) -> str | None:
    """Return the path of the model that a recipe loads; `None`: it is given, or made."""
    first = recipe.steps[0]
    return first.model if isinstance(first, Load) else None


def opened(recipe: Recipe, model: keras.Model | None, data: Dataset | None) -> tuple[keras.Model, keras.Model]:
    """Return the model that a recipe begins with, as it is and as a flat copy, once it is seen to fit recipe and data.

    Raises:
        ValueError: If the recipe needs data that isn't there, or the model fits neither it nor the data.
    """
    check_data(recipe, data)
    given = first_model(recipe, model, data)
    check_trains(recipe, given)
    flat = rebuild(given)
    flat.compiled = False
    if data is not None:
        check_fits(flat, data)
    return given, flat
