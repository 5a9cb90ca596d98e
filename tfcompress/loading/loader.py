"""`tfc.load`: which kind of file it is, and what to do with it."""

from __future__ import annotations

import json
import os
import pathlib
import warnings
import zipfile
from typing import Any

import keras

from tfcompress.core.arguments import check_flag, check_path
from tfcompress.graph.loss_scaling import scale_loss
from tfcompress.loading import keras2, tfmot
from tfcompress.loading.embedded_code import refuse_code
from tfcompress.loading.other_files import contents, what_else
from tfcompress.loading.refusals import broken, unreadable
from tfcompress.loading.weights_files import load_weights

SUFFIXES = (".keras", ".h5", ".hdf5")
RESULTS = (".tflite", ".onnx")


def load(path: str | os.PathLike[str], unsafe: bool = False, *, model: keras.Model | None = None) -> keras.Model:
    """Load a Keras model.

    Files of Keras 2 (TensorFlow <= 2.15: `.h5`, SavedModel, `.keras`) become Keras 3 models: the
    configuration is repaired where Keras 3 reads it otherwise, tf_keras loads the file as well, and both must
    give the same outputs for the same random input, to 1e-4 of their scale. Such a model, and any `.h5`
    comes back uncompiled. `compile` scales the loss if layers are in float16, which Keras' own loading leaves out.

    Args:
        path: a `.keras`, `.h5` or `.hdf5` file, or the folder of a SavedModel that Keras 2 wrote (of TensorFlow 2.0 to
            2.4 too). Wrappers of tfmot are taken off: what it pruned keeps its masks, what it quantized in 8 bits
            comes back as `tfcompress.quantize` makes it, with its ranges.
        unsafe: whether Python code inside the file may be run: Lambda layers. Only if you trust its author.
        model: for an `.h5` file with weights alone: a built model with the layers that they are for. It keeps its own
            weights; a copy with those of the file comes back.

    Returns:
        A Keras 3 model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the suffix is another one, the file is broken, holds code, or can't become a Keras 3
            model.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "model.keras"
        >>> keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(file)
        >>> load(file).count_params()
        10
    """
    check_flag("unsafe", unsafe)
    file = pathlib.Path(check_path(path))
    suffix = file.suffix.lower()
    other = None if file.is_dir() or suffix in SUFFIXES else what_else(file)
    if other is not None and (file.exists() or suffix in RESULTS or "checkpoint" in other):
        raise ValueError(
            f"Expected a file that ends in {', '.join(SUFFIXES)}, or a SavedModel folder. Received: {str(file)!r}, "
            f"{other}"
        )
    if not file.exists():
        raise FileNotFoundError(f"Expected the file of a Keras model. Received: {str(file)!r}, which isn't there.")
    if model is not None:
        if suffix not in (".h5", ".hdf5"):
            raise ValueError(
                f"Expected an .h5 file of weights with model=. Received: {str(file)!r}. Leave model= out: the file "
                "says what the model is."
            )
        return _weights_for(file, model)
    if file.is_dir():
        return _load_saved_model(file, unsafe)
    if suffix in SUFFIXES:
        return scale_loss(_load_keras(file, unsafe) if suffix == ".keras" else _load_h5(file, unsafe))
    raise ValueError(
        f"Expected a file that ends in {', '.join(SUFFIXES)}, or a SavedModel folder. Received: {str(file)!r}"
        f"{contents(file)}."
    )


