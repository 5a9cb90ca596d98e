"""The float32 view: everything computes in float32 inside, and nothing is changed afterwards."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.export import models
from tfcompress.tracing.float32_view import float32_view


@pytest.fixture
def mixed():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def test_computes_in_float32_and_restores(mixed):
    model = models.nested()
    x = np.random.default_rng(0).normal(size=(2, 6)).astype("float32")
    policies = {layer: layer._dtype_policy for layer in model._flatten_layers()}
    before = model(x)
    with float32_view(model):
        assert model(x).dtype == "float32"
        assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}
    assert all(layer._dtype_policy is policy for layer, policy in policies.items())
    after = model(x)
    assert after.dtype == before.dtype == "float16"
    np.testing.assert_array_equal(after.numpy(), before.numpy())


def test_restores_after_an_error(mixed):
    model = models.cnn()
    with pytest.raises(KeyError), float32_view(model):
        raise KeyError
    assert model.layers[0].compute_dtype == "float16"


def test_policy_map_is_left_as_it_is():
    policies = keras.dtype_policies.DTypePolicyMap(default_policy=keras.DTypePolicy("mixed_float16"))
    dense = layers.Dense(2, dtype=policies, name="dense")
    model = keras.Sequential([keras.Input((3,)), dense])
    policies[dense.path] = keras.DTypePolicy("mixed_bfloat16")
    with float32_view(model):
        assert dense.compute_dtype == "float32"
    assert dense._dtype_policy is policies
    assert dict(policies) == {dense.path: keras.DTypePolicy("mixed_bfloat16")}
    assert dense.compute_dtype == "bfloat16"


def test_layers_quantized_by_keras_keep_their_mode():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, dtype="mixed_bfloat16")])
    dense = model.layers[0]
    dense.quantize("int8")
    policy = dense._dtype_policy
    kernel = dense._kernel.numpy()
    with float32_view(model):
        assert (dense.quantization_mode, dense.compute_dtype) == ("int8", "float32")
    assert dense._dtype_policy is policy
    np.testing.assert_array_equal(dense._kernel.numpy(), kernel)


def test_half_precision_inputs_of_a_part_of_a_model(mixed):
    inputs = keras.Input((4,))
    hidden = layers.Dense(5)(inputs)
    model = keras.Model(hidden, layers.Dense(2)(hidden))
    x = np.full((1, 5), 1 + 2**-14, "float32")  # in float16 this is 1
    kernel = model.layers[-1].kernel.numpy()
    with float32_view(model):
        np.testing.assert_allclose(model(x).numpy(), x @ kernel, rtol=1e-6)
    assert model.inputs[0].dtype == "float16"


def test_calls_inside_leave_no_state_behind():
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(2, 5, 3)),
            layers.LSTM(4, stateful=True, use_cudnn="auto"),
            layers.Dense(2, activity_regularizer="l2"),
        ]
    )
    x = np.ones((2, 5, 3), "float32")
    model(x)
    losses = [float(loss) for loss in model.losses]
    variables = [variable.numpy() for variable in model.variables]
    with float32_view(model):
        assert model.layers[0].use_cudnn is False
        model(x * 3)
    assert model.layers[0].use_cudnn == "auto"
    assert [float(loss) for loss in model.losses] == losses
    for variable, value in zip(model.variables, variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
