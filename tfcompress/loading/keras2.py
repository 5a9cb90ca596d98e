"""Convert a model of Keras 2 to Keras 3, and check that both compute the same."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.locking import no_warnings
from tfcompress.graph.inputs.declared import given_shapes
from tfcompress.graph.inputs.sizes import NoSizeFits, hints_of
from tfcompress.graph.inputs.symbolic import graph_of, has_graph, input_name
from tfcompress.graph.recursion_limit import deep_recursion
from tfcompress.graph.sample_inputs.contents import flat_contents, vocabulary
from tfcompress.graph.sample_inputs.input_paths import NOISE
from tfcompress.graph.sample_inputs.samples import draw, sample_shapes
from tfcompress.loading import tfmot
from tfcompress.loading.keras2_configs import repaired
from tfcompress.loading.keras2_packages import keras2_at_work
from tfcompress.loading.refusals import broken, short, unreadable

TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-2


class Unreadable(Exception):
    """Keras 3 can't read a file; the cause is Keras' own exception."""


def read(file: pathlib.Path, unsafe: bool, compile: bool) -> keras.Model:
    """Read a file with Keras 3.

    Raises:
        Unreadable: Keras 3 can't.
    """
    try:
        # A model that was compiled and saved, but not yet trained: nothing is lost.
        with no_warnings("Skipping variable loading for optimizer"), deep_recursion():
            return keras.models.load_model(file, compile=compile, safe_mode=not unsafe)
    except Exception as error:  # Keras raises whatever the layers' constructors raise
        raise Unreadable(short(error)) from error


def read_h5(file: pathlib.Path, unsafe: bool) -> keras.Model:
    """Read an `.h5` file of Keras 2 with Keras 3, through a copy whose configuration is repaired.

    Raises:
        Unreadable: Keras 3 can't.
    """
    import h5py

    # Warnings are about the style of the configuration, which nobody can change any more.
    with tempfile.TemporaryDirectory() as folder, no_warnings():
        copy = pathlib.Path(folder) / "model.h5"
        shutil.copyfile(file, copy)
        copy.chmod(0o600)
        with h5py.File(copy, "r+") as stored:
            config = stored.attrs["model_config"]
            text = config.decode("utf-8") if isinstance(config, bytes) else config
            stored.attrs["model_config"] = json.dumps(repaired(json.loads(text)))
        return read(copy, unsafe, compile=False)


def load_with_keras2(file: pathlib.Path, unsafe: bool, wrapped: bool = False) -> Any:
    """Load a file of Keras 2 with Keras 2 (tf_keras). Its code must have been looked for before.

    Args:
        file: what to load.
        unsafe: whether code in it may be run.
        wrapped: whether it holds layers of tfmot.

    Raises:
        ValueError: it can't be loaded.
    """
    try:
        with keras2_at_work():
            import tf_keras

            with tfmot.scope() if wrapped else contextlib.nullcontext():
                return tf_keras.models.load_model(str(file), compile=False, safe_mode=not unsafe)
    except Exception as error:  # tf_keras raises whatever the layers' constructors raise
        # What tfmot can't load of one kind of file, it mostly can of another.
        other = "as a SavedModel (save_format='tf')" if file.suffix in (".h5", ".hdf5") else "as .h5"
        raise ValueError(
            f"Expected a model that Keras 2 can load. Received: {str(file)!r}, of which it says: {short(error)}."
            + (f" Save it {other} where it was made." if wrapped else "")
        ) from error


def convert_wrapped(file: pathlib.Path, unsafe: bool) -> keras.Model:
    """Load a file with wrappers of tfmot: without these, with the masks and ranges that they had.

    Raises:
        ValueError: it can't be loaded, or become a Keras 3 model.
    """
    legacy = load_with_keras2(file, unsafe, wrapped=True)
    try:
        with keras2_at_work():
            plain, carried = tfmot.stripped(legacy)
    except Exception as error:  # Keras 2 raises whatever the layers' constructors raise
        raise ValueError(
            f"Expected a model that tfmot's wrappers can be taken off. Received: {str(file)!r}, where that fails: "
            f"{short(error)}. Strip it in Python where it was made, and save it again."
        ) from error
    return tfmot.carry(convert(plain, file, unsafe), carried)


def convert(legacy: Any, file: pathlib.Path, unsafe: bool) -> keras.Model:
    """Carry a tf_keras model over to Keras 3, by way of an `.h5` file, and compare the two.

    Args:
        legacy: the tf_keras model.
        file: where it came from, for the messages.
        unsafe: whether code in it may be run.

    Returns:
        The same as a Keras 3 model, uncompiled.

    Raises:
        ValueError: its layers can't be recovered, Keras 3 doesn't know one, or computes something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        bridge = pathlib.Path(folder) / "model.h5"
        try:
            with keras2_at_work():
                legacy.save(bridge, save_format="h5", include_optimizer=False)
        except (NotImplementedError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"Expected a functional or Sequential model. Received: {str(file)!r}, a "
                f"{type(legacy).__name__} whose layers can't be recovered from the file. Build it in Python, "
                f"in Keras 3, load its weights and save it as .keras. (tf_keras says: {short(error)})"
            ) from error
        try:
            model = read_h5(bridge, unsafe)
        except Unreadable as error:
            raise unreadable(file, error) from error.__cause__
    if not same(model, legacy):
        raise ValueError(
            f"Expected Keras 3 to compute what Keras 2 does. Received: {str(file)!r}, where their outputs "
            f"differ by {difference(model, legacy):.2g} of their scale for the same input. A layer means "
            "something else in Keras 3: compare the two layer by layer, and rebuild the model in Python."
        )
    return model


