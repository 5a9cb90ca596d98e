"""The flags that programs share: each is described once, here; a program names those that it takes."""

from __future__ import annotations

from absl import flags

_PRECISIONS = ["float32", "float16"]


def _sparsity(value: float) -> bool:
    return 0 <= value < 1


def define(*names: str) -> None:
    """Define the named flags, for the program that calls this."""
    for name in names:
        _FLAGS[name]()


def require(*names: str) -> None:
    """Refuse a command line without the named flags."""
    for name in names:
        flags.mark_flag_as_required(name)


def _define_sparsity() -> None:
    flags.DEFINE_float("sparsity", 0.8, "Share of the weights that become zero, from 0 to below 1.")
    flags.register_validator("sparsity", _sparsity, "Expected a share of zeros in [0, 1), such as 0.8 for 80 %.")


_FLAGS = {
    "model": lambda: flags.DEFINE_string("model", None, "The model: .keras, .h5, or a SavedModel folder."),
    "models": lambda: flags.DEFINE_list("models", None, "Models, separated by commas: .keras, .h5, .tflite, .onnx."),
    "data": lambda: flags.DEFINE_string(
        "data", None, "An .npz file with x_train, y_train, x_test and y_test; without it, scikit-learn's digits."
    ),
    "output": lambda: flags.DEFINE_string("output", None, "The .keras file to write."),
    "outputs": lambda: flags.DEFINE_list("outputs", None, "The files to write, separated by commas: .tflite, .onnx."),
    "output_dir": lambda: flags.DEFINE_string("output_dir", "saved_models", "The folder that the folder NAME is in."),
    "name": lambda: flags.DEFINE_string(
        "name", None, "What the result is called; by default as the model or the data."
    ),
    "overwrite": lambda: flags.DEFINE_bool("overwrite", False, "Replace files that are there."),
    "unsafe": lambda: flags.DEFINE_bool("unsafe", False, "Load a model that holds code, such as a Lambda layer."),
    "sparsity": _define_sparsity,
    "scope": lambda: flags.DEFINE_enum(
        "scope", "layer", ["layer", "global"], "Whether each layer gets that sparsity, or all together."
    ),
    "layers": lambda: flags.DEFINE_list("layers", None, "Names or regular expressions of the layers; all by default."),
    "epochs": lambda: flags.DEFINE_integer("epochs", 10, "Epochs of training.", lower_bound=1),
    "finetune_epochs": lambda: flags.DEFINE_integer(
        "finetune_epochs", 10, "Epochs in which the model is pruned while it is trained.", lower_bound=1
    ),
    "batch_size": lambda: flags.DEFINE_integer("batch_size", 32, "Samples per training step.", lower_bound=1),
    "learning_rate": lambda: flags.DEFINE_float(
        "learning_rate", 2e-3, "Adam's learning rate at the beginning.", lower_bound=0.0
    ),
    "seed": lambda: flags.DEFINE_integer("seed", 0, "Seed of everything that is random.", lower_bound=0),
    "threads": lambda: flags.DEFINE_integer("threads", 1, "Threads of one inference.", lower_bound=1),
    "precision": lambda: flags.DEFINE_enum("precision", "float32", _PRECISIONS, "How the weights are stored."),
    "export_batch_size": lambda: flags.DEFINE_integer(
        "export_batch_size",
        None,
        "Samples that the file takes at once, 0 for any number; by default 1 in TFLite and any number in ONNX.",
        lower_bound=0,
    ),
    "html": lambda: flags.DEFINE_string("html", None, "An .html report to write."),
    "json": lambda: flags.DEFINE_string("json", None, "A .json file to write the figures to."),
}
