"""`tfc.cluster`: as tfmot's, exactly so many values, zeros kept, saved and loaded, refused with what to do."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.quantization.weights.codebook import Codebook
from tfcompress.quantization.weights.starts import start

with_tf_keras = pytest.mark.skipif(not ON_TENSORFLOW, reason="tf_keras runs on TensorFlow")

X = np.random.default_rng(0).normal(size=(32, 12)).astype("float32")
Y = np.random.default_rng(1).normal(size=(32, 8)).astype("float32")


def dense(units=8, inputs=12):
    return keras.Sequential([keras.Input((inputs,)), L.Dense(units, name="dense")])


def numpy(variable):
    return np.asarray(keras.ops.convert_to_numpy(variable.value))


def codebooks(model):
    return [t for layer in wrapped_layers(model) for _, t in layer.transforms if isinstance(t, Codebook)]


def centroids_of(tfmot, values, count, init, zero):
    """Return tfmot's."""
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.clustering.keras import cluster_config, clustering_centroids

    names = {"kmeans++": "KMEANS_PLUS_PLUS", "linear": "LINEAR", "density": "DENSITY_BASED"}
    kind = cluster_config.CentroidInitialization[names[init]]
    make = clustering_centroids.CentroidsInitializerFactory.get_centroid_initializer(kind)
    return np.asarray(make(tf.constant(values), count, False, "channels_last", zero).get_cluster_centroids())


@with_tf_keras
@pytest.mark.parametrize("init", ["kmeans++", "linear", "density"])
@pytest.mark.parametrize("zero", [False, True])
def test_values_start_as_tfmots_do(tfmot, init, zero):
    values = np.random.default_rng(2).normal(0.02, 0.1, size=(20, 30)).astype("float32")
    if zero:
        values[np.abs(values) < 0.05] = 0
    for count in (2, 7, 16) if not zero else (3, 8, 16):
        found = start(values, count - zero, init, zero=zero, seed=9)
        found = np.sort(np.append(found, 0.0) if zero else found)
        np.testing.assert_allclose(found, np.sort(centroids_of(tfmot, values, count, init, zero)), rtol=1e-5, atol=1e-6)


@with_tf_keras
def test_training_moves_weights_and_values_as_tfmots_does(tfmot):
    import tf_keras

    model = dense()
    clustered = tfc.cluster(model, 6, init="linear", preserve_sparsity=False)
    clustered.compile(keras.optimizers.SGD(0.02), "mse")
    theirs = tf_keras.Sequential([tf_keras.layers.Dense(8, input_shape=(12,))])
    theirs.set_weights(model.get_weights())
    kind = tfmot.clustering.keras.CentroidInitialization.LINEAR
    theirs = tfmot.clustering.keras.cluster_weights(theirs, number_of_clusters=6, cluster_centroids_init=kind)
    theirs.compile(tf_keras.optimizers.SGD(0.02), "mse")
    for _ in range(3):
        clustered.train_on_batch(X, Y)
        theirs.train_on_batch(X, Y)
    layer = theirs.layers[0]
    np.testing.assert_allclose(numpy(codebooks(clustered)[0].entries)[0], layer.cluster_centroids["kernel"], rtol=1e-5)
    original = layer.original_clusterable_weights["kernel"]
    np.testing.assert_allclose(numpy(wrapped_layers(clustered)[0].layer.kernel), original, rtol=1e-4, atol=1e-6)
    stripped = tfmot.clustering.keras.strip_clustering(theirs).layers[0].get_weights()[0]
    np.testing.assert_allclose(numpy(tfc.strip(clustered).layers[-1].kernel), stripped, rtol=1e-5)


@pytest.mark.parametrize("init", ["kmeans++", "linear", "random", "density", "quantile", "kmeans"])
def test_strip_leaves_exactly_so_many_values(init):
    model = tfc.prune_once(dense(), 0.3)
    zeros = numpy(model.layers[-1].kernel) == 0
    kernel = numpy(tfc.strip(tfc.cluster(model, 16, init=init)).layers[-1].kernel)
    assert len(np.unique(kernel)) == 16
    assert (kernel[zeros] == 0).all()


@pytest.mark.on_jax
def test_zeros_stay_and_values_stay_so_many_in_training(tmp_path):
    pruned = tfc.prune_once(dense(), 0.6)
    zeros = numpy(pruned.layers[-1].kernel) == 0
    clustered = tfc.cluster(pruned, 5)
    clustered.compile(keras.optimizers.Adam(0.1), "mse")  # so fast that values are left without weights
    clustered.fit(X, Y, epochs=5, verbose=0)
    clustered.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    kernel = numpy(tfc.strip(clustered).layers[-1].kernel)
    assert len(np.unique(kernel)) == 5
    np.testing.assert_array_equal(kernel[zeros], 0)
    np.testing.assert_array_equal(numpy(tfc.strip(loaded).layers[-1].kernel), kernel)


