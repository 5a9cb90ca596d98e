"""How one tensor of a file differs from that of the Keras model."""

from __future__ import annotations

import dataclasses

from tfcompress.core.old_calls import accepts_old_fields


@accepts_old_fields(step="scale")
@dataclasses.dataclass(frozen=True)
class TensorDifference:
    """One tensor of the model, in Keras and in the file.

    The figures that begin with `own_` are those of the layer alone: Keras computes it from the file's own tensors
    before it. The others hold what came from all layers before, too.

    Attributes:
        name: of the quantizer, or of the layer in a model without.
        layer: whose output it is.
        tensor: its name in the file; None: not found there, and all figures are None.
        scale: of its quantization; None: float.
        sqnr: variance of Keras' values over the mean squared difference, in dB; None also if nothing differs.
        max_abs: largest absolute difference.
        max_steps: that in scales, the steps from one integer to the next.
        equal: share of equal values: on a grid the same integer.
        own_sqnr: as `sqnr`, of the layer alone.
        own_max_abs: as `max_abs`.
        own_max_steps: as `max_steps`.
        own_equal: as `equal`.
        differs: whether the layer alone differs by more than the threshold.
        float_sqnr: power of the float model's values over what quantization changed in Keras, in dB; None also
            without `reference`.
        computes_in: what the plan of the export says of the layer, "integer" or such as "float fallback: no integer
            kernel"; empty where there is none.
    """

    name: str
    layer: str
    tensor: str | None
    scale: float | None = None
    sqnr: float | None = None
    max_abs: float | None = None
    max_steps: float | None = None
    equal: float | None = None
    own_sqnr: float | None = None
    own_max_abs: float | None = None
    own_max_steps: float | None = None
    own_equal: float | None = None
    differs: bool = False
    float_sqnr: float | None = None
    computes_in: str = ""
