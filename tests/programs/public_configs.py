"""Every public config as the documents make it: what a user's own mypy makes of the types, when it is strict."""

from __future__ import annotations

import keras

import tfcompress as tfc


@keras.saving.register_keras_serializable("typed")  # type: ignore[misc,untyped-decorator,unused-ignore]
def half(step: int) -> float:
    """A schedule that is a function."""
    return 0.5


SCHEDULES: list[tfc.Schedule] = [
    tfc.ConstantSparsity(0.5),
    tfc.ConstantSparsity(0.5, begin_step=10, end_step=100, frequency=5),
    tfc.PolynomialSparsity(0.0, 0.8, begin_step=0, end_step=100, frequency=10),
    tfc.CosineSparsity(0.0, 0.8, begin_step=0, end_step=100),
    tfc.ExponentialSparsity(0.0, 0.8, begin_step=0, end_step=100),
    tfc.OneShot(0.5, step=3),
    tfc.Regrowth(0.5, end_step=100),
    tfc.FunctionSchedule(half, end_step=100),
]
PRUNED: list[tfc.PruneConfig] = [
    tfc.PruneConfig(0.5),
    tfc.PruneConfig(half),
    tfc.PruneConfig(tfc.OneShot(0.5), "l2", tfc.Block(16, 1)),
    tfc.PruneConfig(schedule=0.5, criterion="magnitude", granularity=tfc.NofM(2, 4)),
    tfc.PruneConfig(0.5, granularity="channel", scope="flops"),
    tfc.PruneConfig(0.5, criterion="threshold", threshold=0.1),
    tfc.PruneConfig(0.5, allocation={"dense": 0.5}),
]
SPARSITY: tfc.Schedule = PRUNED[0].schedule
QUANTIZED: list[tfc.QuantizeConfig] = [
    tfc.QuantizeConfig(),
    tfc.QuantizeConfig(
        weights=tfc.WeightSpec(bits=4, granularity="per_tensor", range="mse"),
        activations=tfc.ActivationSpec(bits=8, range="percentile", percentile=99.9),
        freeze_ranges_step=100,
    ),
    tfc.QuantizeConfig(activations=None),
]
TRAITS = tfc.LayerTraits(kernels={"kernel": tfc.KernelAxes(inputs=(-2,), outputs=(-1,))}, channels="dense")


def use(model: keras.Model) -> None:
    """Give each config to the verb that it is for."""
    tfc.prune(model, 0.5)
    tfc.prune(model, SCHEDULES[0])
    tfc.prune(model, PRUNED[0], layers="dense.*")
    tfc.prune(model, {"logits": None, keras.layers.Dense: 0.5, ".*": PRUNED[0]})
    tfc.prune(model, tfc.LayerConfigs({"logits": None, ".*": 0.5}), layers=["a", "b"])
    tfc.prune_once(model, 0.5, granularity=tfc.Block(4, 1))
    tfc.quantize(model, "int8")
    tfc.quantize(model, QUANTIZED[0], layers=lambda layer: layer.name != "boxes")
    tfc.quantize(model, {"logits": None, ".*": "int8"})
    tfc.mixed_precision(model, "auto")
    tfc.mixed_precision(model, {"logits": "float32", ".*": "mixed_bfloat16"})
