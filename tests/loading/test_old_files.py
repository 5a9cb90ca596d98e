"""`tfc.load`: SavedModels of TensorFlow 2.0 to 2.4, files that tfmot wrapped, weights alone."""

from __future__ import annotations

import os
import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import but_rare
from tests.loading.test_loader import save
from tfcompress.loading.tfmot import is_wrapped
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers

NAMES = ["model.h5", "saved_model", "model.keras"]
X = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
IMAGES = np.random.default_rng(0).uniform(size=(8, 8, 8, 3)).astype("float32")


@pytest.fixture(scope="module")
def tk():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tf_keras
    return tf_keras


def dense(tk):
    tk.utils.set_random_seed(0)
    layers = tk.layers
    return tk.Sequential([
        layers.Input((8,), name="x"), layers.Dense(16, activation="relu", name="hidden"), layers.Dense(3, name="last")
    ])  # fmt: skip


def trained(model, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.compile("adam", "mse")
        model.fit(x, y, epochs=2, batch_size=4, verbose=0)
    return model


def predicted(legacy, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return legacy.predict(x, verbose=0)


def as_of_tf_2_4(folder):
    """Move Keras' metadata to where TensorFlow 2.0 to 2.4 kept it: into the nodes of saved_model.pb."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tf_keras.protobuf import saved_metadata_pb2

    metadata = saved_metadata_pb2.SavedMetadata()
    metadata.ParseFromString((folder / "keras_metadata.pb").read_bytes())
    stored = saved_model_pb2.SavedModel()
    stored.ParseFromString((folder / "saved_model.pb").read_bytes())
    nodes = stored.meta_graphs[0].object_graph_def.nodes
    for found in metadata.nodes:
        nodes[found.node_id].user_object.metadata = found.metadata
    (folder / "saved_model.pb").write_bytes(stored.SerializeToString())
    (folder / "keras_metadata.pb").unlink()
    return folder


def test_a_saved_model_of_tensorflow_2_4(tk, tmp_path):
    legacy = trained(dense(tk), X, np.ones((16, 3)))
    folder = as_of_tf_2_4(save(legacy, tmp_path, "saved_model"))
    np.testing.assert_allclose(tfc.load(folder).predict(X, verbose=0), predicted(legacy, X), atol=1e-5)


def test_code_in_an_old_saved_model_is_refused(tk, tmp_path):
    legacy = tk.Sequential([tk.layers.Input((8,)), tk.layers.Lambda(lambda x: x * 2, name="twice")])
    folder = as_of_tf_2_4(save(legacy, tmp_path, "saved_model"))
    with pytest.raises(ValueError, match="'twice' would run code"):
        tfc.load(folder)
    np.testing.assert_allclose(tfc.load(folder, unsafe=True).predict(X, verbose=0), 2 * X, atol=1e-6)


def test_functions_alone_say_what_can_be_done_with_them(tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.double = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec((None, 8))])
    tf.saved_model.save(module, str(tmp_path / "functions"))
    with pytest.raises(ValueError, match=r"only traced functions.*Save the model again.*from_saved_model.*TFSMLayer"):
        tfc.load(tmp_path / "functions")
    (tmp_path / "functions" / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(ValueError, match="saved_model.pb'.*broken"):
        tfc.load(tmp_path / "functions")


@pytest.fixture(scope="module")
def pruned(tk, tfmot):
    api = tfmot.sparsity.keras
    pruned = api.prune_low_magnitude(dense(tk), api.ConstantSparsity(0.75, begin_step=0, frequency=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruned.compile("adam", "mse")
        pruned.fit(X, np.ones((16, 3)), epochs=2, verbose=0, callbacks=[api.UpdatePruningStep()])
    return pruned


@pytest.mark.parametrize("name", but_rare(NAMES, ("model.keras",)))
def test_pruned_by_tfmot(name, pruned, tmp_path):
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    file = save(pruned, tmp_path, name)
    model = tfc.load(file)
    np.testing.assert_allclose(model.predict(X, verbose=0), predicted(pruned, X), atol=1e-5)
    assert tfc.sparsity(model) == 0.75
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, np.zeros((16, 3)), verbose=0)  # the masks came along
    assert tfc.sparsity(tfc.strip(model)) == 0.75
    assert os.environ.get("TF_USE_LEGACY_KERAS") == before


def test_clustered_by_tfmot(tk, tfmot, tmp_path):
    api = tfmot.clustering.keras
    start = api.CentroidInitialization.LINEAR
    clustered = trained(api.cluster_weights(dense(tk), 4, start), X, np.ones((16, 3)))
    for name in NAMES[:2]:
        model = tfc.load(save(clustered, tmp_path, name))
        np.testing.assert_allclose(model.predict(X, verbose=0), predicted(clustered, X), atol=1e-5)
        assert len(np.unique(model.get_layer("hidden").kernel)) == 4


@pytest.fixture(scope="module")
def legacy(tk, tfmot):
    return trained(tfmot.quantization.keras.quantize_model(dense(tk)), X, np.ones((16, 3)))


@pytest.mark.parametrize("name", NAMES[:2])
def test_quantized_by_tfmot(name, legacy, tmp_path):
    model = tfc.load(save(legacy, tmp_path, name))
    theirs = predicted(legacy, X)
    assert np.abs(model.predict(X, verbose=0) - theirs).max() < 0.02 * np.ptp(theirs)
    (hidden,) = (float(v) for v in legacy.variables if "hidden" in v.name and "post_activation_max" in v.name)
    assert max(q.range[1] for q in activation_quantizers(model) if "hidden" in q.source) == pytest.approx(hidden)
    artifact = tfc.export(model, tmp_path / "model.tflite", verify=X)
    assert "int8" in artifact.precision


def test_a_file_that_tfmot_itself_cannot_load(tk, tfmot, tmp_path):
    file = save(tfmot.quantization.keras.quantize_model(dense(tk)), tmp_path, "model.keras")
    with pytest.raises(ValueError, match=r"Expected a model that Keras 2 can load.*Save it as .h5 where it was made"):
        tfc.load(file)
    api, combined = tfmot.quantization.keras, tfmot.experimental.combine
    annotated = api.quantize_annotate_model(dense(tk))
    file = save(
        api.quantize_apply(annotated, combined.Default8BitClusterPreserveQuantizeScheme()), tmp_path, "model.h5"
    )
    with pytest.raises(ValueError, match=r"Expected a model that Keras 2 can load.*Save it as a SavedModel"):
        tfc.load(file)


def test_a_convolution_with_batch_normalization_quantized_by_tfmot(tk, tfmot, tmp_path):
    layers = tk.layers
    tk.utils.set_random_seed(0)
    inputs = layers.Input((8, 8, 3), name="image")
    x = layers.ReLU(name="act")(layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(inputs)))
    x = layers.Dense(2, activation="softmax", name="last")(layers.GlobalAveragePooling2D(name="mean")(x))
    legacy = trained(tfmot.quantization.keras.quantize_model(tk.Model(inputs, x)), IMAGES, np.ones((8, 2)))
    model = tfc.load(save(legacy, tmp_path, "model.h5"))
    assert np.abs(model.predict(IMAGES, verbose=0) - predicted(legacy, IMAGES)).max() < 0.02
    assert all(quantizer.calibrated for quantizer in activation_quantizers(model))


def test_wrappers_are_found_in_configurations():
    assert is_wrapped([{"class_name": "Keras>QuantizeWrapperV2"}])
    assert not is_wrapped({"layers": [{"class_name": "Dense", "config": {"name": "PruneLowMagnitude"}}]})


def network():
    layers = [keras.Input((8,), name="x"), L.Dense(16, "relu", name="hidden"), L.Dense(3, name="last")]
    return keras.Sequential(layers)


@pytest.mark.parametrize("name", ["keras2.h5", "keras2.weights.h5", "keras3.weights.h5", "renamed.h5", "whole.h5"])
def test_weights_alone(name, tk, tmp_path):
    file = tmp_path / name
    if name.startswith(("keras2", "whole")):
        source = dense(tk)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (source.save if name == "whole.h5" else source.save_weights)(file)
    else:
        source = network()
        source.save_weights(tmp_path / "made.weights.h5")
        (tmp_path / "made.weights.h5").rename(file)
    given = network()
    before = given.get_weights()
    if name != "whole.h5":
        with pytest.raises(ValueError, match=r"weights alone.*model="):
            tfc.load(file)
    model = tfc.load(file, model=given)
    assert model is not given
    for old, now, new, want in zip(before, given.get_weights(), model.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)
        np.testing.assert_array_equal(new, want)
    other = keras.Sequential([keras.Input((8,)), L.Dense(5)])
    kept = other.get_weights()
    with pytest.raises(ValueError, match=r"Expected weights of the layers of .*doesn't fit"):
        tfc.load(file, model=other)
    np.testing.assert_array_equal(other.get_weights()[0], kept[0])


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([L.Dense(16, name="hidden")], r"it holds 'layers/dense_1/vars/0' of shape \(16, 3\).* no weight"),
        ([L.Dense(4, name="hidden"), L.Dense(3)], r"shape=\(8, 4\), Received: value.shape=\(8, 16\).*hidden/kernel"),
        ([L.Dense(16), L.LayerNormalization(name="n"), L.Dense(3)], r"Layer 'n' was never built|Layer 'n' expected 2"),
    ],
)
def test_weights_of_another_model_say_what_differs(layers, said, tmp_path):
    network().save_weights(tmp_path / "made.weights.h5")
    with pytest.raises(ValueError, match=said):
        tfc.load(tmp_path / "made.weights.h5", model=keras.Sequential([keras.Input((8,)), *layers]))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("m.index", "part of a TensorFlow checkpoint.*model.load_weights"),
        ("m", "part of a TensorFlow checkpoint"),  # as load_weights takes its name
        ("m.data-00000-of-00001", "part of a TensorFlow checkpoint"),
        ("checkpoint", "part of a TensorFlow checkpoint"),
        ("saved_model.pb", "part of a SavedModel. Give its folder"),
        ("frozen.pb", "graph of TensorFlow 1.*no Keras layers"),
        ("m.json", "layers without weights"),
        ("m.weights.json", "saved in several files"),
        ("m.pt", "of another library"),
        ("m.tar.gz", "an archive"),
        ("m.pkl", "would run code"),
        ("noname", "it holds a TFLite model"),
        ("m.keras", "broken or something else.*it holds a TFLite model"),
        ("m.h5", "broken or something else.*it holds a TFLite model"),
    ],
)
@pytest.mark.parametrize("model", [False, True])
def test_files_that_are_no_keras_model_are_named(name, said, model, tmp_path):
    for made in (name, "m.index"):
        (tmp_path / made).write_bytes(b"\x1c\0\0\0TFL3")
    if name == "m":
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match="Received") as caught:
        tfc.load(tmp_path / name, model=network() if model and name not in ("noname", "m.keras") else None)
    assert re.search(said, str(caught.value))


def test_a_folder_that_holds_a_model_of_another_kind(tmp_path):
    (tmp_path / "m.index").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no saved_model.pb, but 'm.index': a checkpoint"):
        tfc.load(tmp_path)


def test_weights_with_what_is_no_model_for_them(tmp_path):
    network().save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="Leave model= out"):
        tfc.load(tmp_path / "model.keras", model=network())
    (tmp_path / "broken.h5").write_bytes(b"no file of HDF")
    with pytest.raises(ValueError, match="broken"):
        tfc.load(tmp_path / "broken.h5", model=network())
    with pytest.raises(TypeError, match=r"keras.Model"):
        tfc.load(tmp_path / "broken.h5", model="network")
