"""Private names of tf_keras and tensorflow_model_optimization: they still are what `tfmot_private` takes them for."""

from __future__ import annotations

import importlib.metadata

from tests.private_names import Cases
from tfcompress.loading import tfmot_private as private


def test_tfmot_has_what_is_relied_on(tfmot):
    import tf_keras

    versions = " with tf_keras ".join(map(importlib.metadata.version, ("tensorflow_model_optimization", "tf_keras")))
    cases = Cases(private, "tensorflow_model_optimization", versions, seen="0.8.1 with tf_keras 2.21.0")

    @cases.case("layer_before", "quantized_weights")
    def layers():
        inputs = tf_keras.Input((3,))
        dense = tf_keras.layers.Dense(2, name="dense")
        made = tfmot.quantization.keras.quantize_model(tf_keras.Model(inputs, dense(inputs)))
        wrapper = made.layers[-1]
        assert private.layer_before(wrapper) is made.layers[-2]
        ((weight, quantizer, _),) = private.quantized_weights(wrapper)
        assert tuple(weight.shape) == (3, 2) and quantizer.num_bits == 8
        assert private.quantized_weights(dense) == ()

    cases.check_complete()
    for names in cases.tests:
        cases.check(names)