def test_any_layer_with_a_kernel():
    x = keras.Input((6, 6, 4))
    y = L.Conv2D(8, 3, name="conv")(x)
    y = L.DepthwiseConv2D(3, padding="same", name="depthwise")(L.BatchNormalization()(y))
    y = L.MultiHeadAttention(2, 4, name="attention")(y, y)
    model = keras.Model(x, L.Dense(10, name="logits")(L.Flatten()(y)))
    own = {"granularity": "per_channel", "number_of_clusters": 5}
    configs = {
        "logits": None,
        "depthwise": 3,
        "conv": tfc.ClusterConfig(5, granularity=4),
        ".*": tfc.ClusterConfig(**own),
    }
    clustered = tfc.cluster(model, configs)
    found = {f"{row.layer}/{row.weight}": row for row in tfc.summary(clustered).rows if row.weight}
    assert found.pop("logits/kernel").status == "as it is"
    assert found.pop("depthwise/kernel").distinct == 3
    assert all(row.status == "clustered" and row.distinct > 5 for row in found.values())
    kernel = next(wrapper for wrapper in wrapped_layers(clustered) if wrapper.name == "conv").encoded()[0].decode()
    assert {len(np.unique(part)) for part in np.split(kernel, 2, axis=-1)} == {5}


def two():
    return keras.Sequential([keras.Input((12,)), L.Dense(5, name="large"), L.Dense(2, name="tiny")])


def test_what_has_too_few_weights_is_left_dense_and_said_to_be_so(tmp_path):
    model = two()
    with pytest.warns(UserWarning, match="Left dense: the kernel of layer 'tiny' \\(10 weights, fewer than 16 values"):
        clustered = tfc.cluster(model, 16)
    clustered.save(tmp_path / "m.keras")
    for made in (clustered, keras.models.load_model(tmp_path / "m.keras"), tfc.quantize(clustered, "dynamic_int8")):
        said = [row.status for row in tfc.summary(made).rows if row.weight]
        assert said[0].startswith("clustered") and said[1].startswith("left dense: 10 weights, fewer than 16 values")
    plain = tfc.strip(clustered)
    assert type(plain.get_layer("tiny")) is L.Dense
    np.testing.assert_array_equal(numpy(plain.get_layer("tiny").kernel), numpy(model.get_layer("tiny").kernel))
    again = tfc.cluster(clustered, 4, layers="tiny")
    assert [row.status for row in tfc.summary(again).rows if row.weight] == ["clustered"] * 2
    assert len(np.unique(numpy(tfc.strip(again).get_layer("tiny").kernel))) == 4


def test_configs_go_to_json_and_back():
    config = tfc.ClusterConfig(7, codebook="power_of_two", granularity=2, gradient="mean")
    assert tfc.ClusterConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert codebooks(tfc.cluster(dense(), config))[0].brief() == "7 power of two levels per 2 channels"
    assert codebooks(tfc.cluster(dense(), number_of_clusters=4))[0].brief() == "4 values"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"number_of_clusters": 1}, "at least 2"),
        ({"number_of_clusters": 257}, "up to 256"),
        ({"init": "kmeans_plus_plus"}, "Did you mean 'kmeans\\+\\+'"),
        ({"codebook": "power_of_two"}, "odd number_of_clusters.*Take 15"),
        ({"codebook": "additive_power_of_two", "number_of_clusters": 9}, "Take 7"),
        ({"codebook": "uniform", "init": "linear"}, "no init"),
        ({"granularity": "channel"}, "Did you mean 'per_channel'"),
        ({"granularity": 1}, "at least 2"),
        ({"gradient": "avg"}, "Did you mean 'mean'"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        tfc.ClusterConfig(**{"number_of_clusters": 16, **fields})


def test_what_cannot_be_clustered_is_refused():
    model = dense()
    for call, kind, said in [
        (lambda: tfc.cluster(model), TypeError, "a number of clusters"),
        (lambda: tfc.cluster(model, 16, inits="linear"), TypeError, "Did you mean init="),
        (lambda: tfc.cluster(model, 97), ValueError, "96 weights, fewer than 97 values in the kernel of layer 'dense'"),
        (
            lambda: tfc.cluster(model, 13, granularity="per_channel"),
            ValueError,
            "12 weights for a table",
        ),
        (lambda: tfc.cluster(model, 4, granularity=3), ValueError, "divide the number of channels"),
        (lambda: tfc.cluster(model, 16, layers="dens"), ValueError, "Did you mean 'dense'"),
        (lambda: tfc.cluster(tfc.cluster(model, 16), 16), ValueError, "which is. Name other layers"),
        (lambda: tfc.cluster(tfc.prune_once(model, 0.95), 16), ValueError, "6 different weights"),
        (lambda: tfc.cluster(two(), 16, layers=["tiny"]), ValueError, "leave the layer out of `layers`"),
        (lambda: tfc.cluster(two(), {"tiny": 16, ".*": 4}), ValueError, "leave the layer out of `config`"),
        (lambda: tfc.cluster("model", 16), TypeError, "keras.Model"),
    ]:
        with pytest.raises(kind, match=said):
            call()
    model.layers[-1].kernel.assign(np.full((12, 8), np.nan))
    with pytest.raises(ValueError, match="holds NaN"):
        tfc.cluster(model, 16)
