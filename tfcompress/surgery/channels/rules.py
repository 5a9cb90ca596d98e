"""The table of rules: what each layer and operation of Keras does to the channels of what it is called with."""

from __future__ import annotations

from collections.abc import Callable

from keras.layers import Layer

from tfcompress.passthrough import Inserted, innermost
from tfcompress.surgery.channels import elementwise, kernels, products, shapes
from tfcompress.surgery.channels.tracker import Axes, Step, kind_of
from tfcompress.surgery.parameters import Parameter
from tfcompress.surgery.timesteps import SamplesToSteps, StepsToSamples

Rule = Callable[[Step], list[Axes]]


def _ranks(*names: str, ranks: str = "123") -> list[str]:
    return [f"{name}{rank}d" for name in names for rank in ranks]


RULES: dict[str, Rule] = {
    **dict.fromkeys(elementwise.UNARY, elementwise.unary),
    **dict.fromkeys(elementwise.NARY, elementwise.nary),
    **dict.fromkeys(elementwise.REDUCTIONS, elementwise.reduction),
    "batchnormalization": elementwise.batch_normalization,
    "prelu": elementwise.prelu,
    "layernormalization": elementwise.normalizes,
    "rmsnormalization": elementwise.normalizes,
    "unitnormalization": elementwise.normalizes,
    "softmax": elementwise.normalizes,
    "logsoftmax": elementwise.normalizes,
    "groupnormalization": elementwise.group_normalization,
    "rescaling": elementwise.rescaling,
    "normalization": elementwise.normalization,
    **dict.fromkeys(_ranks("globalaveragepooling", "globalmaxpooling"), elementwise.global_pooling),
    **dict.fromkeys(
        [
            *_ranks("maxpooling", "averagepooling", "zeropadding", "cropping", "upsampling"),
            *("maxpool", "averagepool", "resizing", "centercrop"),
        ],
        elementwise.local,
    ),
    "dense": kernels.dense,
    "einsumdense": kernels.einsum_dense,
    "embedding": kernels.embedding,
    **dict.fromkeys(_ranks("conv"), kernels.convolution),
    **dict.fromkeys([f"{name}transpose" for name in _ranks("conv")], kernels.transposed),
    **dict.fromkeys(_ranks("depthwiseconv", ranks="12"), kernels.depthwise),
    **dict.fromkeys(_ranks("separableconv", ranks="12"), kernels.separable),
    "einsum": products.einsum,
    "matmul": products.matmul,
    "dotproductattention": products.dot_product_attention,
    "flatten": shapes.flatten,
    "reshape": shapes.reshape,
    **dict.fromkeys(["permute", "transpose", "swapaxes", "moveaxis"], shapes.permute),
    "expanddims": shapes.expand_dims,
    "squeeze": shapes.squeeze,
    "repeatvector": shapes.repeat_vector,
    "repeat": shapes.repeat,
    "concatenate": shapes.concatenate,
    "getitem": shapes.get_item,
    "split": shapes.split,
}


def rule_of(operation: object) -> Rule:
    """Return the rule of a layer or operation; of what isn't in the table that which blocks."""
    inner = innermost(operation)
    if isinstance(inner, Inserted):
        return elementwise.unary
    if isinstance(inner, Parameter):
        return kernels.parameter
    if isinstance(inner, StepsToSamples | SamplesToSteps):
        return shapes.steps
    if isinstance(inner, Layer) and getattr(operation, "pinned", None) and inner._layers:
        return shapes.unknown
    return RULES.get(kind_of(operation), shapes.unknown)
