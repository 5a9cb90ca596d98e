"""tfmot's idioms of pruning over Keras 3, with tfmot itself as the reference."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tfcompress.compat import tfmot
from tfcompress.core.wrapper import CompressedLayer, wrapped_layers

S = tfmot.sparsity.keras
L = keras.layers

with_tf_keras = pytest.mark.skipif(not ON_TENSORFLOW, reason="tf_keras runs on TensorFlow")


class Own(S.PruningSchedule):
    """A schedule of someone's own, as tfmot's documentation tells to make them."""

    def __init__(self, sparsity):
        self.sparsity = sparsity

    def __call__(self, step):
        import tensorflow as tf

        return self._should_prune_in_step(step, 2, 6, 2), tf.constant(self.sparsity, tf.float32)

    def get_config(self):
        return {"class_name": type(self).__name__, "config": {"sparsity": self.sparsity}}


ONCE = S.ConstantSparsity(0.5, 1, -1, 1)
PARAMETERS = {
    "from_0": {"pruning_schedule": S.PolynomialDecay(0.1, 0.8, 0, 9, frequency=3)},
    "late": {"pruning_schedule": S.PolynomialDecay(0.2, 0.8, 2, 8, frequency=2)},
    "constant": {"pruning_schedule": S.ConstantSparsity(0.6, 0, frequency=4)},
    "ended": {"pruning_schedule": S.ConstantSparsity(0.6, 3, 3, 5)},
    "blocks": {
        "pruning_schedule": S.ConstantSparsity(0.5, 1, -1, 1),
        "block_size": (2, 5),
        "block_pooling_type": "MAX",
    },
    "patterns": {"sparsity_m_by_n": (2, 4)},
    "own": {"pruning_schedule": Own(0.3)},
}


def layer_by_layer(k):
    """Return a model of Keras 3 or tf_keras whose layers are pruned in many ways."""
    x = inputs = k.Input((6, 6, 4))
    x = S.prune_low_magnitude(k.layers.Conv2D(4, 3, name="convolution"), **PARAMETERS["late"])(x)
    x = S.prune_low_magnitude(k.layers.Conv2D(5, 2, name="squares"), **PARAMETERS["patterns"])(x)
    x = k.layers.Flatten()(x)
    for name, how in PARAMETERS.items():
        x = S.prune_low_magnitude(k.layers.Dense(10, name=name), **how)(x)
    return k.Model(inputs, x)


def the_same(ours, theirs):
    """Give two models the same weights, drawn at random."""
    random = np.random.default_rng(0)
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        values = [random.normal(size=w.shape) for w in one.trainable_weights]
        for weight, value in zip(one.trainable_weights, values, strict=True):
            weight.assign(value)
        for weight, value in zip(other.trainable_weights, values, strict=True):
            weight.assign(value)


def masks_of(model):
    if isinstance(model, keras.Model):
        return [np.asarray(t.mask.value) for layer in wrapped_layers(model) for _, t in layer.transforms]
    return [np.asarray(m) != 0 for x in model.layers for _, m, _ in getattr(x, "pruning_vars", ())]


def trained(model, k, steps=9):
    """Return the masks behind each of several training steps that leave the weights as they are."""
    found = []

    class Look(k.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            found.append(masks_of(self.model))

    model.compile(k.optimizers.SGD(0.0), "mse", jit_compile=False)
    x = np.random.default_rng(1).normal(size=(steps, *model.inputs[0].shape[1:])).astype("float32")
    y = np.zeros((steps, model.outputs[0].shape[-1]), "float32")
    model.fit(x, y, batch_size=1, verbose=0, callbacks=[S.UpdatePruningStep(), Look()])
    return found


@with_tf_keras
@pytest.mark.filterwarnings("ignore")  # of tf_keras about itself
def test_masks_are_tfmots_after_each_training_step(tfmot):
    import tf_keras

    ours, theirs = layer_by_layer(keras), layer_by_layer(tf_keras)
    assert type(theirs.layers[1]) is type(tfmot.sparsity.keras.prune_low_magnitude(tf_keras.layers.Dense(1)))
    the_same(ours, theirs)
    for step, (one, other) in enumerate(zip(trained(ours, keras), trained(theirs, tf_keras), strict=True), 1):
        for name, mine, reference in zip(["late", "patterns", *PARAMETERS], one, other, strict=True):
            np.testing.assert_array_equal(mine, reference, err_msg=f"{name} at step {step}")
    mine, reference = (S.strip_pruning(model).layers[-1].get_weights()[0] for model in (ours, theirs))
    np.testing.assert_array_equal(mine, reference)
    assert (mine == 0).mean() == 0.3


def whole(k):
    """Return a model of Keras 3 or tf_keras with kernels that tfmot prunes, and some that it doesn't."""
    x = inputs = k.Input((6, 6, 2))
    x = k.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = k.layers.BatchNormalization()(x)
    x = k.layers.SeparableConv2D(8, 1, name="separable")(x)
    x = k.layers.Reshape((16, 8))(x)
    x = k.layers.GRU(3, name="gru")(x)
    return k.Model(inputs, k.layers.Dense(4, name="dense")(x))


