"""The table of rules: what each layer and operation of Keras does to the channels of what it is called with."""

from __future__ import annotations

from collections.abc import Callable

from keras.layers import Layer

from tfcompress.channels import elementwise_rules, kernel_rules, product_rules, shape_rules
from tfcompress.channels.tracker import Axes, Step
from tfcompress.core.keras_private import sublayers
from tfcompress.core.passthrough import Inserted, innermost
from tfcompress.graph.own_weights import Parameter
from tfcompress.graph.time_distributed import SamplesToSteps, StepsToSamples
from tfcompress.layers.kinds import kind_of

Rule = Callable[[Step], list[Axes]]


def _ranks(*names: str, ranks: str = "123") -> list[str]:
    return [f"{name}{rank}d" for name in names for rank in ranks]


RULES: dict[str, Rule] = {
    **dict.fromkeys(elementwise_rules.UNARY, elementwise_rules.unary),
    **dict.fromkeys(elementwise_rules.NARY, elementwise_rules.nary),
    **dict.fromkeys(elementwise_rules.REDUCTIONS, elementwise_rules.reduction),
    "batchnormalization": elementwise_rules.batch_normalization,
    "prelu": elementwise_rules.prelu,
    "layernormalization": elementwise_rules.normalizes,
    "rmsnormalization": elementwise_rules.normalizes,
    "unitnormalization": elementwise_rules.normalizes,
    "softmax": elementwise_rules.normalizes,
    "logsoftmax": elementwise_rules.normalizes,
    "groupnormalization": elementwise_rules.group_normalization,
    "rescaling": elementwise_rules.rescaling,
    "normalization": elementwise_rules.normalization,
    **dict.fromkeys(_ranks("globalaveragepooling", "globalmaxpooling"), elementwise_rules.global_pooling),
    **dict.fromkeys(
        [
            *_ranks("maxpooling", "averagepooling", "zeropadding", "cropping", "upsampling"),
            *("maxpool", "averagepool", "resizing", "centercrop"),
        ],
        elementwise_rules.local,
    ),
    "dense": kernel_rules.dense,
    "einsumdense": kernel_rules.einsum_dense,
    "embedding": kernel_rules.embedding,
    **dict.fromkeys(_ranks("conv"), kernel_rules.convolution),
    **dict.fromkeys([f"{name}transpose" for name in _ranks("conv")], kernel_rules.transposed),
    **dict.fromkeys(_ranks("depthwiseconv", ranks="12"), kernel_rules.depthwise),
    **dict.fromkeys(_ranks("separableconv", ranks="12"), kernel_rules.separable),
    "einsum": product_rules.einsum,
    "matmul": product_rules.matmul,
    "dotproductattention": product_rules.dot_product_attention,
    "flatten": shape_rules.flatten,
    "reshape": shape_rules.reshape,
    **dict.fromkeys(["permute", "transpose", "swapaxes", "moveaxis"], shape_rules.permute),
    "expanddims": shape_rules.expand_dims,
    "squeeze": shape_rules.squeeze,
    "repeatvector": shape_rules.repeat_vector,
    "repeat": shape_rules.repeat,
    "concatenate": shape_rules.concatenate,
    "getitem": shape_rules.get_item,
    "split": shape_rules.split,
}


def rule_of(operation: object) -> Rule:
    """Return the rule of a layer or operation; of what isn't in the table that which blocks."""
    inner = innermost(operation)
    if isinstance(inner, Inserted):
        return elementwise_rules.unary
    if isinstance(inner, Parameter):
        return kernel_rules.parameter
    if isinstance(inner, StepsToSamples | SamplesToSteps):
        return shape_rules.steps
    if isinstance(inner, Layer) and getattr(operation, "pinned", None) and sublayers(inner):
        return shape_rules.unknown
    return RULES.get(kind_of(operation), shape_rules.unknown)
