"""The names of tensorflow_model_optimization, for models of Keras 3 and of tf_keras alike.

What is done to a model of Keras 3 is done by this package, in tfmot's meaning: the same masks after the same training
steps. A model of tf_keras is handed to tfmot itself, which is imported no sooner.

Example:

>>> import keras
>>> from tfcompress.compat import tfmot
>>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
>>> schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, begin_step=1, frequency=10)
>>> pruned = tfmot.sparsity.keras.prune_low_magnitude(model, pruning_schedule=schedule)
>>> type(tfmot.sparsity.keras.strip_pruning(pruned).get_layer("dense")).__name__
'Dense'
"""

from tfcompress.compat.tfmot import clustering, experimental, quantization, sparsity

__all__ = ["clustering", "experimental", "quantization", "sparsity"]
