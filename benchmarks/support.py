"""What becomes of every layer of Keras: pruned, quantized to int8, shipped as TFLite and ONNX.

    python -m benchmarks.support [--layers=LSTM,GRU]

Each layer is put into a small model, pruned, quantized, exported to both formats, run there and compared with the
quantized Keras model. "yes": pruned; computed in integers. "float fallback": computed in float between integers,
with the same numbers. "-": it has no kernel, or does nothing in inference. "refused": with the reason.
`tests/test_support_matrix.py` finds the same table again. A layer that has no entry here is an error.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from absl import app, flags
from keras import layers as L

from benchmarks.harness import FOLDER, save, show

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
NAME = "support"
YES, FALLBACK, NOTHING = "yes", "float fallback", "-"
COLUMNS = ("pruning", "int8", "TFLite", "ONNX")
SAMPLES = 16
STEM, HEAD = "stem", "head"


@dataclasses.dataclass(frozen=True)
class Case:
    """How a layer is tried.

    Attributes:
        make: Makes the layer, or the function that is called with the inputs.
        shapes: Of one sample of each input.
        data: "normal"; "image": 0 to 255; an integer n: whole numbers below n.
        place: "beside" a dense layer that reads the same inputs, so that there is a kernel; "alone"; "behind" one,
            with which it is fused; "front": before one, as preprocessing is.
        steps: By how many steps of the output's grid a file may differ.
        relative: Likewise for a float output, as a part of the largest value.
    """

    make: Callable[[], Any]
    shapes: tuple[tuple[int, ...], ...]
    data: str | int = "normal"
    place: str = "beside"
    steps: float = 1.0
    relative: float = 0.02

    def model(self, end: str = "") -> keras.Model:
        """Return the model in which the layer is tried; names of the layers around it have the end given."""
        kind = "int32" if isinstance(self.data, int) else "float32"
        inputs = [keras.Input(shape, dtype=kind, name=f"input_{i}{end}") for i, shape in enumerate(self.shapes)]
        tensors: list[Any] = list(inputs)
        if self.place == "behind":
            stems = [L.Dense(shape[-1], name=f"{STEM}_{i}{end}") for i, shape in enumerate(self.shapes)]
            tensors = [stem(x) for stem, x in zip(stems, tensors, strict=True)]
        outputs = self.make()(tensors[0] if len(tensors) == 1 else tensors)
        if self.place == "front":
            outputs = L.Dense(4, name=f"{HEAD}{end}")(outputs)
        if self.place == "beside":
            outputs = [outputs, L.Dense(3, name=f"{HEAD}{end}")(inputs[0])]
        model = keras.Model(inputs, outputs, name="model")
        random = np.random.default_rng(0)
        for weight in model.trainable_variables:
            if weight.name in ("gamma", "beta", "bias", "alpha", "scale"):
                weight.assign(weight + random.uniform(0.0, 0.3, weight.shape))
        return model

    def samples(self, seed: int = 0) -> list[np.ndarray]:
        """Return data for each input."""
        random = np.random.default_rng(seed)
        shapes = [(SAMPLES, *shape) for shape in self.shapes]
        if isinstance(self.data, int):
            return [random.integers(0, self.data, shape).astype("int32") for shape in shapes]
        if self.data == "image":
            return [random.uniform(0, 255, shape).astype("float32") for shape in shapes]
        return [np.clip(random.normal(0, 1, shape), -2.5, 2.2).astype("float32") for shape in shapes]


VECTOR, SEQUENCE, IMAGE, VOLUME = ((12,),), ((8, 6),), ((8, 8, 4),), ((4, 4, 4, 3),)
PAIR = (*SEQUENCE, *SEQUENCE)
PICTURE = ((12, 12, 3),)
FRAMES = ((3, 6, 6, 2),)


def small_model() -> keras.Model:
    """Return a model that is used as a layer."""
    parts = [L.Conv2D(4, 3, activation="relu"), L.MaxPooling2D(), L.Flatten(), L.Dense(3)]
    return keras.Sequential([keras.Input(FRAMES[0][1:]), *parts])


def beside(make: Callable[[], Any], shapes: Any, **how: Any) -> Case:
    return Case(make, shapes, **how)


def behind(make: Callable[[], Any], shapes: Any, **how: Any) -> Case:
    return Case(make, shapes, place="behind", **how)


def alone(make: Callable[[], Any], shapes: Any, **how: Any) -> Case:
    return Case(make, shapes, place="alone", **how)


def front(make: Callable[[], Any], shapes: Any = PICTURE, data: str | int = "image", **how: Any) -> Case:
    return Case(make, shapes, data, "front", **how)


def activation(name: str) -> Case:
    return beside(lambda: L.Activation(name), IMAGE)


def self_attention(make: Callable[[], Any]) -> Callable[[], Any]:
    def call() -> Any:
        layer = make()
        return lambda x: layer(x, x)

    return call


POOLING: dict[str, tuple[int, ...]] = {
    "MaxPooling": (2,),
    "AveragePooling": (2,),
    "GlobalMaxPooling": (),
    "GlobalAveragePooling": (),
    "AdaptiveMaxPooling": (2,),
    "AdaptiveAveragePooling": (2,),
}
AUGMENTATION = (
    *("AugMix", "CutMix", "MixUp", "RandAugment", "RandomColorJitter", "RandomElasticTransform", "RandomErasing"),
    *("RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomInvert", "RandomPerspective", "RandomShear"),
)
AUGMENTATION_BY_FACTOR = (
    *("RandomBrightness", "RandomColorDegeneration", "RandomContrast", "RandomHue", "RandomRotation"),
    *("RandomSaturation", "RandomSharpness", "RandomZoom"),
)
STRINGS = "text has no place in a file of numbers: keep it in the tf.data pipeline before the model"
BASE = "a base class"
SPARE = "a function of Keras' RNN; see SimpleRNN, LSTM and GRU"
FOREIGN = "foreign code: it has no Keras graph to open or to export"

CASES: dict[str, Case | str] = {
    # with kernels
    "Dense": alone(lambda: L.Dense(5), VECTOR),
    "EinsumDense": alone(lambda: L.EinsumDense("abc,cde->abde", output_shape=(None, 2, 4), bias_axes="de"), SEQUENCE),
    "Conv1D": alone(lambda: L.Conv1D(4, 3), SEQUENCE),
    "Conv2D": alone(lambda: L.Conv2D(4, 3, padding="same"), IMAGE),
    "Conv3D": alone(lambda: L.Conv3D(4, 2), VOLUME),
    "Conv1DTranspose": alone(lambda: L.Conv1DTranspose(4, 3, strides=2), SEQUENCE),
    "Conv2DTranspose": alone(lambda: L.Conv2DTranspose(4, 3, strides=2), IMAGE),
    "Conv3DTranspose": alone(lambda: L.Conv3DTranspose(4, 2), VOLUME),
    "DepthwiseConv1D": alone(lambda: L.DepthwiseConv1D(3), SEQUENCE),
    "DepthwiseConv2D": alone(lambda: L.DepthwiseConv2D(3), IMAGE),
    "SeparableConv1D": alone(lambda: L.SeparableConv1D(5, 3), SEQUENCE),
    "SeparableConv2D": alone(lambda: L.SeparableConv2D(5, 3), IMAGE),
    "Embedding": alone(lambda: L.Embedding(20, 6), ((7,),), data=20),
    "ReversibleEmbedding": alone(lambda: L.ReversibleEmbedding(20, 6), ((7,),), data=20),
    "MultiHeadAttention": alone(self_attention(lambda: L.MultiHeadAttention(2, 4)), SEQUENCE, steps=6),
    "GroupedQueryAttention": alone(self_attention(lambda: L.GroupQueryAttention(4, 4, 2)), SEQUENCE, steps=6),
    "SimpleRNN": alone(lambda: L.SimpleRNN(4), SEQUENCE),
    "LSTM": alone(lambda: L.LSTM(4), SEQUENCE),
    "GRU": alone(lambda: L.GRU(4), SEQUENCE),
    "RNN": alone(lambda: L.RNN(L.LSTMCell(4)), SEQUENCE),
    "SimpleRNNCell": alone(lambda: L.RNN(L.SimpleRNNCell(4)), SEQUENCE),
    "LSTMCell": alone(lambda: L.RNN(L.LSTMCell(4), return_sequences=True), SEQUENCE),
    "GRUCell": alone(lambda: L.RNN(L.GRUCell(4)), SEQUENCE),
    "StackedRNNCells": alone(lambda: L.RNN(L.StackedRNNCells([L.GRUCell(4), L.LSTMCell(3)])), SEQUENCE),
    "ConvLSTM1D": alone(lambda: L.ConvLSTM1D(2, 3), ((3, 8, 2),)),
    "ConvLSTM2D": alone(lambda: L.ConvLSTM2D(2, 3), FRAMES),
    "ConvLSTM3D": alone(lambda: L.ConvLSTM3D(2, 2), ((2, 4, 4, 4, 2),)),
    "Bidirectional": alone(lambda: L.Bidirectional(L.LSTM(3, return_sequences=True)), SEQUENCE),
    "TimeDistributed": alone(lambda: L.TimeDistributed(L.Conv2D(2, 3)), FRAMES),
    "TimeDistributed Dense": alone(lambda: L.TimeDistributed(L.Dense(4)), SEQUENCE),
    "TimeDistributed LSTM": alone(lambda: L.TimeDistributed(L.LSTM(3)), ((2, 4, 6),)),
    "TimeDistributed model": alone(lambda: L.TimeDistributed(small_model()), FRAMES),
    "SpectralNormalization": beside(lambda: L.SpectralNormalization(L.Conv2D(4, 3)), IMAGE),
    # activations
    **{f"Activation {name}": activation(name) for name in ("relu", "relu6", "sigmoid", "tanh", "softmax", "silu")},
    **{f"Activation {name}": activation(name) for name in ("hard_sigmoid", "hard_silu", "leaky_relu", "gelu", "elu")},
    **{f"Activation {name}": activation(name) for name in ("selu", "softplus", "softsign", "mish", "exponential")},
    "ReLU": behind(L.ReLU, IMAGE),
    "LeakyReLU": beside(L.LeakyReLU, IMAGE),
    "PReLU": beside(lambda: L.PReLU(shared_axes=[1, 2]), IMAGE),
    "ELU": beside(L.ELU, IMAGE),
    "Softmax": beside(L.Softmax, IMAGE),
    # normalization
    "BatchNormalization": behind(L.BatchNormalization, IMAGE),
    "LayerNormalization": beside(L.LayerNormalization, IMAGE),
    "RMSNormalization": beside(L.RMSNormalization, IMAGE),
    "GroupNormalization": beside(lambda: L.GroupNormalization(2), IMAGE),
    "UnitNormalization": beside(L.UnitNormalization, IMAGE),
    # arithmetic
    **{
        name: beside(lambda name=name: getattr(L, name)(), PAIR)
        for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
    },
    "Dot": beside(lambda: L.Dot(axes=(2, 2)), PAIR),
    "Attention": beside(L.Attention, PAIR),
    "AdditiveAttention": beside(L.AdditiveAttention, PAIR),
    # pooling and moving
    **{
        f"{kind}{rank}": beside(lambda kind=kind, rank=rank, size=size: getattr(L, f"{kind}{rank}")(*size), shapes)
        for kind, size in POOLING.items()
        for rank, shapes in (("1D", SEQUENCE), ("2D", IMAGE), ("3D", VOLUME))
    },
    "Flatten": beside(L.Flatten, IMAGE),
    "Reshape": beside(lambda: L.Reshape((4, 12)), SEQUENCE),
    "Permute": beside(lambda: L.Permute((2, 1)), SEQUENCE),
    "RepeatVector": beside(lambda: L.RepeatVector(3), VECTOR),
    "ZeroPadding1D": beside(lambda: L.ZeroPadding1D(1), SEQUENCE),
    "ZeroPadding2D": beside(lambda: L.ZeroPadding2D(1), IMAGE),
    "ZeroPadding3D": beside(lambda: L.ZeroPadding3D(1), VOLUME),
    "Cropping1D": beside(lambda: L.Cropping1D(1), SEQUENCE),
    "Cropping2D": beside(lambda: L.Cropping2D(1), IMAGE),
    "Cropping3D": beside(lambda: L.Cropping3D(1), VOLUME),
    "UpSampling1D": beside(lambda: L.UpSampling1D(2), SEQUENCE),
    "UpSampling2D": beside(lambda: L.UpSampling2D(2), IMAGE),
    "UpSampling2D bilinear": beside(lambda: L.UpSampling2D(2, interpolation="bilinear"), IMAGE),
    "UpSampling3D": beside(lambda: L.UpSampling3D(2), VOLUME),
    "Identity": beside(L.Identity, IMAGE),
    "Masking": beside(L.Masking, SEQUENCE),
    "Lambda": beside(lambda: L.Lambda(lambda x: x * x), SEQUENCE),
    # in training only
    **{
        name: beside(lambda name=name: getattr(L, name)(0.2), IMAGE)
        for name in ("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise", "SpatialDropout2D")
    },
    "SpatialDropout1D": beside(lambda: L.SpatialDropout1D(0.2), SEQUENCE),
    "SpatialDropout3D": beside(lambda: L.SpatialDropout3D(0.2), VOLUME),
    "ActivityRegularization": beside(lambda: L.ActivityRegularization(1e-3), IMAGE),
    # augmentation: does nothing in inference
    **{name: front(lambda name=name: getattr(L, name)()) for name in AUGMENTATION},
    **{name: front(lambda name=name: getattr(L, name)(0.2)) for name in AUGMENTATION_BY_FACTOR},
    "RandomPosterization": front(lambda: L.RandomPosterization(4)),
    "RandomTranslation": front(lambda: L.RandomTranslation(0.1, 0.1)),
    "RandomCrop": front(lambda: L.RandomCrop(8, 8)),
    "Pipeline": front(lambda: L.Pipeline([L.RandomFlip(), L.Rescaling(1 / 255)])),
    "MaxNumBoundingBoxes": "bounding boxes: it goes with a data set, not into a model",
    # preprocessing of numbers
    "Rescaling": front(lambda: L.Rescaling(1 / 127.5, -1.0)),
    "Normalization": front(lambda: L.Normalization(mean=[100.0, 120, 140], variance=[900.0, 1000, 1100])),
    "Resizing": front(lambda: L.Resizing(8, 8)),
    "CenterCrop": front(lambda: L.CenterCrop(8, 8)),
    "AutoContrast": front(L.AutoContrast),
    "Equalization": front(L.Equalization),
    "ContrastLimitedAdaptiveHistogramEqualization": front(
        lambda: L.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(2, 2))
    ),
    "Solarization": front(lambda: L.Solarization(0.1, 0.2)),
    "Discretization": front(lambda: L.Discretization([-1.0, 0.0, 1.0], output_mode="one_hot"), ((1,),), "normal"),
    "CategoryEncoding": front(lambda: L.CategoryEncoding(5), ((4,),), 5),
    "Hashing": front(lambda: L.Hashing(5, output_mode="one_hot"), ((1,),), 50),
    "HashedCrossing": front(lambda: L.HashedCrossing(5, output_mode="one_hot"), ((1,), (1,)), 50),
    "IntegerLookup": front(lambda: L.IntegerLookup(vocabulary=[1, 2, 3], output_mode="one_hot"), ((1,),), 5),
    "STFTSpectrogram": front(lambda: L.STFTSpectrogram(frame_length=16), ((64, 1),), "normal"),
    "MelSpectrogram": front(lambda: L.MelSpectrogram(16, 8, sampling_rate=100, num_mel_bins=4), ((64,),), "normal"),
    "StringLookup": STRINGS,
    "TextVectorization": STRINGS,
    # what is no layer to be tried
    "Layer": BASE,
    "Wrapper": BASE,
    "InputLayer": "every model here begins with it",
    "TFSMLayer": FOREIGN,
    "JaxLayer": FOREIGN,
    "FlaxLayer": FOREIGN,
    "TorchModuleWrapper": FOREIGN,
}
"""How each layer is tried; a string says why it isn't."""


