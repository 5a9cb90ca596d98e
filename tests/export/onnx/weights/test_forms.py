"""Each storage form of integer weights: what NumPy and what ONNX Runtime decode of it, and how large it is."""

import numpy as np
import onnx
import onnxruntime
import pytest

from tfcompress.export.onnx import functions
from tfcompress.export.onnx.weights import decoders
from tfcompress.export.onnx.weights.choice import FORMS, choose
from tfcompress.export.onnx.weights.form import Weight, Writer
from tfcompress.export.onnx.weights.table import LARGE

SAFE_OPSET, NEWEST = 18, 25


def weight(shape, zeros, values, seed=0):
    random = np.random.default_rng(seed)
    return Weight(np.where(random.random(shape) < zeros, 0, random.choice(values, shape)).astype(np.int8))


WEIGHTS = {
    "4 bits, half of it zeros": weight((8, 5, 3, 3), 0.5, [-7, -3, 1, 2, 5, 7]),
    "the first and the last": Weight(np.array([1] + [0] * 97 + [-3], np.int8).reshape(9, 11)),
    "few values far from 0": weight((31, 17), 0.0, [-100, 90, 127]),
    "nearly all zeros": weight((64, 70), 0.99, [-128, -5, 5, 127]),
    "one bit": weight((9, 11), 0.0, [-1, 1]),
    "all values": weight((40, 41), 0.2, np.arange(-128, 128)),
    "nothing but zeros": weight((3, 5), 1.0, [1]),
}


def written(writer, outputs, shape, opset):
    """Return a model that decodes what was written, and nothing else."""
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT8, shape) for name in outputs]
    graph = onnx.helper.make_graph(writer.nodes, "graph", [], values, writer.constants)
    imports = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid(functions.DOMAIN, 1)]
    called = decoders.functions(writer.decoders, opset)
    ir = functions.LEAST_IR if opset == SAFE_OPSET else 13
    return onnx.helper.make_model(graph, opset_imports=imports, functions=called, ir_version=ir)


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_form_gives_the_integers_back(name):
    """In NumPy, and in ONNX Runtime of the file's own decoders; all forms that fit in one file."""
    whole = WEIGHTS[name]
    shape = whole.integers.shape
    fitting = [form for form in FORMS if form.nbytes(whole) is not None and form.nbytes(whole) < 3 * shape[0] * 100]
    assert len(fitting) > 1
    for opset in (SAFE_OPSET, NEWEST):
        writer, forms = Writer(set()), [form for form in fitting if form.opset <= opset]
        for place, form in enumerate(forms):
            parts = form.encode(whole)
            np.testing.assert_array_equal(form.decode(parts, shape), whole.integers, str(form))
            form.write(parts, shape, writer, f"weight{place}")
        names = [f"weight{place}" for place in range(len(forms))]
        proto = written(writer, names, shape, opset)
        onnx.checker.check_model(proto, full_check=True)
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        for form, value in zip(forms, session.run(names, {}), strict=True):
            assert value.dtype == np.int8
            np.testing.assert_array_equal(value, whole.integers, str(form))


@pytest.mark.parametrize("name", WEIGHTS)
def test_bytes_are_what_is_written(name):
    whole = WEIGHTS[name]
    for form in FORMS:
        if (said := form.nbytes(whole)) is None:
            continue
        writer = Writer(set())
        form.write(form.encode(whole), whole.integers.shape, writer, "w")
        made = sum(one.ByteSize() + 2 for one in (*writer.constants, *writer.nodes))
        made -= 4 * sum("coded" in x for one in writer.nodes for x in (*one.input, *one.output))  # are shortened
        assert abs(said - made) <= 40, str(form)


@pytest.mark.parametrize(
    ("name", "opset", "expected"),
    [
        ("4 bits, half of it zeros", 18, "int8"),  # no decoder is worth its bytes
        ("4 bits, half of it zeros", 21, "INT4"),
        ("one bit", 25, "INT2"),
        ("nearly all zeros", 25, "gaps with 6-bit remainders, 8-bit codes"),
    ],
)
def test_the_smallest_is_chosen(name, opset, expected):
    (chosen,) = choose([WEIGHTS[name]], opset)
    assert str(chosen) == expected


def test_decoders_are_counted_once():
    """What isn't worth a decoder for one weight is for ten of them."""
    one = weight((24, 30), 0.7, [-3, -2, -1, 1, 2, 3])
    assert {str(form) for form in choose([one], SAFE_OPSET)} == {"int8"}
    assert {str(form) for form in choose([one] * 10, SAFE_OPSET)} == {"1-bit mask, 3-bit codes"}


def test_a_large_weight_has_no_table_where_it_needs_none():
    """Unpacking it takes a tenth of the time."""
    large = weight((LARGE // 64, 64), 0.1, np.arange(-7, 8))
    assert {str(form) for form in choose([large], SAFE_OPSET)} == {"4-bit integers"}
    assert {str(form) for form in choose([weight((LARGE // 64, 64), 0.1, [-90, 5, 100])], SAFE_OPSET)} == {
        "table, 2-bit indices"
    }


def test_nothing_is_chosen_of_nothing():
    assert choose([], SAFE_OPSET) == []
