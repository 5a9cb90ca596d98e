"""Recipes that a search proposes: what is done to a model, from what hurts least to what saves most."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfcompress import targets
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.quantization.quantize_config import ActivationSpec, QuantizeConfig
from tfcompress.recipes import Distill, Equalize, Export, Finetune, Prune, Quantize, Recipe, Shrink, Step
from tfcompress.recipes.steps import Training, Transform
from tfcompress.search.tries import is_micro
from tfcompress.targets import Target

MINIMIZE = ("size", "zip", "latency", "arena")
FORMATS = ("tflite", "onnx")

MODEL = "model.keras"
"""The model behind the files, in the folder of a try."""

TEMPERATURE, TEACHER = 4.0, 0.9
"""Of distillation: the float model counts for most, as a file that says what it says loses nothing."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What may be done to a model.

    Attributes:
        name: in few words.
        steps: of a recipe, without the exports.
        precision: of files of a model that isn't quantized.
    """

    name: str
    steps: tuple[Step, ...] = ()
    precision: str = "float32"

    @property
    def trains(self) -> bool:
        """Whether the model is trained."""
        return any(isinstance(step, Training) for step in self.steps)

    @property
    def integers(self) -> bool:
        """Whether the model is quantized."""
        return any(isinstance(step, Quantize) for step in self.steps)

    def trained(self, epochs: int, batch_size: int, learning_rate: float, taught: bool = True) -> Candidate:
        """Return the same with training behind all steps; `taught`: on what the float model says of classes, too.

        >>> int8().trained(2, 32, 1e-4).name
        'int8, 2 epochs of distillation'
        """
        step = _training(taught, epochs, batch_size, learning_rate, reestimate_batch_norm=self.integers)
        name = f"{self.name}, {_said(step)}"
        return dataclasses.replace(self, name=name, steps=(*map(_learning, self.steps), step))

    def recipe(self, formats: Sequence[str], minimize: str, seed: int, target: str | None = None) -> Recipe:
        """Return the recipe, which ends in a file of each format and a Keras model.

        Args:
            formats: of the files.
            minimize: of `MINIMIZE`.
            seed: of everything that is random.
            target: what the files are for, a name or the path of a file; `None`: not said.
        """
        machine = None if target is None else targets.get(target)
        how: dict[str, Any] = {"precision": self.precision, "target": target}
        exports = []
        if "tflite" in formats:
            narrow = machine is None or min(machine.weight_bits) < 8
            prefer = "size" if minimize != "latency" and narrow else "speed"
            tables = machine is not None and looks_up(machine) and minimize in ("size", "zip") and self.integers
            weights = "coded" if tables else "plain"
            exports.append(Export(files=("model.tflite",), prefer=prefer, weights=weights, **how))
        if "onnx" in formats:
            coded = "plain" if minimize == "latency" or self.precision != "float32" else "coded"
            exports.append(Export(files=("model.onnx",), weights=coded, **how))
        exports.append(Export(files=(MODEL,)))
        name = re.sub(r"[^\w.+-]+", "-", self.name)[:60].strip("-")
        return Recipe(name=name, when=f"Proposed by a search: {self.name}.", seed=seed, steps=(*self.steps, *exports))


def _training(taught: bool, epochs: int, batch_size: int, learning_rate: float, **other: Any) -> Training:
    """Return a training that is distilled, or, where the targets are no classes, isn't."""
    how: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, **other}
    return Distill(temperature=TEMPERATURE, alpha=TEACHER, **how) if taught else Finetune(**how)


def _said(step: Training) -> str:
    kind = "distillation" if isinstance(step, Distill) else "training"
    return f"{step.epochs} epoch{'s' * (step.epochs != 1)} of {kind}"


def _learning(step: Step) -> Step:
    """Return a quantize step whose few bits have scales that are trained; another as it is."""
    if not isinstance(step, Quantize):
        return step
    config = step.read(1)
    if isinstance(config, LayerConfigs):
        return _with(step, LayerConfigs({key: one and _learned(one) for key, one in config.configs.items()}))
    return _with(step, _learned(config))


def _learned(config: QuantizeConfig) -> QuantizeConfig:
    weights = config.weights
    if config.float16 or weights.bits > 4 or weights.range not in ("minmax", "mse"):
        return config
    return dataclasses.replace(config, weights=dataclasses.replace(weights, range="learned"))


def _with(step: Quantize, config: Any) -> Quantize:
    kept = ("layers", "calibration_samples", "correct_bias", "reestimate_batch_norm", "rounding")
    return Quantize(config=config, **{name: getattr(step, name) for name in kept})


def looks_up(target: Target) -> bool:
    """Return whether a target's runtime looks weights up in tables, and nothing else compresses them."""
    return is_micro(target) and target.accelerator is None


def suits(candidate: Candidate, target: Target | None) -> bool:
    """Return whether a target can have files of a candidate, as far as its configs say.

    >>> suits(int8(), targets.get("ethos-u55-128")), suits(wide(), targets.get("ethos-u55-128"))
    (True, False)
    """
    if target is None:
        return True
    steps = [step for step in candidate.steps if isinstance(step, Quantize)]
    if not steps:
        return candidate.precision in target.numbers
    return all(_suits(config, target) for step in steps for config in _configs(step))