def classes() -> set[str]:
    """Return the names of all layers of the Keras that is installed; aliases count once."""
    found = {value for value in vars(L).values() if inspect.isclass(value) and issubclass(value, L.Layer)}
    return {cls.__name__ for cls in found}


def known() -> dict[str, Case | str]:
    """Return the cases whose class the installed Keras has."""
    have = classes()
    return {name: case for name, case in CASES.items() if name.split()[0] in have}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a layer.

    Attributes:
        row: {column: verdict}.
        problems: Files that differ from Keras by more than they may, in words.
    """

    row: dict[str, str]
    problems: tuple[str, ...]


def examine(name: str) -> Verdict:
    """Prune, quantize and export the model of a layer."""
    from tfcompress.quantization import quantize

    case = CASES[name]
    if isinstance(case, str):
        return Verdict({"layer": name, **dict.fromkeys(COLUMNS, NOTHING), "note": case}, ())
    row, problems = {"layer": name, **dict.fromkeys(COLUMNS, NOTHING), "note": ""}, []
    try:
        model = case.model()
    except Exception as error:
        return Verdict(
            {**row, **dict.fromkeys(COLUMNS, "refused"), "note": f"no functional model: {reason(error)}"}, ()
        )
    data = case.samples()
    row["pruning"] = pruning(model)
    notes = []
    try:
        quantized = quantize(model, "int8", data)
    except Exception as error:
        row["int8"], quantized = "refused", model
        notes.append(reason(error))
    else:
        fallbacks = floats_in_keras(model)
        row["int8"] = FALLBACK if fallbacks else YES
        notes += fallbacks
    expected = expected_outputs(quantized, case.samples(1))
    for column, suffix, floats_of in (("TFLite", ".tflite", floats_in_tflite), ("ONNX", ".onnx", floats_in_onnx)):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / f"model{suffix}"
            row[column], problem, note = shipped(case, quantized, expected, path, floats_of)
        problems += [f"{column}: {problem}"] if problem else []
        notes += [note] if note else []
    row["note"] = "; ".join(dict.fromkeys(notes))
    return Verdict(row, tuple(problems))


def examine_together(names: Sequence[str]) -> dict[str, list[str]]:
    """Prune layers, and quantize and export one model in which they stand side by side; each is to be all integer.

    Returns:
        {layer or file: what is wrong with it}.
    """
    from tfcompress.export import export
    from tfcompress.quantization import quantize
    from tfcompress.runtime.runner import open_runner

    cases = [CASES[name] for name in names]
    assert all(isinstance(case, Case) for case in cases)
    parts = [case.model(f"_of_{i}") for i, case in enumerate(cases)]
    model = keras.Model([x for part in parts for x in part.inputs], [y for part in parts for y in part.outputs])
    rows = committed()
    wrong: dict[str, list[str]] = {}
    for name, part in zip(names, parts, strict=True):
        if pruning(part) != rows[name]["pruning"]:
            wrong[name] = [f"pruning isn't {rows[name]['pruning']!r}"]
    owners = [(name, case) for name, case, part in zip(names, cases, parts, strict=True) for _ in part.outputs]
    quantized = quantize(model, "int8", [x for case in cases for x in case.samples()])
    new = [x for case in cases for x in case.samples(1)]
    expected = expected_outputs(quantized, new)
    wrong |= {"Keras": found} if (found := floats_in_keras(model)) else {}
    for suffix, floats_of in ((".tflite", floats_in_tflite), (".onnx", floats_in_onnx)):
        with tempfile.TemporaryDirectory() as folder:
            path = export(quantized, pathlib.Path(folder) / f"model{suffix}", verify=False).path
            values = list(open_runner(path).predict(new).values())
            floats = [name for name in dict.fromkeys(floats_of(path)) if name not in MOVES]
        wrong |= {suffix: floats} if floats else {}
        for (name, case), value, (reference, step) in zip(owners, values, expected, strict=True):
            if problem := difference(case, value, reference, step):
                wrong.setdefault(name, []).append(f"{suffix} {problem}")
    return wrong


def integer_throughout(row: dict[str, str]) -> bool:
    """Return whether nothing of a layer is float, or refused."""
    return all(row[column] in (YES, NOTHING) for column in ("int8", "TFLite", "ONNX"))


def pruning(model: keras.Model) -> str:
    """Return whether the layer is pruned; the dense layers around it aren't meant."""
    from tfcompress.core.transform import read
    from tfcompress.pruning import prune_once

    ours = {layer.name for layer in around(model)}
    if not any(layer.trainable_variables for layer in model.layers if layer.name not in ours):
        return NOTHING
    pruned = [layer for layer in prune_once(model, 0.5).layers if layer.name not in ours]
    zeros = [np.mean(read(weight) == 0) for layer in pruned for weight in layer.trainable_variables]
    return YES if any(0.3 < share < 0.7 for share in zeros) else NOTHING


