"""The layers whose zeros make a model faster: 1x1 convolutions that XNNPACK can compute sparsely."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras.layers import Layer

from tfcompress.graph import check_built, kernel_positions, rebuild
from tfcompress.pruning.xnnpack_regions import Region, kernel_calls, sparse_region


@dataclasses.dataclass(frozen=True)
class XNNPackLayers:
    """The layers of a model whose zeros XNNPACK can skip; `layers=` of `tfc.prune` takes it as it is.

    Attributes:
        names: Of these layers, as in the flat model that `tfc.prune` makes, in the order in which they run.
        excluded: {name: reason}, of all other layers with a kernel.
    """

    names: tuple[str, ...]
    excluded: Mapping[str, str]

    def __call__(self, layer: Layer) -> bool:
        """Return whether a layer is one of them."""
        return layer.name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def table(self) -> str:
        """Return a line for each layer with a kernel: whether it is to be pruned, or why not."""
        rows = [(name, "prune") for name in self.names] + list(self.excluded.items())
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{width}}  {text}" for name, text in rows)

    def __str__(self) -> str:
        return self.table()


def xnnpack_prunable(model: keras.Model) -> XNNPackLayers:
    """Find the layers whose zeros make a model faster in TFLite on ARM and WebAssembly.

    XNNPACK has sparse kernels for 1x1 convolutions in float, and uses them if it can compute all of a part of the
    model in their layout: from a 3x3 convolution of the image's 3 channels with stride 2 and one pixel of padding on
    each side, to the global average pooling. Between them it knows 1x1 convolutions, depthwise ones of 3x3 and 5x5
    pixels with half of that as padding, sums, products, bilinear upsampling and activations. At least two thirds of
    the weights of these 1x1 convolutions must be zero, and the file sparse: `tfc.export(..., sparse=True)`.

    This is tfmot's `PruneForLatencyOnXNNPack`, which prunes all 1x1 convolutions of a model; here those outside of
    that part are excluded, too. On x86 XNNPACK has no such kernels, so nothing gets faster there.

    Args:
        model: A built Keras model of any kind; it is not changed.

    Returns:
        `XNNPackLayers`: for `tfc.prune(model, 0.8, layers=...)`; `.excluded` has the reason for each other layer
        with a kernel, `print` shows all.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model isn't built or can't be opened, or if XNNPACK can't compute it sparsely: it has no
            such beginning or end, or an operation between them that has no sparse form. Each is named with what to
            do; nothing in that model would get faster.

    References:
        Elsen et al., Fast Sparse ConvNets, https://arxiv.org/abs/1911.09723; "Sparse Inference" in the README of
        TensorFlow Lite's XNNPACK delegate.

    Example:

    >>> import keras, tfcompress as tfc
    >>> from keras import layers as L
    >>> stem = [L.ZeroPadding2D(1), L.Conv2D(8, 3, strides=2, name="stem"), L.ReLU()]
    >>> block = [L.DepthwiseConv2D(3, padding="same", name="depthwise"), L.Conv2D(16, 1, name="pointwise")]
    >>> end = [L.GlobalAveragePooling2D(keepdims=True), L.Flatten(), L.Dense(10, name="classes")]
    >>> found = xnnpack_prunable(keras.Sequential([keras.Input((32, 32, 3)), *stem, *block, *end]))
    >>> print(found)
    pointwise  prune
    stem       first convolution, which reads the image
    depthwise  depthwise: its kernel has no sparse form
    classes    behind the global average pooling
    """
    check_built(model)
    flat = rebuild(model, check=False)
    region = sparse_region(flat)
    names: list[str] = []
    excluded: dict[str, str] = {}
    for name, calls in kernel_calls(flat, lambda layer: bool(kernel_positions(layer))).items():
        reason = next(filter(None, (_why_not(region, call) for call in calls)), None)
        if reason is None:
            names.append(name)
        else:
            excluded[name] = reason
    if not names:
        raise ValueError(
            "Expected a model with 1x1 convolutions between its first convolution and its global average pooling, "
            f"which is what XNNPACK computes sparsely. Received: {model.name!r} without. Prune without `layers`."
        )
    return XNNPackLayers(tuple(names), excluded)


def _why_not(region: Region, call: Any) -> str | None:
    """Return why a call with a kernel has nothing to gain from zeros; `None` if it has."""
    if call in region.starts:
        return "first convolution, which reads the image"
    if call in region.inside:
        return None if region.pointwise(call) else "depthwise: its kernel has no sparse form"
    if call in region.behind:
        return "behind the global average pooling"
    return "not between the first convolution and the global average pooling"