def _configs(step: Quantize) -> list[QuantizeConfig | None]:
    config = step.read(1)
    return list(config.configs.values()) if isinstance(config, LayerConfigs) else [config]


def _suits(config: QuantizeConfig | None, target: Target) -> bool:
    if config is None:
        return not target.integers_only
    if config.float16:
        return "float16" in target.numbers
    granularity = config.weights.granularity
    if (granularity if isinstance(granularity, str) else "blocks") not in target.granularity:
        return False
    if config.activations is None or config.activations.dynamic:
        return ("int8_weights" if config.activations is None else "dynamic_int8") in target.numbers
    return ("int8" if config.activations.bits == 8 else "int16x8") in target.numbers


def plain() -> Candidate:
    """Return the model as it is, where halves can't be had."""
    return Candidate("float")


def float16() -> Candidate:
    """Return what hardly ever hurts: weights of 16 bits."""
    return Candidate("float16", precision="float16")


def int8() -> Candidate:
    """Return the first step down: integers, calibrated."""
    return Candidate("int8", (Quantize(config="int8"),))


def first_aid() -> tuple[Candidate, ...]:
    """Return what is tried where calibrated integers lose too much, without training; the cheapest first."""
    ranges = {name: QuantizeConfig(activations=ActivationSpec(range=name)) for name in ("mse", "percentile", "entropy")}
    return (
        Candidate("int8, ranges by mse", (Quantize(config=ranges["mse"]),)),
        Candidate("int8, ranges by percentile", (Quantize(config=ranges["percentile"]),)),
        Candidate("int8, equalized, biases corrected", (Equalize(), Quantize(config="int8", correct_bias=True))),
        Candidate("int8, AdaRound", (Quantize(config="int8", rounding="adaround"),)),
        Candidate(
            "int8, equalized, ranges by mse, AdaRound",
            (Equalize(), Quantize(config=ranges["mse"], rounding="adaround")),
        ),
    )


WIDER: Mapping[str, str | None] = {"int16 activations": "int16x8", "float": None}
"""What layers that hurt are left in."""


def widened(worst: Sequence[str], kind: str) -> dict[Any, QuantizeConfig | None]:
    """Return configs of layers that hurt, by regular expressions of their names; `kind` is one of `WIDER`."""
    config = WIDER[kind]
    return {re.escape(name): None if config is None else QuantizeConfig.get(config) for name in worst}


def mixed(worst: Sequence[str], kind: str) -> Candidate:
    """Return int8 with some layers wider.

    Args:
        worst: names of these layers.
        kind: of `WIDER`.
    """
    step = Quantize(config=LayerConfigs({**widened(worst, kind), ".*": QuantizeConfig.get("int8")}))
    plural = "s" * (len(worst) > 1)
    return Candidate(f"int8, {len(worst)} layer{plural} in {kind}", (step,))


def keeping(candidate: Candidate, layers: Mapping[Any, QuantizeConfig | None]) -> Candidate:
    """Return a candidate in which some layers are left as wide as they were found to need.

    Args:
        candidate: such as `narrow` makes.
        layers: {regular expression: config}.
    """

    def kept(step: Step) -> Step | None:
        config = step.read(1) if isinstance(step, Transform) else None
        if not isinstance(config, LayerConfigs):
            return step
        others = {key: one for key, one in config.configs.items() if key not in layers}
        if isinstance(step, Quantize):
            return _with(step, LayerConfigs({**layers, **others}))
        return type(step)(config=LayerConfigs(others)) if others else None

    if not layers:
        return candidate
    steps = tuple(one for one in map(kept, candidate.steps) if one is not None)
    return dataclasses.replace(candidate, name=f"{candidate.name}, {len(layers)} wider", steps=steps)


def wide() -> Candidate:
    """Return int8 weights beside activations of 16 bits, in all layers."""
    return Candidate("int16x8", (Quantize(config="int16x8"),))


def narrow(name: str, configs: Mapping[str, QuantizeConfig | None], before: Sequence[Step] = ()) -> Candidate:
    """Return layers of few bits, rounded by data.

    Args:
        name: of the candidate.
        configs: {regular expression of layers: config}.
        before: steps in front, as those that equalize, prune or cluster.
    """
    by_layer = LayerConfigs({key: one and _by_error(one) for key, one in configs.items()})
    return Candidate(name, (*before, Quantize(config=by_layer, rounding="adaround")))


def _by_error(config: QuantizeConfig) -> QuantizeConfig:
    """Return a config whose weights of 3 bits or fewer saturate where that makes the least error."""
    if config.float16 or config.weights.bits > 3 or config.weights.range != "minmax":
        return config
    return dataclasses.replace(config, weights=dataclasses.replace(config.weights, range="mse"))


def fewer_channels(
    sparsity: float, epochs: int, batch_size: int, learning_rate: float, taught: bool = True
) -> Candidate:
    """Return integers with channels taken out, which is what makes a file faster; `taught` as in `trained`."""
    training = _training(taught, epochs, batch_size, learning_rate)
    return Candidate(
        f"{sparsity:.0%} of channels removed, {_said(training)}, int8",
        (
            Prune(config={"sparsity": sparsity, "granularity": "channel"}),
            training,
            Shrink(),
            Quantize(config="int8"),
        ),
    )
