"""The rules by their names: what a layer or operation does to the channels of what it is called with."""

from __future__ import annotations

from collections.abc import Callable

from keras.layers import Layer

from tfcompress.channels import elementwise_rules, kernel_rules, product_rules, shape_rules
from tfcompress.channels.tracker import Axes, Step
from tfcompress.core.keras_private import sublayers
from tfcompress.core.passthrough import Inserted, innermost
from tfcompress.graph.own_weights import Parameter
from tfcompress.graph.time_distributed import SamplesToSteps, StepsToSamples
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.names import described_class

Rule = Callable[[Step], list[Axes]]


RULES: dict[str, Rule] = {
    "unknown": shape_rules.unknown,
    "unary": elementwise_rules.unary,
    "nary": elementwise_rules.nary,
    "reduction": elementwise_rules.reduction,
    "normalizes": elementwise_rules.normalizes,
    "local": elementwise_rules.local,
    "global_pooling": elementwise_rules.global_pooling,
    "batch_normalization": elementwise_rules.batch_normalization,
    "group_normalization": elementwise_rules.group_normalization,
    "normalization": elementwise_rules.normalization,
    "rescaling": elementwise_rules.rescaling,
    "prelu": elementwise_rules.prelu,
    "dense": kernel_rules.dense,
    "einsum_dense": kernel_rules.einsum_dense,
    "embedding": kernel_rules.embedding,
    "convolution": kernel_rules.convolution,
    "transposed": kernel_rules.transposed,
    "depthwise": kernel_rules.depthwise,
    "separable": kernel_rules.separable,
    "einsum": product_rules.einsum,
    "matmul": product_rules.matmul,
    "dot_product_attention": product_rules.dot_product_attention,
    "flatten": shape_rules.flatten,
    "reshape": shape_rules.reshape,
    "permute": shape_rules.permute,
    "expand_dims": shape_rules.expand_dims,
    "squeeze": shape_rules.squeeze,
    "repeat_vector": shape_rules.repeat_vector,
    "repeat": shape_rules.repeat,
    "concatenate": shape_rules.concatenate,
    "get_item": shape_rules.get_item,
    "split": shape_rules.split,
}
"""By the names that the catalogue has for them."""


def rule_of(operation: object) -> Rule:
    """Return the rule of a layer or operation, which blocks the channels of what isn't known."""
    inner = innermost(operation)
    if isinstance(inner, Inserted):
        return elementwise_rules.unary
    if isinstance(inner, Parameter):
        return kernel_rules.parameter
    if isinstance(inner, StepsToSamples | SamplesToSteps):
        return shape_rules.steps
    if isinstance(inner, Layer) and getattr(operation, "pinned", None) and sublayers(inner):
        return shape_rules.unknown
    if _builds_otherwise(inner):
        return shape_rules.unknown
    return RULES[traits_of(operation).channels]


def _builds_otherwise(layer: object) -> bool:
    """Return whether a layer has a `build` that isn't of the class that is known, and so may want its old sizes."""
    cls = described_class(layer)
    return isinstance(layer, Layer) and type(layer).build is not getattr(cls, "build", None)
