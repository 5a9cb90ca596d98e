"""Every layer of Keras, and how it is tried: the catalogue that a test and the table of the README go through."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers as L

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
    "Bidirectional": alone(lambda: L.Bidirectional(L.LSTM(3, return_sequences=True)), SEQUENCE, steps=2),
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
