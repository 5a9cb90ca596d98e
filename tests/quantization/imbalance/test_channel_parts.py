"""Channels of different size that are outputs, or of which parts are taken; float tensors that integers read too."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tfcompress.graph.rewrite import call_of
from tfcompress.quantization.imbalance.channel_parts import parts_of

RNG = np.random.default_rng(0)
SIZES = np.float32([600, 600, 600, 600, 1, 1, 1])


def hidden(inputs):
    return L.Dense(8, activation="relu", name="hidden")(inputs)


def head(x):
    made = L.Dense(7, name="head")(x)
    kernel = made._keras_history.operation.kernel
    kernel.assign(np.asarray(kernel) * SIZES)
    return made


def known(layer, model):
    """Give a batch normalization the statistics of what it reads."""
    values = keras.Model(model.inputs, layer.input)([noise(256)], training=False)
    layer.moving_mean.assign(np.mean(values, 0))
    layer.moving_variance.assign(np.var(values, 0))
    return model


def noise(samples=256, width=8):
    return np.random.default_rng(1).normal(size=(samples, width)).astype("float32")


def table(samples=256):
    return np.stack([RNG.uniform(*ends, samples) for ends in ((0, 1), (18, 80), (5e3, 1.5e5), (0, 1))], 1).astype("f")


def joined(x):
    return L.Concatenate(name="joined")([L.Rescaling(900.0)(L.Dense(3, name="a")(x)), L.Dense(3, name="b")(x)])


def targets(x):
    return keras.Model(x, head(hidden(x)))


def folded(x):
    return keras.Model(x, L.Rescaling(SIZES.tolist(), name="size")(L.Dense(7, name="head")(hidden(x))))


def added(x):
    return keras.Model(x, head(hidden(x)) + L.Rescaling(SIZES.tolist())(L.Dense(7, name="other")(x)))


def split(x):
    boxes, scores = ops.split(head(hidden(x)), [4], axis=-1)
    return keras.Model(x, [L.ReLU()(boxes), L.Activation("sigmoid")(scores)])


def sliced(x):
    made = head(hidden(x))
    return keras.Model(x, [made[:, :4], L.Activation("sigmoid")(made[..., 4:])])


def beside(x):
    made = joined(x)
    norm = L.BatchNormalization(name="norm")
    return known(norm, keras.Model(x, [L.Dense(2)(norm(made)), L.Dense(2)(made)]))


def behind_relu(x):
    norm = L.BatchNormalization(name="norm")
    return known(norm, keras.Model(x, L.Dense(2)(norm(L.ReLU(name="cut")(joined(x))))))


def positions(x):
    rows = L.Reshape((2, 4))(x)
    made = L.Concatenate(axis=1)([L.Rescaling(600.0)(L.Dense(4, "relu")(rows)), L.Dense(4, "sigmoid")(rows)])
    return keras.Model(x, L.Dense(3)(made[:, 2:]))


def columns(x):
    made = L.Concatenate()([x[:, :2], ops.log(x[:, 2:3]), x[:, 3:]])
    norm = L.Normalization(mean=[0.5, 49, 11, 0.5], variance=[0.08, 300, 0.7, 0.08])
    return keras.Model(x, L.Dense(2)(hidden(norm(made))))


def stacked(x):
    norm = L.Normalization(mean=[0.5, 49, 7e4, 0.5], variance=[0.08, 300, 1.7e9, 0.08])
    return keras.Model(x, L.Dense(2)(hidden(norm(ops.stack([x[:, i] for i in range(4)], axis=-1)))))


def told(model, x, config="int8"):
    """Return a quantized model and all that was said of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quantized = tfc.quantize(model, config, x, batch_size=256)
    return quantized, " ".join(str(one.message) for one in caught)


def correlation(got, wanted):
    pairs = zip(keras.tree.flatten(got), keras.tree.flatten(wanted), strict=True)
    columns = [(a, b) for one, other in pairs for a, b in zip(np.asarray(one).T, np.asarray(other).T, strict=True)]
    return min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in columns)


CASES = {
    targets: ("'head' stays float", {"head"}),
    folded: ("'head' with 'size' stays float", {"head", "size"}),
    added: ("stays float", {"head", "other", "add", "rescaling"}),
    split: ("'head' stays float, and each part", {"head"}),
    sliced: ("'head' stays float, and each part", {"head"}),
    beside: ("'joined' with 'norm' stays float", {"joined", "norm"}),
    behind_relu: ("'joined' with 'cut' with 'norm' stays float", {"joined", "cut", "norm"}),
    positions: ("stays float", None),
    columns: ("Each part that is taken of it is quantized by itself", None),
    stacked: ("'normalization' stays float", None),
}


@pytest.mark.parametrize("build", CASES, ids=lambda build: build.__name__)
def test_no_channel_is_lost(build):
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    said, fallbacks = CASES[build]
    x = table() if build in (columns, stacked) else noise()
    model = build(keras.Input((x.shape[1],), name="x"))
    quantized, remarks = told(model, x)
    assert said in remarks
    assert correlation(quantized(x, training=False), model(x, training=False)) > 0.98
    if fallbacks is not None:
        assert {name.partition("_")[0] for name in tfc.summary(quantized).fallbacks} == {
            name.partition("_")[0] for name in fallbacks
        }


def test_files_take_float_and_integers_of_one_tensor(tmp_path):
    keras.utils.set_random_seed(1)
    model = beside(keras.Input((8,), name="x"))
    quantized, _ = told(model, noise())
    tfc.save(quantized, tmp_path / "m.keras")
    loaded = tfc.load(tmp_path / "m.keras")
    for suffix in ("tflite", "onnx"):
        outputs = tfc.export(loaded, tmp_path / f"m.{suffix}", verify=noise(32)).parity.outputs.values()
        assert max(each.max_steps for each in outputs) <= 1.01


def test_where_nothing_would_be_left_to_quantize():
    inputs = keras.Input((8,), name="x")
    with pytest.raises(ValueError, match=r"something is left to quantize.*'head', would all stay float.*Channels of"):
        tfc.quantize(keras.Model(inputs, head(inputs)), "int8", noise())


def test_of_many_outputs_few_that_hardly_vary_are_said_and_quantized():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8,), name="x")
    scores = L.Dense(40, name="scores")
    model = keras.Model(inputs, scores(hidden(inputs)))
    kernel = np.array(scores.kernel)
    kernel[:, 7] *= 1e-3
    scores.kernel.assign(kernel)
    quantized, remarks = told(model, noise())
    assert "channel 7 of 40 would hold" in remarks and "'scores' float with layers=" in remarks
    assert not tfc.summary(quantized).fallbacks


def test_parts_of_channels():
    x = keras.KerasTensor((None, None, 6))
    parts = [x[:, 1:, 2:4], x[..., 0], ops.split(x, 3, axis=-1)[0], x[:, 1:], ops.split(x[:, :2], 2, axis=1)[0], x[0]]
    found = [parts_of(call_of(part._keras_history.operation._inbound_nodes[0])) for part in parts]
    assert [[part.tolist() for part in each] for each in found] == [
        [[2, 3]], [[0]], [[0, 1], [2, 3], [4, 5]], [], [], [],
    ]  # fmt: skip
