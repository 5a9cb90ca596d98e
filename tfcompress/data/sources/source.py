"""What a source of data is, and what is known when one is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from tfcompress.data.dataset import Dataset
from tfcompress.data.named_inputs import TensorInfo

TEST_SHARE = 0.2
"""Of samples that aren't divided: drawn by a seed, the same ones each time."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked of a source, beside the place.

    Attributes:
        inputs: Shape and dtype of the inputs, by name, of the model that the data is for and is made to fit; `None`:
            the model is made for the data.
        seed: What divides samples that aren't divided.
        label: The column, or feature, that is the target.
        rescale: (scale, offset) of pixels: x * scale + offset; `None`: they are as they are, 0 to 255.
        image_size: (height, width) that images are resized to, where the model doesn't say.
        features: A .json file that says what a TFRecord holds.
        data_dir: The folder of TensorFlow Datasets.
        outputs: How many numbers the model gives for a sample; `None`: there is no model, or it doesn't say.
    """

    inputs: Mapping[str, TensorInfo] | None = None
    seed: int = 0
    label: str | None = None
    rescale: tuple[float, float] | None = None
    image_size: tuple[int, int] | None = None
    features: str | None = None
    data_dir: str | None = None
    outputs: int | None = None


OPTIONS = ("label", "rescale", "image_size", "features", "data_dir")
"""Of a request: each is for some sources only."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A kind of place that data comes from.

    Attributes:
        form: What such a place is, in words.
        takes: Whether a place is one of this kind, by its name and by what lies there.
        open: Opens it, without reading samples that aren't needed yet.
        options: Which of `OPTIONS` it looks at.
        needs: Those without which it can't be opened, and for each a function from a place to what it is to say.
    """

    form: str
    takes: Callable[[str], bool]
    open: Callable[[str, Request], Dataset]
    options: frozenset[str] = frozenset()
    needs: Mapping[str, Callable[[str], str]] = dataclasses.field(default_factory=dict)
