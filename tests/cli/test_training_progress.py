"""What is shown of a training, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import sys

import pytest

from tfcompress.cli.jobs import job_called
from tfcompress.cli.training_progress import stage_of

FIGURES = "loss 0.2500  accuracy 0.5000  val_loss 1.0000  val_accuracy 0.7500"


class Terminal(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self):
        return True


def shown(monkeypatch, *flags, steps=5, columns=120, stdout=None):
    """Return what is written to standard output and error while three of four epochs are trained."""
    values = job_called("train").values()
    values(["train", "--output=o.keras", "--seed=7", *flags])
    out, err = stdout or io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    with stage_of(values)("train", 4) as callbacks:
        for callback in callbacks:
            callback.set_params({"steps": steps})
        for epoch in range(1, 4):  # the first was done before
            for callback in callbacks:
                callback.on_epoch_begin(epoch)
                for batch in range(5):
                    callback.on_train_batch_end(batch)
                callback.on_epoch_end(epoch, {"accuracy": 0.5, "loss": 0.25, "val_accuracy": 0.75, "val_loss": 1.0})
    return out.getvalue(), re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", err.getvalue())


@pytest.mark.parametrize(("steps", "columns"), [(5, 120), (None, 120), (5, 72)])
def test_a_bar_on_a_terminal(steps, columns, monkeypatch):
    out, err = shown(monkeypatch, steps=steps, columns=columns, stdout=Terminal())
    assert out == ""
    assert re.search(r"train ━+ step 20/20 100% 0:00:00 left epoch 4/4", err)
    assert re.fullmatch(rf"train: 0\.\d s  {FIGURES}", err.rstrip().splitlines()[-1].lstrip("\r"))


def test_lines_elsewhere(monkeypatch):
    first, *epochs, last = shown(monkeypatch)[0].splitlines()
    assert first.startswith("tfcompress ")
    assert first.endswith("; seed 7")
    assert [line.rsplit("  ", 1)[0] for line in epochs] == [f"train: epoch {n}/4  {FIGURES}" for n in (2, 3, 4)]
    assert last.startswith("train: 0.")


@pytest.mark.parametrize("flag", ["--verbosity=quiet", "--process_id=1"])
def test_nothing_where_nothing_is_to_be_said(flag, monkeypatch):
    assert shown(monkeypatch, flag) == ("", "")
