"""The flags that programs share: each is described once, here; a program names those that it takes."""

from __future__ import annotations

import math
import os

from absl import flags

from tfcompress.core.arguments import MOST, MOST_THREADS
from tfcompress.pipeline.distribution import MOST_DEVICES

_PRECISIONS = ["float32", "float16"]
_POLICIES = ["float32", "mixed_float16", "mixed_bfloat16", "auto"]
_RECIPES = ["int8", "int8_per_tensor", "int8_weights", "dynamic_int8", "int16x8", "float16"]
_SCOPES = ["layer", "global", "flops", "bytes"]
_CRITERIA = ["magnitude", "l2", "threshold", "gradient", "movement", "activation_frequency", "bn_scale", "random"]
_RANGES = ["minmax", "percentile", "mse", "entropy", "ema"]
_IO = ["float32", "int8", "uint8"]
_OPSETS = ["18", "19", "20", "21"]
_EPOCHS, _SAMPLES, _AT_ONCE, _PROCESSES = 1_000_000, MOST, 1 << 20, 10_000


def _sparsity(value: float) -> bool:
    return 0 <= value < 1


def define(*names: str) -> None:
    """Define the named flags, for the program that calls this."""
    for name in names:
        before = set(flags.FLAGS)
        _FLAGS[name]()
        for made in set(flags.FLAGS) - before:
            _check_value(made)


def _check_value(name: str) -> None:
    """Refuse what no flag of its type may be: a list or text with nothing in it, a number that is none."""
    flag = flags.FLAGS[name]
    if flag.flag_type() == "comma separated list of strings":

        def full(values: list[str] | None) -> bool:
            same = os.path.realpath if name in ("models", "outputs") else str
            try:
                return values is None or (bool(values) and all(values) and len(set(map(same, values))) == len(values))
            except ValueError:  # a null character
                return False

        flags.register_validator(name, full, f"Expected --{name} with entries between commas, each once.")
    elif flag.flag_type() == "string":
        flags.register_validator(name, lambda value: value != "", f"Expected --{name} with a value. Received: none.")
    elif flag.flag_type() == "float":
        finite = f"Expected --{name} to be a number. Received: one that is not finite."
        flags.register_validator(name, lambda value: value is None or math.isfinite(value), finite)


def require(*names: str) -> None:
    """Refuse a command line without the named flags."""
    for name in names:
        flags.mark_flag_as_required(name)


def default(name: str, value: object) -> None:
    """Give a flag that is defined another default, for the program that calls this."""
    flags.FLAGS.set_default(name, value)


def _define_name() -> None:
    flags.DEFINE_string("name", None, "What the result is called; by default as the model or the data.")

    def of_a_folder(value: str | None) -> bool:
        return value is None or (os.path.basename(value) == value and value not in (".", "..") and "\0" not in value)

    flags.register_validator("name", of_a_folder, "Expected a name for --name. Received: a path; see --output_dir.")


def _define_learning_rate() -> None:
    text = "Adam's learning rate at the beginning."
    flags.DEFINE_float("learning_rate", 2e-3, text, lower_bound=0.0, upper_bound=100.0)
    flags.register_validator("learning_rate", lambda value: value > 0, "Expected --learning_rate above 0.")


def _define_sparsity() -> None:
    flags.DEFINE_float("sparsity", 0.8, "Share of the weights that become zero, from 0 to below 1.")
    flags.register_validator("sparsity", _sparsity, "Expected a share of zeros in [0, 1), such as 0.8 for 80 %.")


def _sparsities(values: list[str] | None) -> bool:
    try:
        return all(_sparsity(float(value)) for value in values or ())
    except ValueError:
        return False


def _define_sweep() -> None:
    flags.DEFINE_list(
        "sweep",
        None,
        "Instead of one --sparsity several, separated by commas: the model is trained to each and evaluated on "
        "training and test data. --output is then a .json file, and beside it goes a picture, .png.",
    )
    flags.register_validator("sweep", _sparsities, "Expected shares of zeros in [0, 1), such as 0.5,0.8,0.9.")


def _define_freezing(what: str, unit: str) -> None:
    names = {"ranges": "the ranges of activations", "batch_norm": "the statistics of batch normalization"}
    text = f"The {unit} of training, from 0, from which {names[what]} stay as they are; by default never."
    most = _EPOCHS if unit == "epoch" else _SAMPLES
    flags.DEFINE_integer(f"freeze_{what}_{unit}", None, text, lower_bound=0, upper_bound=most)


