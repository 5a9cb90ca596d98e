"""What others make of the same float model and calibration images, each as its documentation recommends."""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


def tensorflow(
    model: Any,
    calibration: np.ndarray | Sequence[np.ndarray] | None = None,
    *,
    activation_bits: int = 8,
    integer_io: bool = False,
) -> bytes:
    """Return the file that TensorFlow's converter makes with its default optimizations.

    Args:
        model: A Keras 3 model.
        calibration: Samples for full integers, an array for each input if there are several; `None`: weights in 8
            bits and activations in float32.
        activation_bits: 8 or 16.
        integer_io: Whether inputs and outputs are int8, too.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        converter = _converter(model, folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if calibration is not None:
            samples = by_input(calibration)
            converter.representative_dataset = lambda: (
                {given.name: array[None] for given, array in zip(model.inputs, sample, strict=True)}
                for sample in zip(*samples, strict=True)
            )
        if activation_bits == 16:
            only = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            converter.target_spec.supported_ops = [only]
        if integer_io:
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return bytes(converter.convert())


def tensorflow_float(model: Any, *, half: bool = False) -> bytes:
    """Return the float file that TensorFlow's converter makes; `half`: its weights in 16 bits."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        converter = _converter(model, folder)
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        return bytes(converter.convert())


def _converter(model: Any, folder: str) -> Any:
    """A SavedModel of one sample: with a free batch the converter adds operations that cost time."""
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [tf.TensorSpec((1, *given.shape[1:]), given.dtype, name=given.name) for given in model.inputs]

    def call(*given: Any) -> Any:
        return model(list(given) if len(given) > 1 else given[0], training=False)

    archive.add_endpoint("serving_default", call, signature)
    archive.write_out(folder, verbose=False)
    return tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])


def ai_edge(content: bytes, recipe: str, calibration: np.ndarray | None = None) -> bytes:
    """Return what ai-edge-quantizer makes of a float TFLite file.

    Args:
        content: The float file.
        recipe: Of its module `recipe`, as "static_wi8_ai8"; or one that the module lacks, named alike, for other bits.
        calibration: float32 images. Its ranges are a moving average over the batches, which is the worse the smaller
            they are; so each image is calibrated on its own and the extremes are merged, as if all were one batch.
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer

    made = quantizer.Quantizer(bytearray(content), recipe_of(recipe))
    ranges: dict[str, Any] = {}
    if calibration is not None:
        (key, signature), *_ = Interpreter(model_content=content).get_signature_list().items()
        for image in calibration:
            found = made.calibrate({key: [{signature["inputs"][0]: image[None]}]}, num_threads=1)
            for name, extremes in found.items():
                known = ranges.setdefault(name, extremes)
                for end, merge in (("min", np.minimum), ("max", np.maximum)):
                    known[end] = merge(known[end], extremes[end])
    return bytes(made.quantize(ranges or None, enable_progress_report=False).quantized_model)


def recipe_of(name: str) -> Any:
    """Return a recipe of ai-edge-quantizer: one that it has by that name, or one of weights of other bits."""
    from ai_edge_quantizer import recipe, recipe_manager

    if hasattr(recipe, name):
        return getattr(recipe, name)()
    (bits,) = map(int, re.findall(r"wi(\d)", name))
    manager = recipe_manager.RecipeManager()
    if name.startswith("static"):
        manager.add_static_config(".*", recipe.TFLOperationName.ALL_SUPPORTED, 8, bits)
    else:
        manager.add_weight_only_config(".*", recipe.TFLOperationName.ALL_SUPPORTED, bits)
    return manager.get_quantization_recipe()


def onnx_runtime(
    path: pathlib.Path,
    calibration: np.ndarray | Sequence[np.ndarray],
    batch_size: int = 32,
    weight_type: str = "QInt8",
) -> bytes:
    """Return what ONNX Runtime makes of a float ONNX file.

    After its preprocessing; activations uint8, weights int8 per channel, which its integer kernels are made for.

    Args:
        path: The float file.
        calibration: Samples, an array for each input if there are several.
        batch_size: Samples in a batch.
        weight_type: Of its `QuantType`; "QInt4" takes a file of opset 21.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self, names: list[str]) -> None:
            batches = zip(*(_batches(array, batch_size) for array in by_input(calibration)), strict=True)
            self.batches = (dict(zip(names, batch, strict=True)) for batch in batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    import onnx

    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ready, made = (os.path.join(folder, name) for name in ("ready.onnx", "made.onnx"))
        quant_pre_process(str(path), ready, skip_symbolic_shape=True)  # which needs sympy; ONNX's own will do
        quantization.quantize_static(
            ready,
            made,
            Reader([given.name for given in onnx.load(ready).graph.input]),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType[weight_type],
        )
        return pathlib.Path(made).read_bytes()


def onnx_runtime_matmul(path: pathlib.Path, bits: int, accuracy_level: int | None = None, block: int = 128) -> bytes:
    """Return a float ONNX file whose products with constant matrices ONNX Runtime made MatMulNBits.

    Args:
        path: The float file.
        bits: 4 or 2.
        accuracy_level: Of the operator; `None`: none is written, which is the default.
        block: How many inputs share a scale.
    """
    import onnx

    # It imports onnx_ir, which onnxruntime 1.32 doesn't ask for.
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logging.getLogger().setLevel(logging.ERROR)
    made = MatMulNBitsQuantizer(onnx.load(path), bits=bits, block_size=block, accuracy_level=accuracy_level)
    made.process()
    return bytes(made.model.model.SerializeToString())


def by_input(samples: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the samples of each input."""
    return [samples] if isinstance(samples, np.ndarray) else list(samples)


def _batches(x: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (x[start : start + size] for start in range(0, len(x), size))


@functools.cache
def tfmot() -> Any:
    """Return tensorflow_model_optimization; the environment stays what it was before the import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_model_optimization
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    return tensorflow_model_optimization


def tfmot_file(model: Any) -> bytes:
    """Return the int8 file of a tf_keras model that was trained with tfmot's quantization."""
    import tensorflow as tf

    (given,) = model.inputs
    call = tf.function(
        lambda x: model(x, training=False), input_signature=[tf.TensorSpec((1, *given.shape[1:]), "float32", name="x")]
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())
