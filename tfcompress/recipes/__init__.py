"""Recipes: steps from a model to files, in their order, checked before any work, run so that they can be resumed."""

from tfcompress.recipes.recipe import Recipe
from tfcompress.recipes.runner import Run, run
from tfcompress.recipes.steps import (
    Cluster,
    Distill,
    Equalize,
    Export,
    Finetune,
    Load,
    Prune,
    Quantize,
    Report,
    Shrink,
    Step,
)

__all__ = [
    "Cluster",
    "Distill",
    "Equalize",
    "Export",
    "Finetune",
    "Load",
    "Prune",
    "Quantize",
    "Recipe",
    "Report",
    "Run",
    "Shrink",
    "Step",
    "run",
]
