"""The digits that ship with scikit-learn: what is taken without data of one's own."""

from __future__ import annotations

from tfcompress.data.dataset import Data

DIGITS = "digits"
"""What the data is called, and so what a model is that the command makes for it."""


def digits(seed: int = 0) -> Data:
    """Return scikit-learn's 1,797 handwritten digits: images (8, 8, 1), float32 in [0, 1]; a quarter is for tests.

    Example:

    >>> data = digits()
    >>> data.x_train.shape, data.classes
    ((1347, 8, 8, 1), 10)
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    loaded = load_digits()
    images = (loaded.images / 16.0).astype("float32")[..., None]
    parts = train_test_split(images, loaded.target, test_size=0.25, random_state=seed, stratify=loaded.target)
    return Data(DIGITS, parts[0], parts[2], parts[1], parts[3])
