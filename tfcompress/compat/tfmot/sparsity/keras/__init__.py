"""tfmot's names for pruning models of Keras."""

from tfcompress.compat.tfmot.other_names import refuse_in
from tfcompress.compat.tfmot.sparsity.keras.prunable_layer import PrunableLayer
from tfcompress.compat.tfmot.sparsity.keras.prune import prune_low_magnitude, prune_scope, strip_pruning
from tfcompress.compat.tfmot.sparsity.keras.pruning_callbacks import PruningSummaries, UpdatePruningStep
from tfcompress.compat.tfmot.sparsity.keras.pruning_policy import PruneForLatencyOnXNNPack, PruningPolicy
from tfcompress.compat.tfmot.sparsity.keras.pruning_schedule import ConstantSparsity, PolynomialDecay, PruningSchedule

__all__ = [
    "ConstantSparsity",
    "PolynomialDecay",
    "PrunableLayer",
    "PruneForLatencyOnXNNPack",
    "PruningPolicy",
    "PruningSchedule",
    "PruningSummaries",
    "UpdatePruningStep",
    "prune_low_magnitude",
    "prune_scope",
    "strip_pruning",
]

__getattr__ = refuse_in(__name__, __all__)
