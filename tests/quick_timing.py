"""Latencies take two seconds of waiting for each model, of which tests need a twentieth."""

from __future__ import annotations

import importlib
from typing import Any

timing = importlib.import_module("tfcompress.evaluation.timing")
_time_predictors = timing.time_predictors


def time_predictors(*args: Any, seconds: float, **how: Any) -> list[Any]:
    """Do what `tfcompress.evaluation.timing.time_predictors` does in less time."""
    return _time_predictors(*args, seconds=seconds / 20, **how)
