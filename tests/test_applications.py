"""A slice of benchmarks/coverage.py: models of keras.applications become files of integers alone."""

from __future__ import annotations

import numpy as np
import pytest
from keras.src.applications import mobilenet_v3
from keras.src.applications.densenet import DenseNet
from keras.src.applications.efficientnet import DEFAULT_BLOCKS_ARGS, EfficientNet

from benchmarks.coverage import condition, images, onnx_kernels, tflite_kernels
from tests.check import but_rare
from tfcompress.export import export
from tfcompress.export.plan.deployment import deploy
from tfcompress.quantization import quantize
from tfcompress.runtime.opening import open_runner

SIZE = 32
OPTIONS = {"input_shape": (SIZE, SIZE, 3), "weights": None, "classes": 10, "classifier_activation": None}


def inverted_residuals(x, kernel, activation, ratio):
    """The stages of a MobileNetV3, cut short."""
    x = mobilenet_v3._inverted_res_block(x, 1, 16, kernel, 2, ratio, mobilenet_v3.relu, 0)
    x = mobilenet_v3._inverted_res_block(x, 3, 24, kernel, 2, ratio, activation, 1)
    return mobilenet_v3._inverted_res_block(x, 3, 24, kernel, 1, ratio, activation, 2)


MODELS = {
    # squeeze and excitation, hard swish, its own rescaling of the inputs
    "mobilenet_v3": lambda: mobilenet_v3.MobileNetV3(inverted_residuals, 32, model_type="large", **OPTIONS),
    # batch normalization before the convolutions, concatenations of what others read too
    "densenet": lambda: DenseNet([2, 2, 1, 1], **OPTIONS),
    # swish, normalization of the inputs, convolutions behind paddings of one side
    "efficientnet": lambda: EfficientNet(0.5, 0.2, SIZE, blocks_args=DEFAULT_BLOCKS_ARGS[:4], **OPTIONS),
}


@pytest.mark.long
# Squeeze and excitation, and hard swish, are integers in files of tests/export/onnx/test_onnx_int8.py, too.
@pytest.mark.parametrize("name", but_rare(MODELS, ("densenet", "mobilenet_v3")))
def test_all_integer_and_as_keras(name, tmp_path):
    model = MODELS[name]()
    data, test = images(16, SIZE, 2), images(16, SIZE, 3)
    if name == "densenet":
        data, test = data / 255, test / 255
    condition(model, data)
    quantized = quantize(model, "int8", data)
    (scale,) = deploy(quantized, "tflite").scales.values()
    expected = np.asarray(quantized(test, training=False))
    assert np.ptp(expected) > 100 * scale
    for suffix, kernels_of in ((".tflite", tflite_kernels), (".onnx", onnx_kernels)):
        path = export(quantized, tmp_path / f"model{suffix}", verify=False).path
        kernels, floats, others = kernels_of(path)
        assert kernels > 10
        assert (floats, others) == (0, "")
        assert path.stat().st_size < model.count_params() + 7500 * kernels
        off = np.abs(open_runner(path).predict(test).reshape(expected.shape) - expected) / scale
        assert off.mean() < 4.0
        assert off.max() < 16.0
