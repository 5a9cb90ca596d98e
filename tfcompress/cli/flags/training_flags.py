"""Flags of training."""

from __future__ import annotations

from tfcompress.cli.flags.flag import Flag
from tfcompress.core.limits import MOST

MOST_EPOCHS = 1_000_000
ENOUGH = "by default 10, and more of few samples, until there are 400 steps"
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16", "auto")

TITLE = "Training"

FLAGS = {
    "epochs": Flag(f"Epochs of training; {ENOUGH}.", None, "integer", "N", 1, MOST_EPOCHS),
    "finetune_epochs": Flag(
        f"Epochs in which the model is pruned, or clustered, while it is trained; {ENOUGH}.",
        None,
        "integer",
        "N",
        1,
        MOST_EPOCHS,
    ),
    "qat_epochs": Flag(
        "Epochs in which the quantized model is trained; 0: it is calibrated only.", 0, "integer", "N", 0, MOST_EPOCHS
    ),
    "batch_size": Flag("Samples per training step.", 32, "integer", "N", 1, MOST),
    "learning_rate": Flag(
        "Adam's learning rate at the beginning.",
        2e-3,
        "number",
        "RATE",
        0.0,
        100.0,
        valid=lambda value: value > 0,
        wanted="Expected --learning_rate above 0.",
    ),
    "training_precision": Flag(
        "What the model computes in while it is trained; 'auto': what is fast on this machine. It is saved in float32.",
        "float32",
        "choice",
        choices=POLICIES,
        called="precision",
    ),
}
