"""tfmot's idioms of clustering and of what keeps it in quantization-aware training, over Keras 3 and over tfmot."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tests.compat.test_pruning import with_tf_keras
from tfcompress.compat import tfmot
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.reports.tensorboard import ScalarLog

C = tfmot.clustering.keras
L = keras.layers
X = np.random.default_rng(0).normal(size=(16, 12)).astype("float32")
LINEAR = {"number_of_clusters": 4, "cluster_centroids_init": C.CentroidInitialization.LINEAR}


def network(module=keras):
    module.utils.set_random_seed(0)
    layers = [module.layers.Dense(10, activation="relu", name="hidden"), module.layers.Dense(5, name="logits")]
    return module.Sequential([module.layers.InputLayer((12,)), *layers])


def values(model):
    return {layer.name: len(np.unique(layer.get_weights()[0])) for layer in model.layers if layer.weights}


def test_the_guide_of_the_whole_model_and_of_some_layers():
    model = network()
    clustered = C.cluster_weights(model, **LINEAR)
    clustered.compile("adam", "mse")
    assert values(C.strip_clustering(clustered)) == {"hidden": 4, "logits": 4}

    def one(layer):
        return C.cluster_weights(layer, **LINEAR) if layer.name == "logits" else layer

    some = keras.models.clone_model(model, clone_function=one)
    assert [layer.name for layer in wrapped_layers(some)] == ["logits"]
    assert values(C.strip_clustering(some)) == {"hidden": 120, "logits": 4}
    assert values(model) == {"hidden": 120, "logits": 50}
    with C.cluster_scope(), pytest.warns(UserWarning, match="logits' .50 weights, fewer than 60"):
        few = C.cluster_weights(model, 60, C.CentroidInitialization.DENSITY_BASED)
    assert values(C.strip_clustering(few)) == {"hidden": 60, "logits": 50}


@pytest.mark.parametrize(
    ("scheme", "counts"),
    [
        (tfmot.experimental.combine.Default8BitClusterPreserveQuantizeScheme(), (4, 4)),
        (tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme(), (12, 10)),
    ],
)
def test_the_guides_of_what_is_kept_in_quantization_aware_training(scheme, counts):
    sparse = tfc.prune_once(network(), 0.5)
    stripped = C.strip_clustering(C.experimental.cluster_weights(sparse, **LINEAR, preserve_sparsity=True))
    annotated = tfmot.quantization.keras.quantize_annotate_model(stripped)
    trained = tfmot.quantization.keras.quantize_apply(annotated, scheme)
    trained.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    trained.train_on_batch(X, np.ones((16, 5)))
    for wrapper, most in zip(wrapped_layers(trained), counts, strict=True):
        integers = wrapper.encoded()[0].integers
        assert max(len(np.unique(channel)) for channel in integers.T) <= most
        assert (integers == 0).mean() >= 0.5


@with_tf_keras
def test_models_of_tf_keras_go_to_tfmot():
    import tf_keras

    clustered = C.cluster_weights(network(tf_keras), **LINEAR)
    assert type(clustered.layers[0]).__module__.startswith("tensorflow_model_optimization.")
    assert values(C.strip_clustering(clustered)) == {"hidden": 4, "logits": 4}


@pytest.mark.parametrize(("every", "steps"), [("epoch", [1, 2]), (2, [2])])
def test_summaries_have_the_shared_values(every, steps, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(ScalarLog, "write", lambda log, scalars, step: written.append((step, scalars)))
    clustered = C.cluster_weights(network(), **LINEAR)
    clustered.compile("adam", "mse", run_eagerly=True)
    summaries = C.ClusteringSummaries(tmp_path, every)
    clustered.fit(X, np.ones((16, 5)), batch_size=16, epochs=2, verbose=0, callbacks=[summaries])
    assert [step for step, _ in written] == [step for step in steps for _ in (0, 1)]
    kernel = C.strip_clustering(clustered).get_layer("hidden").kernel
    assert list(written[-2][1]) == [f"clustering/hidden/kernel/{place}" for place in range(4)]
    np.testing.assert_array_equal(list(written[-2][1].values()), np.unique(kernel))
    with pytest.raises(ValueError, match="cluster_update_freq"):
        C.ClusteringSummaries(tmp_path, "epochs")


def test_what_cannot_be_clustered_is_refused():
    for call, kind, said in [
        (lambda: C.cluster_weights(network(), 4, "linear"), ValueError, "LINEAR, RANDOM"),
        (lambda: C.cluster_weights(network(), 1), ValueError, "at least 2"),
        (lambda: C.cluster_weights(L.Dense(4), 4), ValueError, "a built layer"),
        (lambda: C.cluster_weights("model", 4), TypeError, "a model, a layer or a list"),
        (lambda: C.cluster_weights(network(), 4, name="x"), TypeError, "Received: name"),
    ]:
        with pytest.raises(kind, match=said):
            call()
