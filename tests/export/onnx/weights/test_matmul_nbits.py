"""MatMulNBits: the same weights in ONNX Runtime's own operator, where that is no slower than float."""

import keras
import numpy as np
import onnx
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.evaluation import onnx_weights
from tfcompress.evaluation.file_constants import count_onnx
from tfcompress.export.onnx.weights.matmul_nbits import PackedMatrix, slower
from tfcompress.quantization.encoding import Affine


def test_a_matrix_is_packed_and_read_again():
    random = np.random.default_rng(0)
    integers = random.integers(-7, 8, (64, 5)).astype("int8")
    scale = random.uniform(1, 2, (2, 5)).astype("float32")
    made = PackedMatrix.of(Affine(integers, scale, bits=4))
    assert made.data.shape == (5, 2, 16) and made.block == 32
    assert made.data[0, 0, 0] == (integers[0, 0] + 8) | (integers[1, 0] + 8) << 4
    np.testing.assert_array_equal(made.integers, integers)
    np.testing.assert_array_equal(made.integers * made.spread(), Affine(integers, scale, bits=4).decode())
    odd = PackedMatrix.of(Affine(integers[:50], scale[:1], bits=4))  # the last block isn't full
    np.testing.assert_array_equal(odd.integers * odd.spread(), integers[:50] * scale[:1])
    assert odd.data.shape[1] * odd.block >= 50


def test_the_rule():
    assert not any(slower(*sizes) for sizes in ((512, 256), (1024, 128), (1024, 1024)))
    assert all(slower(*sizes) for sizes in ((256, 4096), (4096, 64), (512, 128)))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    keras.utils.set_random_seed(0)
    layers = [L.Dense(256, activation="relu", name="large"), L.Dense(8, name="small")]
    model = tfc.quantize(keras.Sequential([keras.Input((512,), name="x"), *layers]), "int4_blockwise")
    folder = tmp_path_factory.mktemp("files")
    return model, {way: tfc.export(model, folder / f"{way}.onnx", weights=way) for way in ("plain", "coded", "auto")}


def test_only_auto_has_operators_of_one_runtime_and_only_for_large_matrices(files):
    _, found = files
    graphs = {way: onnx.load(one.path).graph for way, one in found.items()}
    kinds = {way: [(node.op_type, node.domain) for node in graph.node] for way, graph in graphs.items()}
    assert [kind for kind, domain in kinds["auto"] if domain == "com.microsoft"] == ["MatMulNBits"]
    assert not any(domain == "com.microsoft" for way in ("plain", "coded") for _, domain in kinds[way])
    assert found["auto"].nbytes < found["coded"].nbytes + 500 < found["plain"].nbytes
    assert [found[way].precision for way in found] == ["int4 weights", "int4 weights", "dynamic int4"]
    said = {one.layer: (one.type, one.why) for one in found["auto"].operators.narrow}
    assert said["large"][0] == "int4" and "ONNX Runtime alone has" in said["large"][1]
    assert "longer than float for 256 x 8" in said["small"][1]
    plain = found["plain"].operators.narrow
    assert {(one.type, one.why) for one in plain} == {("int8", "weights='auto' or 'coded' stores them in fewer")}


def test_files_have_the_same_weights(files):
    _, found = files
    weights = [{w.values.shape: w.values for w in onnx_weights.weights(one.path)} for one in found.values()]
    for shape, values in weights[0].items():
        for other in weights[1:]:
            np.testing.assert_array_equal(other[shape], values)
    assert len({count_onnx(one.path).nonzeros for one in found.values()}) == 1


def test_the_proof_allows_what_rounding_the_inputs_makes_and_says_so(files):
    model, found = files
    plain, auto = (found[way].parity.outputs["small"] for way in ("plain", "auto"))
    assert plain.noise is None and plain.max_rel < 1e-5
    assert 1e-5 < auto.max_rel < 0.02 and auto.noise > 0
    assert auto.tolerance < 0.05 * auto.max_abs / auto.max_rel
    x = np.random.default_rng(1).normal(size=(4, 512)).astype("float32")
    np.testing.assert_allclose(found["auto"].predict(x), model(x), atol=0.05)


def test_scales_for_each_channel_are_repeated_for_each_block(tmp_path):
    keras.utils.set_random_seed(0)
    model = tfc.quantize(keras.Sequential([keras.Input((520,)), L.Dense(256)]), "int4_weights")
    artifact = tfc.export(model, tmp_path / "m.onnx", weights="auto", opset=21)
    assert "MatMulNBits" in [node.op_type for node in onnx.load(artifact.path).graph.node]
    (weight,) = onnx_weights.weights(artifact.path)
    (encoded,) = model.layers[-1].encoded().values()
    np.testing.assert_array_equal(weight.values, encoded.decode())


def test_what_a_gemm_adds_besides_a_bias_is_added_behind_it(tmp_path):
    """With fixed sizes a product and a residual are one Gemm."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((512,))
    model = keras.Model(inputs, L.Add()([L.Dense(512, use_bias=False)(inputs), inputs]))
    artifact = tfc.export(
        tfc.quantize(model, "int4_weights"), tmp_path / "m.onnx", weights="auto", batch_size=1
    )  # it is run and compared
    assert {"MatMulNBits", "Add"} <= {node.op_type for node in onnx.load(artifact.path).graph.node}