_FLAGS = {
    "model": lambda: flags.DEFINE_string("model", None, "The model: .keras, .h5, or a SavedModel folder."),
    "models": lambda: flags.DEFINE_list("models", None, "Models, separated by commas: .keras, .h5, .tflite, .onnx."),
    "data": lambda: flags.DEFINE_string(
        "data", None, "An .npz file with x_train, y_train, x_test and y_test; without it, scikit-learn's digits."
    ),
    "output": lambda: flags.DEFINE_string("output", None, "The .keras file to write."),
    "outputs": lambda: flags.DEFINE_list("outputs", None, "The files to write, separated by commas: .tflite, .onnx."),
    "output_dir": lambda: flags.DEFINE_string("output_dir", "saved_models", "The folder that the folder NAME is in."),
    "name": _define_name,
    "overwrite": lambda: flags.DEFINE_bool("overwrite", False, "Replace files that are there."),
    "unsafe": lambda: flags.DEFINE_bool("unsafe", False, "Load a model that holds code, such as a Lambda layer."),
    "sparsity": _define_sparsity,
    "sweep": _define_sweep,
    "scope": lambda: flags.DEFINE_enum(
        "scope",
        "layer",
        _SCOPES,
        "What reaches the sparsity: each layer, all together, or the model's multiplications or bytes.",
    ),
    "criterion": lambda: flags.DEFINE_enum(
        "criterion",
        "magnitude",
        _CRITERIA,
        "What makes a weight important: its size, |w * gradient|, its movement, how often its unit fires, the scale "
        "behind its channel; or at random.",
    ),
    "granularity": lambda: flags.DEFINE_string(
        "granularity",
        "element",
        "What is pruned at once: element, 16x1 (blocks of inputs x outputs), 2:4 (two of four are kept), channel or "
        "attention_head (these are taken out of the model: --shrink).",
    ),
    "threshold": lambda: flags.DEFINE_float(
        "threshold",
        None,
        "With --criterion=threshold: smaller weights are pruned, but no more than --sparsity.",
        lower_bound=0.0,
        upper_bound=float(2**127),
    ),
    "shrink": lambda: flags.DEFINE_bool("shrink", True, "Take pruned channels and heads out of the model."),
    "layers": lambda: flags.DEFINE_list("layers", None, "Names or regular expressions of the layers; all by default."),
    "epochs": lambda: flags.DEFINE_integer("epochs", 10, "Epochs of training.", lower_bound=1, upper_bound=_EPOCHS),
    "finetune_epochs": lambda: flags.DEFINE_integer(
        "finetune_epochs",
        10,
        "Epochs in which the model is pruned while it is trained.",
        lower_bound=1,
        upper_bound=_EPOCHS,
    ),
    "batch_size": lambda: flags.DEFINE_integer(
        "batch_size", 32, "Samples per training step.", lower_bound=1, upper_bound=_SAMPLES
    ),
    "learning_rate": _define_learning_rate,
    "seed": lambda: flags.DEFINE_integer(
        "seed", 0, "Seed of everything that is random.", lower_bound=0, upper_bound=2**32 - 1
    ),
    "threads": lambda: flags.DEFINE_integer(
        "threads", 1, "Threads of one inference.", lower_bound=1, upper_bound=MOST_THREADS
    ),
    "precision": lambda: flags.DEFINE_enum("precision", "float32", _PRECISIONS, "How the weights are stored."),
    "export_batch_size": lambda: flags.DEFINE_integer(
        "export_batch_size",
        None,
        "Samples that the file takes at once, 0 for any number; by default 1 in TFLite and any number in ONNX.",
        lower_bound=0,
        upper_bound=_AT_ONCE,
    ),
    "training_precision": lambda: flags.DEFINE_enum(
        "precision",
        "float32",
        _POLICIES,
        "What the model computes in while it is trained; 'auto': what is fast on this machine. It is saved in float32.",
    ),
    "opset": lambda: flags.DEFINE_enum("opset", "18", _OPSETS, "Of the ONNX standard; TFLite has none."),
    "external_data": lambda: flags.DEFINE_bool(
        "external_data",
        None,
        "Put the weights of .onnx files in a second file beside each, <name>.onnx.data; by default only where they are "
        "more than one file holds, 2 GB.",
    ),
    "require_integer": lambda: flags.DEFINE_bool(
        "require_integer", False, "Refuse files in which any operator computes in float, and say which and why."
    ),
    "stateful": lambda: flags.DEFINE_enum(
        "stateful",
        None,
        ["io"],
        "How states that inference changes are exported, as of a streaming model: 'io' makes them inputs and outputs "
        "of the files; by default such models are refused.",
    ),
    "random": lambda: flags.DEFINE_enum(
        "random",
        None,
        ["inputs"],
        "How random numbers that inference draws are exported, as a VAE does: 'inputs' makes them inputs of the files; "
        "by default such models are refused.",
    ),
    "sparse": lambda: flags.DEFINE_bool(
        "sparse", False, "Leave the zeros out of .tflite files, where their runtime reads that (.onnx files store all)."
    ),
    "inference_io": lambda: flags.DEFINE_enum(
        "inference_io",
        "float32",
        _IO,
        "What the files take and give; integers are for models with activations in 8 bits, as int8 has.",
    ),
    "recipe": lambda: flags.DEFINE_enum(
        "recipe",
        "int8",
        _RECIPES,
        "What becomes integers: weights and activations (int8; int8_per_tensor: one scale for a kernel; int16x8: "
        "activations in 16 bits; dynamic_int8: activations at run time), or weights alone (int8_weights, float16).",
    ),
    "calibration_samples": lambda: flags.DEFINE_integer(
        "calibration_samples",
        512,
        "Samples drawn from x_train to find the ranges of activations.",
        lower_bound=1,
        upper_bound=_SAMPLES,
    ),
    "range": lambda: flags.DEFINE_enum(
        "range", None, _RANGES, "How the ranges of activations are found; by default as the recipe does."
    ),
    "qat_epochs": lambda: flags.DEFINE_integer(
        "qat_epochs",
        0,
        "Epochs in which the quantized model is trained; 0: it is calibrated only.",
        lower_bound=0,
        upper_bound=_EPOCHS,
    ),
    "freeze_ranges_epoch": lambda: _define_freezing("ranges", "epoch"),
    "freeze_ranges_step": lambda: _define_freezing("ranges", "step"),
    "freeze_batch_norm_epoch": lambda: _define_freezing("batch_norm", "epoch"),
    "freeze_batch_norm_step": lambda: _define_freezing("batch_norm", "step"),
    "equalize": lambda: flags.DEFINE_bool("equalize", False, "First equalize the channels of neighbouring kernels."),
    "correct_bias": lambda: flags.DEFINE_bool("correct_bias", False, "Correct biases for what quantization shifts."),
    "reestimate_batch_norm": lambda: flags.DEFINE_bool(
        "reestimate_batch_norm", False, "Compute the statistics of batch normalization anew, under quantized weights."
    ),
    "preserve_sparsity": lambda: flags.DEFINE_bool(
        "preserve_sparsity", True, "Zeros of a pruned model stay zero while it is trained quantized."
    ),
    "distribution": lambda: flags.DEFINE_enum(
        "distribution",
        "none",
        ["none", "mirrored", "data_parallel", "model_parallel", "multi_worker_mirrored"],
        "What it is trained on: one device; all of this machine (mirrored; with KERAS_BACKEND=jax: data_parallel, or "
        "model_parallel, which divides the weights too), or those of several machines (see --num_processes). "
        "multi_worker_mirrored is refused: Keras 3 can't train so.",
    ),
    "devices": lambda: flags.DEFINE_integer(
        "devices",
        None,
        "With --distribution: devices of each machine; by default all its GPUs or TPUs, or one CPU. Where there are "
        "none of these, as many virtual CPUs are made.",
        lower_bound=1,
        upper_bound=MOST_DEVICES,
    ),
    "model_devices": lambda: flags.DEFINE_integer(
        "model_devices",
        None,
        "With --distribution=model_parallel: devices that share one copy of the model; by default all.",
        lower_bound=1,
        upper_bound=_PROCESSES * MOST_DEVICES,
    ),
    "job_addresses": lambda: flags.DEFINE_string(
        "job_addresses", None, "With several processes: HOST:PORT of process 0, as of keras.distribution.initialize."
    ),
    "num_processes": lambda: flags.DEFINE_integer(
        "num_processes",
        None,
        "Processes, usually one for each machine, that train one model.",
        lower_bound=1,
        upper_bound=_PROCESSES,
    ),
    "process_id": lambda: flags.DEFINE_integer(
        "process_id",
        None,
        "The number of this process, from 0; process 0 alone writes files.",
        lower_bound=0,
        upper_bound=_PROCESSES - 1,
    ),
    "html": lambda: flags.DEFINE_string("html", None, "An .html report to write."),
    "json": lambda: flags.DEFINE_string("json", None, "A .json file to write the figures to."),
}
