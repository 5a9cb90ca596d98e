"""Which steps can follow each other."""

from __future__ import annotations

from collections.abc import Sequence

from tfcompress import targets
from tfcompress.core.names import did_you_mean
from tfcompress.pipeline.pruning_configs import removes_units
from tfcompress.pruning.running_statistics import GATHERED
from tfcompress.recipes.steps import (
    Cluster,
    Distill,
    Equalize,
    Export,
    Load,
    Prune,
    Quantize,
    Report,
    Shrink,
    Step,
    Training,
    Transform,
)
from tfcompress.targets import Target


class WrongOrder(ValueError):
    """Steps that can't work one behind the other.

    Args:
        place: Of the step that is to blame, from 0.
        message: What is wrong.
    """

    def __init__(self, place: int, message: str):
        super().__init__(message)
        self.place = place


def target_of(steps: Sequence[Step], name: str) -> Target | None:
    """Return what a file of a recipe is exported for; `None`: that isn't said."""
    for step in steps:
        if isinstance(step, Export) and name in step.files and step.target is not None:
            return targets.get(step.target)
    return None


def check_order(steps: Sequence[Step]) -> None:
    """Raise WrongOrder if steps can't work in their order."""
    if not steps:
        raise ValueError("Expected `steps` with a step. Received: none.")
    for place, step in enumerate(steps):
        if said := _gradients(place, steps):
            raise WrongOrder(place, said)
        for check in (_place, _change, _shrink, _distill, _statistics, _export, _report):
            said = check(step, steps[:place])
            if said:
                raise WrongOrder(place, said)


def _gradients(place: int, steps: Sequence[Step]) -> str:
    """Return what is wrong with a pruning that looks at gradients, and no training follows; "" if nothing is."""
    step = steps[place]
    if not isinstance(step, Prune) or training_after(steps, place) is not None:
        return ""
    late = next((one for one in step.configs() if any(name in GATHERED for name in one.needs)), None)
    if late is None:
        return ""
    return (
        f"Expected a `finetune` behind a `prune` by {late.criterion!r}, which looks at gradients. Received: none "
        "before anything else. Put one there, or prune by 'magnitude'."
    )


def _place(step: Step, before: Sequence[Step]) -> str:
    """Return what is wrong with where a step stands; "" if nothing is. So do the others, each of some steps."""
    if any(isinstance(one, Report) for one in before):
        return f"Expected `report` as the last step, once. Received: {step.called()!r} behind it. Put it in front."
    if isinstance(step, Load) and before:
        return f"Expected `load` as the first step. Received: it behind {before[-1].called()!r}. Put it in front."
    return ""


def _change(step: Step, before: Sequence[Step]) -> str:
    kinds = {type(one) for one in before}
    if isinstance(step, Equalize | Prune | Cluster | Quantize) and Quantize in kinds:
        return f"Expected `quantize` behind all other changes. Received: {step.called()!r} behind it. Put it in front."
    if isinstance(step, Equalize) and kinds & {Prune, Cluster}:
        return "Expected `equalize` in front of `prune` and `cluster`, whose kernels it would change. Put it there."
    return ""


def _shrink(step: Step, before: Sequence[Step]) -> str:
    if not isinstance(step, Shrink):
        return ""
    if any(isinstance(one, Cluster | Quantize) for one in before):
        return "Expected `shrink` in front of `cluster` and `quantize`. Received: it behind one. Put it there."
    pruned = [one for one in before if isinstance(one, Prune)]
    if not any(removes_units(one.read(1)) for one in pruned):
        had = "a `prune` of single weights" if pruned else "no `prune`"
        return (
            f"Expected `shrink` behind a `prune` of channels or heads. Received: {had} in front of it. Prune "
            'with {"granularity": "channel"} first, or leave it out.'
        )
    if isinstance(before[-1], Shrink):
        return "Expected `shrink` once behind a `prune`. Received: twice."
    return ""


def _distill(step: Step, before: Sequence[Step]) -> str:
    if isinstance(step, Distill) and not any(isinstance(one, Transform) for one in before):
        return (
            "Expected `distill` behind `prune`, `cluster` or `quantize`: the changed model learns from the one before. "
            "Received: none of these. Take `finetune`."
        )
    return ""


def _statistics(step: Step, before: Sequence[Step]) -> str:
    if isinstance(step, Training) and step.reestimate_batch_norm and not any(isinstance(x, Quantize) for x in before):
        return "Expected reestimate_batch_norm behind `quantize` alone. Received: it without one. Leave it out."
    return ""


def _export(step: Step, before: Sequence[Step]) -> str:
    if not isinstance(step, Export):
        return ""
    names = [*files_of(before), *step.files]
    twice = next((name for name in names if names.count(name) > 1), None)
    quantized = any(isinstance(one, Quantize) for one in before)
    if twice is not None:
        return f"Expected each file once. Received: {twice!r} twice. Give it another name."
    if step.precision == "float16" and quantized:
        return (
            "Expected precision='float32' of a quantized model, whose weights are what `quantize` made them. "
            "Received: precision='float16'. Export it in front of `quantize`."
        )
    if step.inference_io not in (None, "float32") and not quantized:
        return (
            "Expected inference_io='float32' of a model that isn't quantized. Received: "
            f"inference_io={step.inference_io!r}. Put `quantize` in front."
        )
    return ""


def _report(step: Step, before: Sequence[Step]) -> str:
    if not isinstance(step, Report):
        return ""
    files = files_of(before)
    if not files:
        return "Expected `report` behind an `export`. Received: no file in front of it. Export one."
    if step.baseline is not None and step.baseline not in files:
        return (
            f"Expected `baseline` to be a file of an `export`: {', '.join(files)}. Received: {step.baseline!r}."
            f"{did_you_mean(step.baseline, files)}"
        )
    return ""


def files_of(steps: Sequence[Step]) -> list[str]:
    """Return the names of the files that steps export."""
    return [name for step in steps if isinstance(step, Export) for name in step.files]


def written_by(steps: Sequence[Step]) -> list[str]:
    """Return the names of the files that are made: exported, and reports."""
    reports = ("report.json", "report.md", "report.html")
    return [*files_of(steps), *(reports if any(isinstance(step, Report) for step in steps) else ())]


def first_change(steps: Sequence[Step]) -> int | None:
    """Return the place of the first step that compresses: `distill` learns from the model in front of it."""
    return next((place for place, step in enumerate(steps) if isinstance(step, Transform)), None)


def training_after(steps: Sequence[Step], place: int) -> Training | None:
    """Return the training in which what the step at a place does takes effect; `None`: there is none.

    Between the two there are other changes alone.
    """
    for step in steps[place + 1 :]:
        if isinstance(step, Training):
            return step
        if not isinstance(step, Prune | Cluster | Quantize):
            return None
    return None