def _load_keras(file: pathlib.Path, unsafe: bool) -> keras.Model:
    try:
        with zipfile.ZipFile(file) as archive:
            config = json.loads(archive.read("config.json"))
            metadata = json.loads(archive.read("metadata.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise broken(file, error) from error
    refuse_code(config, file, unsafe)
    if tfmot.is_wrapped(config):
        return keras2.convert_wrapped(file, unsafe)
    if str(metadata.get("keras_version")).startswith("2."):
        return keras2.convert(keras2.load_with_keras2(file, unsafe), file, unsafe)
    try:
        return keras2.read(file, unsafe, compile=True)
    except keras2.Unreadable as error:
        try:
            model = keras2.read(file, unsafe, compile=False)
        except keras2.Unreadable:
            raise unreadable(file, error) from error.__cause__
        warnings.warn(
            f"{file}: the model is loaded, but its optimizer, loss or metrics can't be restored ({error}). "
            "Compile it before training.",
            stacklevel=3,
        )
        return model


def _load_h5(file: pathlib.Path, unsafe: bool) -> keras.Model:
    import h5py

    try:
        with h5py.File(file, "r") as stored:
            text = _text(stored.attrs.get("model_config"))
            version = _text(stored.attrs.get("keras_version")) or "1"
        config = json.loads(text) if text else None
    except (OSError, ValueError) as error:
        raise broken(file, error) from error
    if config is None:
        raise ValueError(
            f"Expected a whole model. Received: {str(file)!r}, which holds weights alone. "
            "Build the model in Python and take tfcompress.load(path, model=model), or call "
            "model.load_weights on this file."
        )
    refuse_code(config, file, unsafe)
    if tfmot.is_wrapped(config):
        return keras2.convert_wrapped(file, unsafe)
    if not version.startswith(("1", "2")):
        try:
            return keras2.read(file, unsafe, compile=False)
        except keras2.Unreadable as error:
            raise unreadable(file, error) from error.__cause__
    return _load_h5_of_keras2(file, unsafe)


def _weights_for(file: pathlib.Path, model: keras.Model) -> keras.Model:
    try:
        return load_weights(file, model)
    except OSError as error:
        raise broken(file, error) from error


def _load_h5_of_keras2(file: pathlib.Path, unsafe: bool) -> keras.Model:
    """Read the file with Keras 3 if that gives the same model as Keras 2 does, else by way of Keras 2."""
    model, problem = None, None
    try:
        model = keras2.read_h5(file, unsafe)
    except keras2.Unreadable as error:
        problem = error
    try:
        legacy = keras2.load_with_keras2(file, unsafe)
    except ValueError as error:
        if model is None:
            raise ValueError(f"{error} Keras 3 says: {problem}.") from error
        warnings.warn(
            f"{file}: loaded by Keras 3, but not compared with Keras 2, which can't load it ({error}). "
            "Check some predictions.",
            stacklevel=4,
        )
        return model
    if model is not None and keras2.same(model, legacy):
        return model
    return keras2.convert(legacy, file, unsafe)


def _load_saved_model(folder: pathlib.Path, unsafe: bool) -> keras.Model:
    if not (folder / "saved_model.pb").is_file():
        raise ValueError(
            f"Expected a SavedModel folder or a {', '.join(SUFFIXES)} file. Received: the folder "
            f"{str(folder)!r}, which holds no saved_model.pb{_inside(folder)}."
        )
    configs = keras2.configs_of_saved_model(folder)
    if not configs:
        raise ValueError(
            f"Expected a SavedModel that Keras 2 wrote by model.save. Received: {str(folder)!r}, which holds "
            "no keras_metadata.pb, nor Keras' metadata in saved_model.pb: only traced functions, from which no layers "
            "can be recovered, so that it can't be trained or compressed. Save the model again as .keras "
            "(model.save('model.keras')) where it was trained. As it is, tf.lite.TFLiteConverter.from_saved_model "
            "makes a .tflite of it, which tfc.evaluate and tfc.benchmark take, and keras.layers.TFSMLayer runs it "
            "inside a Keras model."
        )
    for config in configs:
        refuse_code(config, folder, unsafe)
    if tfmot.is_wrapped(configs):
        return keras2.convert_wrapped(folder, unsafe)
    return keras2.convert(keras2.load_with_keras2(folder, unsafe), folder, unsafe)


def _inside(folder: pathlib.Path) -> str:
    """Return what of a model a folder holds, at the end of a sentence."""
    found = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES or file.suffix == ".index")
    if not found:
        return ""
    return f", but {found[0]!r}" + (": a checkpoint, weights alone" if found[0].endswith(".index") else "")


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value) if value is not None else ""
