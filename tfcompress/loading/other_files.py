"""Files that are no Keras model: what they are, by their names or by their first bytes, and what to do with them."""

from __future__ import annotations

import pathlib
import re

_SAVE = "Save the model as .keras (model.save('model.keras')) where it was trained."

_JUDGE = "which is a result and can't be trained. Evaluate it with tfc.evaluate or tfc.benchmark."

_CHECKPOINT = (
    "which is part of a TensorFlow checkpoint: weights alone. Build the model in the Keras that wrote it, call "
    "model.load_weights on the checkpoint's name without .index, and save it as .h5 (model.save('model.h5')); "
    "tfc.load takes that."
)

_ARCHITECTURE = (
    "which says layers without weights. Take keras.models.model_from_json, and give the model to "
    "tfc.load(weights, model=model) with an .h5 file of its weights."
)

_SUFFIXES = {
    (".tflite", ".onnx"): _JUDGE,
    (".lite", ".tfl", ".ort"): "which is named like a file for a runtime. Results end in .tflite or .onnx.",
    (".json",): _ARCHITECTURE,
    (".yaml", ".yml"): "which holds no weights. " + _SAVE,
    (".pt", ".pth", ".safetensors", ".ckpt"): (
        "which holds the weights of another library or of a checkpoint, and no Keras layers. Build the model in "
        "Keras, set its weights, and save it as .keras."
    ),
    (".pkl", ".pickle", ".joblib"): "which is a pickle: loading it would run code. " + _SAVE,
    (".npz", ".npy"): "which holds arrays alone. Build the model, take model.set_weights, and save it as .keras.",
    (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz"): "which is an archive. Unpack it, and load what is in it.",
}

_STARTS: tuple[tuple[bytes, str, tuple[str, ...]], ...] = (
    (b"\x89HDF\r\n\x1a\n", "HDF5, as .h5 files do: give it that name", (".h5", ".hdf5")),
    (b"PK\x03\x04", "a zip archive, as .keras files are", (".keras",)),
    (b"\x1f\x8b", "a gzip archive: decompress it", ()),
    (b"version https://git-lfs", "a pointer of Git LFS in place of the model: take git lfs pull", ()),
    (b"<", "a web page in place of the model: download it again", ()),
)
"""How contents begin, what that means, and the names for which it is right."""


def what_else(file: pathlib.Path) -> str | None:
    """Return what a file is, going by its name, and what to do; `None` where nothing is known.

    Args:
        file: A path, of a file or not: a checkpoint is named without the suffixes of its files.

    >>> what_else(pathlib.Path("variables.index"))[:44]
    'which is part of a TensorFlow checkpoint: we'
    """
    name = file.name.lower()
    if re.search(r"\.index$|\.data-\d+-of-\d+$", name) or name == "checkpoint":
        return _CHECKPOINT
    if file.with_name(file.name + ".index").is_file():
        return _CHECKPOINT
    if name.endswith((".pb", ".pbtxt")):
        return _graph(file)
    if name.endswith(".weights.json"):
        return (
            "which lists the parts of weights that were saved in several files. Build the model, call "
            "model.load_weights on this file, and save the model as .keras."
        )
    for suffixes, said in _SUFFIXES.items():
        if name.endswith(suffixes):
            return said
    return None


def contents(file: pathlib.Path) -> str:
    """Return what the first bytes of a file say that it is, where its name says otherwise: "; it holds ..." or "".

    >>> contents(pathlib.Path("no such file"))
    ''
    """
    try:
        with open(file, "rb") as stored:
            first = stored.read(64)
    except OSError:
        return ""
    if not first:
        return "; it is empty"
    if first[4:8] == b"TFL3":
        return "; it holds a TFLite model"
    for start, words, suffixes in _STARTS:
        if first.lstrip().startswith(start) and not file.name.lower().endswith(suffixes):
            return f"; it holds {words}"
    return ""


def _graph(file: pathlib.Path) -> str:
    if file.name in ("saved_model.pb", "saved_model.pbtxt", "keras_metadata.pb"):
        return f"which is part of a SavedModel. Give its folder, {str(file.parent)!r}."
    return (
        "which is a graph of TensorFlow 1 or a part of a SavedModel, and holds no Keras layers: it can't be trained or "
        f"compressed. {_SAVE}"
    )
