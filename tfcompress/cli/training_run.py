"""Training as the flags of several jobs say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

if TYPE_CHECKING:
    from tfcompress.pipeline.checkpoints import Resume


def train_in_place(
    text: str, model: Any, data: Any, *, loss: Any, epochs: int, values: FlagValues, devices: Any, resume: Resume
) -> None:
    """Train in place, with a progress bar and the flags that all training has."""
    from tfcompress.cli.training_progress import stage_of
    from tfcompress.pipeline import fit

    with stage_of(values)(text, epochs) as callbacks:
        fit(
            model,
            data,
            loss,
            epochs=epochs,
            batch_size=values.batch_size,
            learning_rate=values.learning_rate,
            callbacks=callbacks,
            devices=devices,
            backup=resume.backup("training"),
        )