def same(model: keras.Model, legacy: Any) -> bool:
    """Return whether two models agree: to 1e-4 of the outputs' scale, in half precision to 1e-2."""
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in flatten_layers(model))
    return difference(model, legacy) <= (HALF_TOLERANCE if half else TOLERANCE)


def difference(model: keras.Model, legacy: Any) -> float:
    """Return how far the outputs are apart for the same random input, over their scale; infinite for other
    shapes.

    Raises:
        ValueError: the Keras 2 model can't be run on random numbers.
    """
    structure = graph_of(model).input if has_graph(model) else list(model.inputs)
    tensors = keras.tree.flatten(structure)
    known = flat_contents(model, structure) if has_graph(model) else [NOISE] * len(tensors)
    shapes = given_shapes([input_name(x) for x in tensors], [tuple(x.shape) for x in tensors])

    def inputs_of(sizes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        random = np.random.default_rng(0)
        dtypes = [keras.backend.standardize_dtype(x.dtype) for x in tensors]
        return [draw(*each, random, vocabulary(model)) for each in zip(sizes, dtypes, known, strict=True)]

    def run(sizes: Sequence[tuple[int, ...]]) -> list[Any]:
        with keras2_at_work():
            arrays = inputs_of(sizes)
            return list(keras.tree.flatten(legacy.predict_on_batch(arrays[0] if len(arrays) == 1 else arrays)))

    try:
        sizes = sample_shapes(shapes, run, hints=hints_of(model, shapes), strict=True)
        theirs: Any = run(sizes)
    except Exception as error:  # too small an image for the strides, in TensorFlow's many words
        cause = error.__cause__ if isinstance(error, NoSizeFits) else error
        raise ValueError(
            "Expected a Keras 2 model that runs on random numbers, to compare Keras 3 with it. Received one "
            f"of which it says: {short(cause or error)}"
        ) from cause
    inputs = inputs_of(sizes)
    ours = model.predict_on_batch(inputs[0] if len(inputs) == 1 else inputs)
    ours = keras.tree.flatten(ours)
    if [np.shape(a) for a in ours] != [np.shape(b) for b in theirs]:
        return float("inf")
    return max(
        _distance(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(ours, theirs, strict=True)
    )


def configs_of_saved_model(folder: pathlib.Path) -> list[Any]:
    """Return the configuration of every Keras object in a Keras 2 SavedModel, without loading it.

    They are in keras_metadata.pb; those of TensorFlow 2.0 to 2.4 in saved_model.pb, with the nodes of its graph.

    Args:
        folder: the SavedModel.

    Raises:
        ValueError: a file is broken.
    """
    metadata = folder / "keras_metadata.pb"
    file = metadata if metadata.is_file() else folder / "saved_model.pb"
    try:
        if file is metadata:
            with keras2_at_work():
                from tf_keras.protobuf import saved_metadata_pb2
            parsed = saved_metadata_pb2.SavedMetadata()
            parsed.ParseFromString(file.read_bytes())
            texts = [node.metadata for node in parsed.nodes]
        else:
            from tensorflow.core.protobuf import saved_model_pb2

            stored = saved_model_pb2.SavedModel()
            stored.ParseFromString(file.read_bytes())
            nodes = [node for graph in stored.meta_graphs for node in graph.object_graph_def.nodes]
            objects = [node.user_object for node in nodes if node.WhichOneof("kind") == "user_object"]
            texts = [found.metadata for found in objects if found.identifier.startswith("_tf_keras_")]
        return [json.loads(text) for text in texts if text]
    except Exception as error:  # protobuf raises its own
        raise broken(file, error) from error


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        error = np.where(equal, 0.0, np.abs(a - b)).max(initial=0.0)
    scale = max(1e-2, np.abs(b[np.isfinite(b)]).max(initial=0.0))
    return float(error / scale) if np.isfinite(error) else float("inf")
