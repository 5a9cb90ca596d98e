"""The data of a job, from flags."""

from __future__ import annotations

from typing import Any

from absl.flags import FlagValues


def data_of(values: FlagValues) -> Any:
    """Return the data of `--data`, or scikit-learn's digits; from here on everything random follows `--seed`."""
    import keras

    from tfcompress.pipeline import digits, read_npz

    keras.utils.set_random_seed(values["seed"].value if "seed" in values else 0)
    return read_npz(values.data) if values.data else digits()
