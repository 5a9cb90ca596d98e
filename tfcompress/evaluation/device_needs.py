"""What files take of the device that they are for: measured in TFLite Micro, or estimated for an NPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfcompress.evaluation.footprint import footprint_of
from tfcompress.evaluation.open_predictor import FilePredictor, Source
from tfcompress.evaluation.predictor import Predictor
from tfcompress.export.artifact import Artifact
from tfcompress.npu.vela import check_npu, estimate_npu
from tfcompress.runtime.tflm_runner import TFLMRunner
from tfcompress.targets import get as get_target


def needs_of(
    predictors: Mapping[str, Predictor],
    models: Mapping[str, Source],
    targets: Mapping[str, Any],
    ram: int | None,
    flash: int | None,
) -> dict[str, dict[str, Any]]:
    """Return {name: what a `Candidate` says of it}: "npu" of files for one, "footprint" of others in TFLite Micro.

    Raises:
        ImportError: Arm's compiler isn't installed.
        ValueError: there are limits, and no such file; or the compiler can't compile one.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, accelerator in devices_of(predictors, targets, ram, flash).items():
        predictor, model = predictors[name], models[name]
        assert isinstance(predictor, FilePredictor)
        if accelerator is not None:
            file = model if isinstance(model, Artifact) else predictor.runner.path
            found[name] = {"npu": estimate_npu(file, accelerator, ram=ram, flash=flash)}
        elif isinstance(predictor.runner, TFLMRunner):
            found[name] = {"footprint": footprint_of(predictor.runner, ram, flash)}
    return found


def devices_of(
    predictors: Mapping[str, Predictor], targets: Mapping[str, Any], ram: int | None, flash: int | None
) -> dict[str, str | None]:
    """Return {name: the NPU of a file; `None`: a microcontroller} of files for either, before anything is computed.

    Raises:
        ImportError: Arm's compiler isn't installed.
        ValueError: there are limits, and no such file; or there is no such NPU.
    """
    found: dict[str, str | None] = {}
    for name, predictor in predictors.items():
        if not isinstance(predictor, FilePredictor):
            continue
        accelerator = get_target(targets[name]).accelerator if name in targets else None
        if accelerator is not None:
            check_npu(accelerator)
        if accelerator is not None or isinstance(predictor.runner, TFLMRunner):
            found[name] = accelerator
    if not found and (ram is not None or flash is not None):
        raise ValueError(
            f"Expected a file for a microcontroller, beside ram= and flash=. Received: {list(predictors)}. Say "
            "target='microcontroller' or runtime='tflm', or leave ram and flash out."
        )
    return found
