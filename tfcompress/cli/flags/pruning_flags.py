"""Flags of pruning."""

from __future__ import annotations

from tfcompress.cli.flags.flag import Flag
from tfcompress.core.names import CRITERIA_ELSEWHERE, SCOPES_ELSEWHERE

SCOPES = ("layer", "global", "flops", "bytes")
CRITERIA = ("magnitude", "l2", "threshold", "gradient", "movement", "activation_frequency", "bn_scale", "random")


def _is_sparsity(value: float) -> bool:
    return 0 <= value < 1


def are_sparsities(values: list[str] | None) -> bool:
    """Return whether all texts are shares of zeros."""
    try:
        return all(_is_sparsity(float(value)) for value in values or ())
    except ValueError:
        return False


TITLE = "Pruning"

FLAGS = {
    "sparsity": Flag(
        "Share of the weights that become zero, from 0 to below 1.",
        0.8,
        "number",
        "SHARE",
        valid=_is_sparsity,
        wanted="Expected a share of zeros in [0, 1), such as 0.8 for 80 %.",
    ),
    "sweep": Flag(
        "Instead of one --sparsity several, separated by commas: the model is trained to each and evaluated on "
        "training and test data. --output is then a .json file; beside it go a picture, .png, and a page, .html.",
        kind="list",
        shown="SHARE,SHARE",
        valid=are_sparsities,
        wanted="Expected shares of zeros in [0, 1), such as 0.5,0.8,0.9.",
    ),
    "scope": Flag(
        "What reaches the sparsity: each layer, all together, or the model's multiplications or bytes.",
        "layer",
        "choice",
        choices=SCOPES,
        elsewhere=SCOPES_ELSEWHERE,
    ),
    "criterion": Flag(
        "What makes a weight important: its size, |w * gradient|, its movement, how often its unit fires, the scale "
        "behind its channel; or at random.",
        "magnitude",
        "choice",
        choices=CRITERIA,
        elsewhere=CRITERIA_ELSEWHERE,
    ),
    "granularity": Flag(
        "What is pruned at once: element, 16x1 (blocks of inputs x outputs), 2:4 (two of four are kept), channel or "
        "attention_head (these are taken out of the model: --shrink).",
        "element",
        shown="UNIT",
    ),
    "threshold": Flag(
        "With --criterion=threshold: smaller weights are pruned, but no more than --sparsity.",
        None,
        "number",
        "SIZE",
        0.0,
        float(2**127),
    ),
    "shrink": Flag("Take pruned channels and heads out of the model.", True, "switch"),
}
