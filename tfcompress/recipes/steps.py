"""The steps of a recipe: what each does, and what it is given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from tfcompress import targets
from tfcompress.clustering import ClusterConfig
from tfcompress.core.arguments import check_choice, check_count, check_flag, check_number, short
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.pruning import PruneConfig
from tfcompress.quantization.ptq.rounding_methods import METHODS, Rounding, rounding_of
from tfcompress.quantization.quantize_config import QuantizeConfig
from tfcompress.recipes.config_file import configs_of
from tfcompress.recipes.written_configs import read_cluster, read_prune, read_quantize

_SUFFIXES = (".keras", ".tflite", ".onnx")
_SUFFIXES_WITH = {
    **dict.fromkeys(("precision", "inference_io", "target", "weights"), (".tflite", ".onnx")),
    **dict.fromkeys(("opset",), (".onnx",)),
    **dict.fromkeys(("sparse", "prefer"), (".tflite",)),
}
_SOME_STEPS = 100


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="step"):
    """Something that is done to a model, or with it."""

    @classmethod
    def called(cls) -> str:
        """Return the step's name in a file."""
        return str(cls.__struct_config__.tag)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: the name, and what differs from the defaults."""
        found: dict[str, Any] = json.loads(msgspec.json.encode(self))
        return found

    def _set(self, name: str, value: Any) -> None:
        msgspec.structs.force_setattr(self, name, value)


class Load(Step, frozen=True, tag="load"):
    """The model that the recipe begins with; without this step, and without a path, it is the one that is given.

    Attributes:
        model: Path of what `tfcompress.load` takes.
        unsafe: Whether code in it may run, as that of a Lambda layer.
    """

    model: str | None = None
    unsafe: bool = False


class Equalize(Step, frozen=True, tag="equalize"):
    """Like ranges for the channels of neighbouring kernels; the outputs stay (`quantization.ptq.equalization`)."""


class Transform(Step, frozen=True):
    """What changes layers, as one config says for all, or one for each.

    Attributes:
        config: Of all layers alike: in short, such as 0.8, or fields by name, as a file of `--config` has it.
        by_layer: In place of that: {name or regular expression of layers: config or null}, of which the first that
            matches a layer counts, as a file of `--config` has it; layers that none matches are left alone.
        layers: A name or regular expression of the layers that are looked at, or several; `None`: all.
    """

    config: Any = None
    by_layer: Mapping[str, Any] | None = None
    layers: str | tuple[str, ...] | None = None

    default: ClassVar[Any] = None
    """What is taken where neither `config` nor `by_layer` is given."""

    def __post_init__(self) -> None:
        if isinstance(self.config, LayerConfigs):
            self._set("by_layer", self.config)
            self._set("config", None)
        if isinstance(self.by_layer, LayerConfigs):
            self._set("by_layer", self.by_layer.to_dict())
        if hasattr(self.config, "to_dict"):
            self._set("config", self.config.to_dict())
        if isinstance(self.layers, list):
            self._set("layers", tuple(self.layers))
        names = (self.layers,) if isinstance(self.layers, str) else self.layers
        if names is not None and not (isinstance(names, tuple) and all(isinstance(name, str) for name in names)):
            raise TypeError(
                f"Expected layers to be names or regular expressions, which a file can hold. Received: {short(names)}."
            )
        if self.config is not None and self.by_layer is not None:
            raise ValueError("Expected one of `config` and `by_layer`. Received: both.")
        if self.config is None and self.by_layer is None:
            if self.default is None:
                raise ValueError("Expected `config`, or `by_layer`. Received: neither.")
            self._set("config", self.default)
        self.read(_SOME_STEPS)

    def read(self, steps: int) -> Any:
        """Return the config, or the `LayerConfigs`, as the verb takes it.

        Args:
            steps: Of the training that follows.

        Raises:
            ValueError: If it is none; the message names the key and the field.
        """
        if self.by_layer is not None:
            return configs_of(self.by_layer, lambda value: self._one(value, steps))
        return self._one(self.config, steps)

    def configs(self) -> list[Any]:
        """Return the config of all layers, or those of each."""
        made = self.read(_SOME_STEPS)
        found = made.configs.values() if isinstance(made, LayerConfigs) else [made]
        return [one for one in found if one is not None]

    def _one(self, value: Any, steps: int) -> Any:
        raise NotImplementedError


class Prune(Transform, frozen=True, tag="prune"):
    """Masks over weights, as `tfcompress.prune` makes them: while the model is trained next, or at once.

    Attributes:
        config: A sparsity such as 0.8, or fields: {"sparsity": 0.5, "granularity": "2:4"}. With "sparsity" it rises
            over three quarters of the training behind this step; without one it is reached at once.
    """

    def read(self, steps: int) -> PruneConfig | LayerConfigs:
        """Return what `tfcompress.prune` takes."""
        made: PruneConfig | LayerConfigs = super().read(steps)
        return made

    def _one(self, value: Any, steps: int) -> PruneConfig:
        return read_prune(value.to_dict() if isinstance(value, PruneConfig) else value, steps)


class Cluster(Transform, frozen=True, tag="cluster"):
    """Few values for the weights of each kernel, as `tfcompress.cluster` makes them.

    Attributes:
        config: A number of values such as 16, or fields: {"number_of_clusters": 16, "init": "linear"}.
    """

    def _one(self, value: Any, steps: int) -> ClusterConfig:
        return value if isinstance(value, ClusterConfig) else read_cluster(value)


class Quantize(Transform, frozen=True, tag="quantize"):
    """Integers, as `tfcompress.quantize` makes them; zeros of a pruned model stay zeros.

    Attributes:
        config: The name of a recipe such as "int8", or fields that differ from those of one: {"weights": {"bits": 4}}.
        calibration_samples: Drawn from the training data to find the ranges of activations.
        correct_bias: Whether to correct biases for what quantization shifts.
        reestimate_batch_norm: Whether to compute the statistics of batch normalization anew.
        rounding: "nearest", "adaround", "gptq"; or one of these with its fields: {"adaround": {"steps": 500}}.
    """

    calibration_samples: int = 512
    correct_bias: bool = False
    reestimate_batch_norm: bool = False
    rounding: str | Mapping[str, Any] = "nearest"

    default: ClassVar[Any] = "int8"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("calibration_samples", self.calibration_samples)
        check_flag("correct_bias", self.correct_bias)
        check_flag("reestimate_batch_norm", self.reestimate_batch_norm)
        _ = self.method

    @property
    def method(self) -> Rounding | None:
        """How weights are rounded; `None`: to the nearest."""
        given = self.rounding
        if isinstance(given, Mapping):
            if len(given) != 1 or not isinstance(fields := next(iter(given.values())), Mapping):
                raise ValueError(
                    'Expected rounding to be a name, or such as {"adaround": {"steps": 500}}. Received: '
                    f"{short(given)}."
                )
            name = next(iter(given))
            check_choice("rounding", name, METHODS)
            return METHODS[name](**fields)
        return rounding_of(given)

    def _one(self, value: Any, steps: int) -> QuantizeConfig:
        return value if isinstance(value, QuantizeConfig) else read_quantize(value)


class Training(Step, frozen=True):
    """Training of the model as it is then, in which masks, values and ranges settle.

    Attributes:
        epochs: `None`: 10, and more of few samples, until there are 400 steps.
        batch_size: Samples per training step.
        learning_rate: Adam's at the beginning; it falls as half a cosine to a hundredth.
        reestimate_batch_norm: Of a quantized model: whether batch normalization gets the statistics of its weights as
            they are after the training, on samples of the training data.
    """

    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float = 2e-4
    reestimate_batch_norm: bool = False

    def __post_init__(self) -> None:
        if self.epochs is not None:
            check_count("epochs", self.epochs)
        check_count("batch_size", self.batch_size)
        check_number("learning_rate", self.learning_rate, 0, above=True)
        check_flag("reestimate_batch_norm", self.reestimate_batch_norm)


class Finetune(Training, frozen=True, tag="finetune"):
    """Training on the targets of the data."""


class Distill(Training, frozen=True, tag="distill"):
    """Training on the targets and on what the float model says that the recipe began with (`tfcompress.distill`).

    Attributes:
        temperature: Logits are divided by it before softmax.
        alpha: The float model's share of the loss, in [0, 1].
    """

    temperature: float = 3.0
    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("temperature", self.temperature, 1e-6, 1e6)
        check_number("alpha", self.alpha, 0, 1)


class Shrink(Step, frozen=True, tag="shrink"):
    """Pruned channels and heads are taken out of the model (`tfcompress.shrink`)."""


class Export(Step, frozen=True, tag="export"):
    """Files of the model as it is then, each compared with Keras before it gets its name (`tfcompress.export`).

    Attributes:
        files: Their names, in the folder of the run: `.tflite`, `.onnx`; a `.keras` file of a model that isn't
            quantized has plain layers.
        precision: "float32", or "float16": weights in 16 bits of a model that isn't quantized.
        inference_io: "float32", "int8" or "uint8"; `None`: the target's, "float32" without one.
        opset: Of ONNX.
        weights: Of `.onnx` files, and of `.tflite` files for a microcontroller: "plain", "coded" or "auto".
        sparse: Of `.tflite` files: whether zeros are left out; "auto": where that costs no speed.
        prefer: Of `.tflite` files: "speed", or "size": kernels of 4 bits are stored so, where that is slower, too.
        target: What the files are for: a name of `tfcompress.targets.names()`, or the path of a file with your own.
    """

    files: tuple[str, ...]
    precision: str = "float32"
    inference_io: str | None = None
    opset: int = 18
    weights: str = "plain"
    sparse: bool | str = False
    prefer: str = "speed"
    target: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.files, list):
            self._set("files", tuple(self.files))
        if not self.files:
            raise ValueError('Expected `files` to name a file, such as ["model.tflite"]. Received: none.')
        for name in self.files:
            if not name.endswith(_SUFFIXES) or "/" in name or "\\" in name or name.startswith("."):
                raise ValueError(
                    f"Expected `files` to be names, without a folder, that end in {', '.join(_SUFFIXES)}. "
                    f"Received: {name!r}."
                )
        check_choice("precision", self.precision, ("float32", "float16"))
        check_choice("inference_io", self.inference_io, (None, "float32", "int8", "uint8"))
        check_count("opset", self.opset, 18, 25)
        check_choice("weights", self.weights, ("plain", "coded", "auto"))
        check_choice("sparse", self.sparse, (True, False, "auto"))
        check_choice("prefer", self.prefer, ("speed", "size"))
        self._check_target()
        for field in msgspec.structs.fields(self):
            value, suffixes = getattr(self, field.name), _SUFFIXES_WITH.get(field.name, _SUFFIXES)
            if field.name == "weights" and self.target is None:
                suffixes = (".onnx",)
            if value != field.default and not any(name.endswith(suffixes) for name in self.files):
                raise ValueError(
                    f"Expected {field.name} in a step that exports a file which ends in {' or '.join(suffixes)}: "
                    f"others don't have it. Received: {field.name}={value!r}, and {', '.join(self.files)}. Leave it "
                    "out, or name such a file."
                )

    def _check_target(self) -> None:
        """Refuse a target that isn't there, or that has no files of the formats."""
        if self.target is None:
            return
        target = targets.get(self.target)
        for name in self.files:
            if not name.endswith((".keras", *(f".{kind}" for kind in target.formats))):
                raise ValueError(
                    f"Expected files that end in .{target.formats[0]} for target {target.name!r}. Received: {name!r}. "
                    "Export it in a step of its own."
                )


class Report(Step, frozen=True, tag="report"):
    """All files beside each other on the test data: `report.html`, `report.md` and `report.json`.

    Attributes:
        baseline: The file that the others are compared with; `None`: the first.
        latency: Whether they are timed.
        threads: Threads of one inference.
        layers: Whether the layers of each are compared, too.
    """

    baseline: str | None = None
    latency: bool = True
    threads: int = 1
    layers: bool = True

    def __post_init__(self) -> None:
        check_flag("latency", self.latency)
        check_flag("layers", self.layers)
        check_count("threads", self.threads)


KINDS: dict[str, type[Step]] = {
    kind.called(): kind
    for kind in (Load, Equalize, Prune, Cluster, Quantize, Distill, Finetune, Shrink, Export, Report)
}
"""{the step's name in a file: its class}."""
