"""All public names; `tfcompress` has them from here."""

import tfcompress.callbacks as callbacks  # noqa: PLR0402  # `from tfcompress import` would ask this module for it
import tfcompress.targets as targets  # noqa: PLR0402
from tfcompress.clustering import ClusterConfig, cluster
from tfcompress.core.atomic_files import save
from tfcompress.distillation import distill
from tfcompress.evaluation import Footprint, Metrics, Report, Timing, benchmark, compare, evaluate, footprint
from tfcompress.evaluation.summary import Summary, sparsity, summary
from tfcompress.evaluation.verify import Verification, verify
from tfcompress.export import Artifact, ExportPlan, ParityError, export, plan_export
from tfcompress.graph import strip
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.layers.register import register_layer
from tfcompress.layers.traits import KernelAxes, LayerTraits
from tfcompress.loading import load
from tfcompress.npu.estimate import NPUEstimate
from tfcompress.npu.vela import estimate_npu
from tfcompress.parity.debug import DebugReport, debug
from tfcompress.pipeline.codebooks import CodebookComparison, compare_codebooks
from tfcompress.pipeline.sensitivity import sensitivity
from tfcompress.pipeline.sensitivity_curves import Sensitivity
from tfcompress.pipeline.sweep import Sweep, sweep
from tfcompress.precision import Float16Report, PrecisionReport, check_float16, explain, full_precision, mixed_precision
from tfcompress.pruning import (
    Block,
    ConstantSparsity,
    CosineSparsity,
    ExponentialSparsity,
    FunctionSchedule,
    NofM,
    OneShot,
    PolynomialSparsity,
    PruneConfig,
    Regrowth,
    Schedule,
    ShrinkReport,
    XNNPackLayers,
    allocation,
    keep_zeros,
    prune,
    prune_once,
    shrink,
    shrink_report,
    xnnpack_prunable,
)
from tfcompress.quantization import (
    GPTQ,
    ActivationSpec,
    AdaRound,
    QuantizationError,
    QuantizeConfig,
    WeightSpec,
    calibrate,
    dequantize,
    fold_batch_norms,
    quantization_error,
    quantize,
    reestimate_batch_norm,
    uniform_quantize,
)
from tfcompress.recipes import Recipe
from tfcompress.search.allocate import allocate
from tfcompress.search.allocation import Allocation
from tfcompress.search.budget import compress
from tfcompress.search.judgement import Judgement
from tfcompress.search.report import SearchReport
from tfcompress.search.result import Result
from tfcompress.search.space import SearchSpace
from tfcompress.search.study import search
from tfcompress.streaming.step_model import StepModel, stepwise
from tfcompress.streaming.stream import Stream
from tfcompress.targets import Target

__all__ = [
    "GPTQ",
    "ActivationSpec",
    "AdaRound",
    "Allocation",
    "Artifact",
    "Block",
    "ClusterConfig",
    "CodebookComparison",
    "ConstantSparsity",
    "CosineSparsity",
    "DebugReport",
    "ExponentialSparsity",
    "ExportPlan",
    "Float16Report",
    "Footprint",
    "FunctionSchedule",
    "Judgement",
    "KernelAxes",
    "LayerConfigs",
    "LayerTraits",
    "Metrics",
    "NPUEstimate",
    "NofM",
    "OneShot",
    "ParityError",
    "PolynomialSparsity",
    "PrecisionReport",
    "PruneConfig",
    "QuantizationError",
    "QuantizeConfig",
    "Recipe",
    "Regrowth",
    "Report",
    "Result",
    "Schedule",
    "SearchReport",
    "SearchSpace",
    "Sensitivity",
    "ShrinkReport",
    "StepModel",
    "Stream",
    "Summary",
    "Sweep",
    "Target",
    "Timing",
    "Verification",
    "WeightSpec",
    "XNNPackLayers",
    "allocate",
    "allocation",
    "benchmark",
    "calibrate",
    "callbacks",
    "check_float16",
    "cluster",
    "compare",
    "compare_codebooks",
    "compress",
    "debug",
    "dequantize",
    "distill",
    "estimate_npu",
    "evaluate",
    "explain",
    "export",
    "fold_batch_norms",
    "footprint",
    "full_precision",
    "keep_zeros",
    "load",
    "mixed_precision",
    "plan_export",
    "prune",
    "prune_once",
    "quantization_error",
    "quantize",
    "reestimate_batch_norm",
    "register_layer",
    "save",
    "search",
    "sensitivity",
    "shrink",
    "shrink_report",
    "sparsity",
    "stepwise",
    "strip",
    "summary",
    "sweep",
    "targets",
    "uniform_quantize",
    "verify",
    "xnnpack_prunable",
]