@with_tf_keras
@pytest.mark.filterwarnings("ignore")
def test_kernels_of_a_whole_model_are_those_that_tfmot_prunes(tfmot):
    import tf_keras

    ours, theirs = S.prune_low_magnitude(whole(keras)), S.prune_low_magnitude(whole(tf_keras))
    shapes = [mask.shape for mask in masks_of(ours)]
    assert shapes == [mask.shape for mask in masks_of(theirs)] == [(1, 1, 2, 8), (8, 9), (3, 9), (3, 4)]
    assert S.prune_low_magnitude(ours).count_params() == ours.count_params()  # what is pruned stays as it is


@keras.saving.register_keras_serializable("tests")
class WithBias(L.Dense, S.PrunableLayer):
    """The custom layer of tfmot's guide."""

    def get_prunable_weights(self):
        return [self.kernel, self.bias]


@pytest.mark.on_jax
def test_layers_are_chosen_by_cloning_or_written_into_a_model(tmp_path):
    dense = L.Dense(6, activation="relu", name="first")
    base = keras.Sequential([keras.Input((8,)), dense, L.Dense(2, name="second")])
    before = base.get_weights()

    def only_dense(layer):
        return S.prune_low_magnitude(layer, ONCE) if layer.name == "first" else layer

    cloned = keras.models.clone_model(base, clone_function=only_dense)
    written = keras.Sequential(
        [
            S.prune_low_magnitude(WithBias(6, name="first"), ONCE, input_shape=(8,)),
            *S.prune_low_magnitude([L.Flatten(name="flat"), L.Dense(2, name="second")], ONCE),
        ]
    )
    assert isinstance(cloned.layers[0], CompressedLayer) and cloned.layers[1] is base.layers[1]
    assert written.built and [type(layer) for layer in written.layers] == [CompressedLayer] * 3
    for model, kept in ((cloned, [24]), (written, [24, 3, 6])):
        model.compile("sgd", "mse")
        model.fit(np.ones((4, 8)), np.ones((4, 2)), verbose=0, callbacks=[S.UpdatePruningStep()])
        model.save(tmp_path / "m.keras")
        with S.prune_scope():
            loaded = keras.models.load_model(tmp_path / "m.keras")
        assert [mask.sum() for mask in masks_of(loaded)] == kept
        stripped = S.strip_pruning(loaded)
        assert not any(isinstance(layer, CompressedLayer) for layer in stripped.layers)
        assert (stripped.get_layer("first").get_weights()[0] == 0).sum() == 24
    assert all(map(np.array_equal, before[:2], base.get_weights()[:2]))  # a copy of the layer was pruned
    assert cloned.layers[0].layer is not dense


@pytest.mark.on_jax
def test_schedules_are_stored_as_tfcompress_knows_them():
    pruned = S.prune_low_magnitude(keras.Sequential([keras.Input((4,)), L.Dense(4)]), S.ConstantSparsity(0.5, 100))
    (wrapper,) = wrapped_layers(pruned)
    assert wrapper.transforms[0][1].config == tfc.PruneConfig(tfc.ConstantSparsity(0.5, begin_step=99))
    never = S.PolynomialDecay(0.0, 0.5, 0, 50).counted_from_0()
    assert never.next_update(0) is None and S.ConstantSparsity(0.5, 0, 50).counted_from_0().next_update(0) is None
    assert S.PolynomialDecay(0.0, 0.5, 0, 100).counted_from_0() == tfc.OneShot(0.5, step=99)


