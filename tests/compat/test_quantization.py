"""tfmot's idioms of quantization-aware training over Keras 3, and over tfmot itself for tf_keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tests.compat.test_pruning import with_tf_keras
from tfcompress.compat import tfmot
from tfcompress.compat.tfmot.quantization.keras.quantize_config import config_for

Q = tfmot.quantization.keras
L = keras.layers
WEIGHTS = {"num_bits": 8, "symmetric": True, "narrow_range": False, "per_axis": False}
OUTPUTS = {**WEIGHTS, "symmetric": False}


class Config(Q.QuantizeConfig):
    """The configuration of tfmot's guide, with quantizers to choose."""

    weights = (Q.quantizers.LastValueQuantizer(**WEIGHTS),)
    outputs = (Q.quantizers.MovingAverageQuantizer(**OUTPUTS),)

    def get_weights_and_quantizers(self, layer):
        return list(zip((layer.kernel, layer.bias), self.weights, strict=False))

    def get_activations_and_quantizers(self, layer):
        return [(layer.activation, quantizer) for quantizer in self.outputs]

    def set_quantize_weights(self, layer, quantize_weights):
        layer.kernel = quantize_weights[0]

    def set_quantize_activations(self, layer, quantize_activations):
        layer.activation = quantize_activations[0]

    def get_output_quantizers(self, layer):
        return []

    def get_config(self):
        return {}


class FixedRange(Q.quantizers.Quantizer):
    """The quantizer of someone's own in tfmot's guide."""

    def build(self, tensor_shape, name, layer):
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        return keras.ops.clip(inputs, 0.0, 6.0)

    def get_config(self):
        return {}


def config(**quantizers):
    made = Config()
    for name, value in quantizers.items():
        setattr(made, name, value)
    return made


def dense(**how):
    layer = L.Dense(3, name="dense", **how)
    layer.build((None, 4))
    return layer


last, average, every = (
    getattr(Q.quantizers, f"{name}Quantizer") for name in ("LastValue", "MovingAverage", "AllValues")
)


@pytest.mark.parametrize(
    ("quantizers", "expected"),
    [
        ({}, tfc.QuantizeConfig(tfc.WeightSpec(granularity="per_tensor"), tfc.ActivationSpec(range="ema"))),
        (
            {"weights": [last(**{**WEIGHTS, "num_bits": 4, "per_axis": True})], "outputs": [every(**WEIGHTS)]},
            tfc.QuantizeConfig(tfc.WeightSpec(bits=4), tfc.ActivationSpec(symmetric=True)),
        ),
        ({"outputs": []}, tfc.QuantizeConfig(tfc.WeightSpec(granularity="per_tensor"), None)),
        ({"weights": [], "outputs": []}, None),
        (
            {"outputs": [last(**OUTPUTS)]},
            tfc.QuantizeConfig(tfc.WeightSpec(granularity="per_tensor"), tfc.ActivationSpec(range="ema", momentum=0.0)),
        ),
    ],
)
def test_quantizers_are_read(quantizers, expected):
    assert config_for(config(**quantizers), dense()) == expected


@pytest.mark.parametrize(
    ("quantizers", "message"),
    [
        ({"weights": [average(**WEIGHTS)]}, r"Received: MovingAverageQuantizer\(num_bits=8.* Take LastValueQuantizer"),
        ({"weights": [last(**OUTPUTS)]}, "symmetric=False.* Take symmetric=True, as integer kernels want it"),
        ({"weights": [last(**WEIGHTS)] * 2}, "Received: one for 'bias' of layer 'dense'. Leave it out: biases are 32"),
        ({"weights": []}, r"Received: none for 'kernel' of layer 'dense'. Add \(layer.kernel, LastValueQuantizer"),
        ({"outputs": [FixedRange()]}, r"Received: FixedRange\(\) for layer 'dense'. Take MovingAverageQuantizer, or"),
        ({"outputs": [Q.quantizers.FixedQuantizer(8, 0.0, 6.0, False)]}, r"FixedQuantizer\(num_bits=8, init_min=0.0"),
        ({"outputs": [every(**{**OUTPUTS, "per_axis": True})]}, "Take per_axis=False"),
        ({"outputs": [every(**OUTPUTS), average(**OUTPUTS)]}, "Expected one kind of quantizer for all outputs"),
    ],
)
def test_quantizers_that_are_refused(quantizers, message):
    with pytest.raises(ValueError, match=message):
        config_for(config(**quantizers), dense())