def around(model: keras.Model) -> list[Any]:
    return [layer for layer in model.layers if layer.name.startswith((HEAD, f"{STEM}_"))]


def floats_in_keras(model: keras.Model) -> list[str]:
    """Return what quantization leaves in float, in words."""
    from tfcompress.graph import rebuild
    from tfcompress.graph.index import index_of
    from tfcompress.quantization.graph.decompose import lower
    from tfcompress.quantization.graph.op_policies import FLOAT
    from tfcompress.quantization.graph.placement import place
    from tfcompress.quantization.quantize_config import QuantizeConfig

    graph = index_of(lower(rebuild(model, check=False)))
    placement = place(graph, dict.fromkeys(graph, QuantizeConfig.get("int8")))
    found = [
        rule.note.removeprefix("float fallback: ") or "no integer kernel"
        for call, rule in placement.rules.items()
        if rule.kind == FLOAT
    ]
    return list(dict.fromkeys(found))


def expected_outputs(model: keras.Model, data: list[np.ndarray]) -> list[tuple[np.ndarray, float | None]]:
    """Return each output of the Keras model on data, and the step of the grid on which it lies."""
    from tfcompress.export.plan.deployment import deploy
    from tfcompress.quantization.quantize import is_quantized

    outputs = [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(model(data, training=False))]
    steps = deploy(model, "tflite").steps.values() if is_quantized(model) else [None] * len(outputs)
    return list(zip(outputs, steps, strict=True))


