"""Flags of quantization."""

from __future__ import annotations

from tfcompress.cli.flags.flag import Flag
from tfcompress.cli.flags.training_flags import MOST_EPOCHS
from tfcompress.core.limits import MOST

RECIPES = (
    *("int8", "int8_per_tensor", "int8_weights", "dynamic_int8", "int16x8"),
    *("w4a8", "int4_weights", "int4_blockwise", "int2_weights", "dynamic_int4", "float16"),
)
ROUNDINGS = ("nearest", "adaround", "gptq")
RANGES = ("minmax", "percentile", "mse", "entropy", "ema", "learned", "learned_offset", "pact")


def _freezing(what: str, unit: str) -> Flag:
    text = f"The {unit} of training, from 0, from which {what} stay as they are; by default never."
    return Flag(text, None, "integer", "N", 0, MOST_EPOCHS if unit == "epoch" else MOST)


_OF_RANGES, _OF_BATCH_NORM = "the ranges of activations", "the statistics of batch normalization"

TITLE = "Quantization"

FLAGS = {
    "recipe": Flag(
        "What becomes integers: weights and activations (int8; int8_per_tensor: one scale for a kernel; int16x8: "
        "activations in 16 bits; w4a8: weights in 4 bits; dynamic_int8, dynamic_int4: activations at run time), or "
        "weights alone (int8_weights, int4_weights, int2_weights, float16; int4_blockwise: one scale for 32 inputs of "
        "dense layers).",
        "int8",
        "choice",
        choices=RECIPES,
    ),
    "calibration_samples": Flag(
        "Samples drawn from the training data to find the ranges of activations.", 512, "integer", "N", 1, MOST
    ),
    "range": Flag(
        "How the ranges of activations are found; by default as the recipe does.", None, "choice", choices=RANGES
    ),
    "freeze_ranges_epoch": _freezing(_OF_RANGES, "epoch"),
    "freeze_ranges_step": _freezing(_OF_RANGES, "step"),
    "freeze_batch_norm_epoch": _freezing(_OF_BATCH_NORM, "epoch"),
    "freeze_batch_norm_step": _freezing(_OF_BATCH_NORM, "step"),
    "equalize": Flag("First equalize the channels of neighbouring kernels.", False, "switch"),
    "correct_bias": Flag("Correct biases for what quantization shifts.", False, "switch"),
    "rounding": Flag(
        "How weights are rounded: to the nearest integer, or up or down by what makes the least error of a layer's "
        "outputs on the calibration samples (adaround), or one input after the other (gptq). For 4 bits and fewer.",
        "nearest",
        "choice",
        choices=ROUNDINGS,
    ),
    "reestimate_batch_norm": Flag(
        "Compute the statistics of batch normalization anew, under quantized weights.", False, "switch"
    ),
    "preserve_sparsity": Flag("Zeros of a pruned model stay zero while it is trained quantized.", True, "switch"),
}