@with_tf_keras
def test_a_training_loop_of_ones_own(tmp_path):
    import tensorflow as tf

    model = S.prune_low_magnitude(
        keras.Sequential([keras.Input((8,)), L.Dense(4)]), S.PolynomialDecay(0.0, 0.75, 1, 3, frequency=1)
    )
    update, summaries = S.UpdatePruningStep(), S.PruningSummaries(log_dir=str(tmp_path))
    model.optimizer = keras.optimizers.SGD(0.1)
    for callback in (update, summaries):
        callback.set_model(model)
    update.on_train_begin()
    for _ in range(3):
        summaries.on_epoch_begin(epoch=-1)
        update.on_train_batch_begin(batch=-1)
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(model(np.ones((2, 8)), training=True) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        for weight, gradient in zip(model.trainable_variables, gradients, strict=True):
            weight.assign(weight - 0.1 * gradient + 1e-3)  # no optimizer of Keras, which would keep zeros
        update.on_epoch_end(batch=-1)
    assert (model.layers[-1].kernel.numpy() == 0).mean() == 0.75
    assert [path.name for path in tmp_path.iterdir()] == ["metrics"]


@pytest.mark.on_jax
def test_policy_prunes_pointwise_convolutions_and_refuses_other_models():
    layers = [L.ZeroPadding2D(1), L.Conv2D(8, 3, strides=2), L.ReLU(), L.Conv2D(4, 1, name="pointwise"), L.ReLU()]
    end = [L.GlobalAveragePooling2D(keepdims=True), L.Flatten(), L.Dense(2)]
    policy = {"pruning_policy": S.PruneForLatencyOnXNNPack()}
    pruned = S.prune_low_magnitude(keras.Sequential([keras.Input((8, 8, 3)), *layers, *end]), **policy)
    assert [layer.name for layer in wrapped_layers(pruned)] == ["pointwise"]
    with pytest.raises(ValueError, match="Expected a model that .* Received: 'small'"):
        S.prune_low_magnitude(keras.Sequential([keras.Input((4,)), L.Dense(2)], name="small"), **policy)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"to_prune": "model.h5"}, "Expected `to_prune` to be a model, a layer or a list of layers"),
        ({"block_size": 4}, "Expected `block_size` to be two whole numbers of at least 1. Received: block_size=4"),
        ({"block_pooling_type": "MIN"}, "Expected `pooling` to be 'AVG' or 'MAX'"),
        ({"sparsity_m_by_n": (4, 4)}, r"Expected `sparsity_m_by_n` to be \(zeros, weights\), with fewer zeros"),
        ({"pruning_schedule": 0.5}, r"such as ConstantSparsity\(0.5, begin_step=0\).* Received: 0.5"),
        ({"pruning_schedule": S.PolynomialDecay(0.8, 0.2, 1, 101)}, "Expected a schedule that doesn't fall"),
    ],
)
def test_what_is_refused(how, message):
    with pytest.raises((TypeError, ValueError), match=message):
        S.prune_low_magnitude(**{"to_prune": L.Dense(2), **how})


def test_a_schedule_that_is_too_short_for_its_frequency():
    schedule = S.PolynomialDecay(0.5, 0.8, begin_step=0, end_step=28)  # every 100 steps, as tfmot has it
    pruned = S.prune_low_magnitude(keras.Sequential([keras.Input((4,)), L.Dense(4)]), pruning_schedule=schedule)
    pruned.compile("sgd", "mse", run_eagerly=True)
    pruned.train_on_batch(np.ones((2, 4)), np.ones((2, 4)))
    with pytest.warns(UserWarning, match=r"reached 0 of 0\.8: .* no step .* Take a smaller frequency"):
        S.strip_pruning(pruned)


def test_a_name_that_is_not_here_is_answered():
    with pytest.raises(AttributeError, match="clustering.keras has: .* Received: 'ClusterableLayer'. Any layer with a"):
        tfmot.clustering.keras.ClusterableLayer  # noqa: B018
    assert not hasattr(tfmot.quantization.keras, "default_8bit")