def shipped(
    case: Case,
    model: keras.Model,
    expected: list[tuple[np.ndarray, float | None]],
    path: pathlib.Path,
    floats_of: Callable[[pathlib.Path], list[str]],
) -> tuple[str, str, str]:
    """Return (verdict, how it differs from Keras by too much, what to note)."""
    from tfcompress.export import export
    from tfcompress.runtime.runner import open_runner

    kind = path.suffix[1:]
    try:
        export(model, path, verify=False)
        received = open_runner(path).predict(case.samples(1))
    except Exception as error:
        return "refused", "", f"{kind}: {reason(error)}"
    values = list(received.values()) if isinstance(received, dict) else [received]
    pairs = zip(values, expected, strict=True)
    problem = ", ".join(filter(None, (difference(case, value, *reference) for value, reference in pairs)))
    floats = [name for name in dict.fromkeys(floats_of(path)) if name not in MOVES]
    note = f"{kind} in float: {', '.join(floats)}" if floats else ""
    return (FALLBACK if floats else YES), problem, note


def difference(case: Case, value: Any, reference: np.ndarray, step: float | None) -> str:
    """Return by how much more than it may an output differs, in words, or nothing."""
    off, largest = np.abs(np.asarray(value, "float64") - reference).max(), np.abs(reference).max()
    if off <= (case.steps * 1.01 * step if step else case.relative * largest):
        return ""
    return f"differs by {off / step:.1f} steps" if step else f"differs by {off:.3g} of {largest:.3g}"


