"""Tiny models with fake-quantizers and kernels on the integers' grid, as the exporters get them."""

import keras
import numpy as np

from tests.export.planning import planned
from tfcompress.export.plan.scheme import Scheme
from tfcompress.export.tflite.flatbuffer import File, operators
from tfcompress.export.tflite.to_tflite import to_tflite
from tfcompress.quantization.numerics.constant_range import FixedQuantizer
from tfcompress.tracing.trace import trace

BORDERS = ("QUANTIZE", "DEQUANTIZE")


def scales_of(kernel, axes):
    largest = np.abs(kernel).max(axis=axes, keepdims=True)
    return np.where(largest > 0, largest / np.float32(127), 1).astype("float32")


def bake(layer, seed=0, per_channel=True):
    """Give a layer random weights whose kernel lies on the grid; return its integers, in the layer's shape."""
    random = np.random.default_rng(seed)
    integers = None
    for variable in layer.weights:
        value = random.normal(0, 0.3, variable.shape).astype("float32")
        if "kernel" in variable.path or "embeddings" in variable.path:
            axes = tuple(range(value.ndim - 1))
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                axes = (0, 1)
            if isinstance(layer, keras.layers.Conv2DTranspose):
                axes = (0, 1, 3)
            if not per_channel or isinstance(layer, keras.layers.Embedding):
                axes = None
            scale = scales_of(value, axes)
            integers = np.round(value / scale)
            value = (integers * scale).astype("float32")
        variable.assign(value)
    return integers


def quantized(make, samples, bits=8, bake_layers=True, per_channel=True):
    """Build a model with quantizers whose ranges are those of `samples`.

    Args:
        make: (q, *inputs) -> outputs, `q(x)` where a quantizer stands. It must make no layers that have weights.
        samples: One array for each input.
    """

    def build(place):
        inputs = [keras.Input(array.shape[1:], dtype=array.dtype.name, name=f"x{i}") for i, array in enumerate(samples)]
        return keras.Model(inputs, make(place, *inputs))

    taps = []
    model = build(lambda x, *_: taps.append(x) or x)
    for i, layer in enumerate(model._flatten_layers()):
        if layer.weights and bake_layers and not isinstance(layer, keras.Model):
            bake(layer, i, per_channel)
    values = keras.Model(model.inputs, taps)(samples) if taps else []
    ranges = [(float(np.min(value)), float(np.max(value))) for value in values]

    def place(x, *fixed):
        low, high = fixed or ranges.pop(0)
        if fixed:
            ranges.pop(0)
        if bits == 16:
            most = 32767 / 32768 if fixed else max(-low, high)
            return FixedQuantizer(-most, most, bits=16, narrow=True)(x)
        return FixedQuantizer(min(low, 0), max(high, 0))(x)

    return build(place)


def interpreter(content):
    from ai_edge_litert.interpreter import Interpreter

    made = Interpreter(model_content=content, num_threads=1)
    made.allocate_tensors()
    return made


def run(content, samples):
    """Run a file sample by sample; return its first output."""
    made = interpreter(content)
    results = []
    for i in range(len(samples[0])):
        for detail, array in zip(made.get_input_details(), samples, strict=True):
            made.set_tensor(detail["index"], array[i : i + 1])
        made.invoke()
        results.append(made.get_tensor(made.get_output_details()[0]["index"]))
    return np.concatenate(results)


def convert(model, scheme=Scheme("static"), inference_io="float32", batch=1, per_channel=True):  # noqa: B008 (frozen)
    weights = planned(model, per_channel)
    return to_tflite(trace(model, batch), scheme=scheme, inference_io=inference_io, weights=weights)


def kernels(content):
    """Return {name: type of the output} of all operators but those at the borders."""
    return {op.name: op.outputs[0] for op in operators(content) if op.name not in BORDERS}


def constants(content, kind="INT8"):
    """Return [(integers, quantization)] of the constants of a type, in the file's order."""
    file = File(content)
    dtype = {"INT8": np.int8, "INT32": np.int32, "INT64": np.int64}[kind]
    found = []
    for graph in file.graphs:
        for index, tensor in enumerate(graph.tensors):
            data = file.model.buffers[tensor.buffer].data
            if graph.type(index) == kind and data is not None and len(data) and tensor.quantization is not None:
                values = np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype)
                found.append((values.reshape(graph.shape(index)), tensor.quantization))
    return found


def steps(model, content, samples):
    """Return the differences between the file and the model, in steps of the file's last grid."""
    file = File(content)
    graph = file.graphs[0]
    last = next(op for op in graph.operators[::-1] if graph.name(op) == "DEQUANTIZE")
    scale = graph.tensors[int(last.inputs[0])].quantization.scale[0]
    expected = np.asarray(model(samples))
    return np.abs(run(content, samples).reshape(expected.shape) - expected) / scale
