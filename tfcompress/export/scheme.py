"""In what numbers an exported file computes."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scheme:
    """What the exporters need to know of a quantized model beside its graph.

    Attributes:
        activations: "static": ranges stand in the graph as fake-quantizers; "dynamic": found at run time from each
            input of a kernel; `None`: activations stay float.
        activation_bits: 8 or 16, where they are static.
        weight_bits: Of the kernels, which lie on a grid of that many bits already.
        per_channel: Whether each output channel of a kernel has a grid of its own.
    """

    activations: str | None
    activation_bits: int = 8
    weight_bits: int = 8
    per_channel: bool = True