@keras.saving.register_keras_serializable("tests")
class Custom(L.Dense):
    """A layer of someone's own."""


@pytest.mark.on_jax
def test_a_model_that_is_marked_layer_by_layer(tmp_path):
    with pytest.warns(UserWarning, match="Do not pass"):
        layer = Custom(6, activation="relu", input_shape=(8,), name="own")
    own = Q.quantize_annotate_layer(layer, Config())
    annotated = Q.quantize_annotate_model(keras.Sequential([own, L.Dense(4, name="head"), L.Flatten()]))
    with Q.quantize_scope({"Config": Config}):
        copy = keras.models.clone_model(annotated)
    copy.set_weights(annotated.get_weights())
    quantized = Q.quantize_apply(copy)
    x = np.random.default_rng(0).normal(size=(8, 8)).astype("float32")
    quantized.compile("sgd", "mse")
    quantized.fit(x, np.ones((8, 4)), verbose=0)
    quantized.save(tmp_path / "m.keras")
    with Q.quantize_scope():
        loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), quantized.predict(x, verbose=0), atol=1e-6)
    rows = {row.layer: row.status for row in tfc.summary(loaded).rows}
    assert rows["own"] == "int8" and rows["head"] == "int8 per channel"


def test_only_what_is_marked_is_quantized_and_a_pruned_model_keeps_its_zeros():
    base = keras.Sequential([keras.Input((8,)), L.Dense(6, name="first"), L.Dense(4, name="second")])
    pruned = tfc.prune_once(base, 0.5)

    def only_second(layer):
        return Q.quantize_annotate_layer(layer) if layer.name == "second" else layer

    cloned = keras.models.clone_model(pruned, clone_function=only_second)
    rows = {row.layer: row for row in tfc.summary(Q.quantize_apply(cloned)).rows}
    assert (rows["first"].status, rows["second_linear"].status) == ("left float", "int8 per channel")
    whole = Q.quantize_model(pruned)
    assert not any(row.fallback for row in tfc.summary(whole).rows) and tfc.sparsity(whole) >= 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Q.quantize_apply, "Received: 'small' without. Call quantize_annotate_layer or"),
        (lambda model: Q.quantize_apply(Q.quantize_annotate_model(model), "n_bit"), "Received: str. Leave it out"),
        (Q.quantize_annotate_layer, "For a whole model call quantize_annotate_model"),
        (lambda model: Q.quantize_annotate_layer(L.Dense(1), tfc.QuantizeConfig()), "One of tfcompress goes to"),
        (lambda model: Q.quantize_model("m.h5"), "Expected model to be a keras.Model"),
    ],
)
def test_what_is_refused(call, message):
    model = keras.Sequential([keras.Input((4,)), L.Dense(2)], name="small")
    with pytest.raises((TypeError, ValueError), match=message):
        call(model)


@with_tf_keras
@pytest.mark.filterwarnings("ignore")  # of tf_keras about itself
def test_models_of_tf_keras_are_quantized_by_tfmot(tfmot):
    import tensorflow as tf
    import tf_keras

    own = tf_keras.layers.Dense(6, activation="relu", name="own")
    layers = [tf_keras.layers.InputLayer((8,)), Q.quantize_annotate_layer(own, Config()), tf_keras.layers.Dense(4)]
    annotated = Q.quantize_annotate_model(tf_keras.Sequential(layers))
    with Q.quantize_scope({"Config": Config}):
        quantized = Q.quantize_apply(annotated)
    wrapper = quantized.get_layer("quant_own")
    assert isinstance(wrapper, tfmot.quantization.keras.QuantizeWrapperV2)
    assert isinstance(wrapper.quantize_config, Config)
    seen = tf.constant([[1.0, -2.0]])
    theirs = tfmot.quantization.keras.quantizers.LastValueQuantizer(**WEIGHTS)
    values = [
        quantizer(seen, True, quantizer.build((1, 2), name, wrapper))
        for quantizer, name in ((Config.weights[0], "ours"), (theirs, "theirs"))
    ]
    np.testing.assert_array_equal(*values)