MOVES = (
    *("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "GATHER", "SLICE", "STRIDED_SLICE"),
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Gather", "Slice", "Expand", "Cast"),
)
"""What computes nothing; at a model's end it may be done with floats."""


def floats_in_tflite(path: pathlib.Path) -> list[str]:
    """Return the operators of a file that give floats, but for what turns integers into floats."""
    from tfcompress.export.tflite.flatbuffer import operators

    return [op.name for op in operators(path.read_bytes()) if "FLOAT32" in op.outputs and op.name != "DEQUANTIZE"]


NOT_FLOAT = (
    *("QuantizeLinear", "Shape", "ArgMax", "ArgMin", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"),
    *("Not", "And", "Or"),
)
"""What never gives floats."""


def floats_in_onnx(path: pathlib.Path) -> list[str]:
    """Return likewise the operators that ONNX Runtime runs, after its own optimizations."""
    graph = optimized(path)
    floats = {x.name for x in graph.input if x.type.tensor_type.elem_type == 1}
    floats |= {x.name for x in graph.initializer if x.data_type == 1}
    found = []
    for node in graph.node:
        gives = any(x in floats for x in node.input)
        if node.op_type == "Resize":
            gives = node.input[0] in floats  # its factors are floats, too
        elif node.op_type in NOT_FLOAT or node.op_type.startswith("QLinear"):
            gives = False  # the scales that they take are floats
        elif node.op_type == "QGemm":
            gives = len(node.input) < 8 or not node.input[7]
        elif node.op_type == "Cast":
            gives = node.attribute[0].i == 1
        elif node.op_type == "DequantizeLinear":
            gives = True
        elif node.op_type == "Constant":
            gives = any(a.t.data_type == 1 for a in node.attribute)
        if gives:
            floats.update(node.output)
            if node.op_type not in ("DequantizeLinear", "Constant"):
                found.append(node.op_type)
    return found


def optimized(path: pathlib.Path) -> Any:
    """Return the graph that ONNX Runtime makes of a file's."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath).graph


def reason(error: Exception) -> str:
    """Return the beginning of a message, without what colours it in a terminal."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())[:200]


def committed() -> dict[str, dict[str, str]]:
    """Return the rows that are kept, by layer."""
    return {row["layer"]: row for row in json.loads((FOLDER / f"{NAME}.json").read_text())["rows"]}


FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    """Examine all layers, or those that are named, and write the table."""
    rows = committed() if FLAGS.layers and (FOLDER / f"{NAME}.json").exists() else {}
    for name in known():
        if not FLAGS.layers or any(part in name for part in FLAGS.layers):
            verdict = examine(name)
            rows[name] = verdict.row
            print(*verdict.row.values(), *verdict.problems, sep=" | ", flush=True)
    ordered = [rows[name] for name in CASES if name in rows]
    save(NAME, ordered, command="python -m benchmarks.support")
    show("Layers", ordered)


if __name__ == "__main__":
    flags.DEFINE_list("layers", [], "Layers to examine, by a part of their name; all, if none is given.")
    app.run(main)
