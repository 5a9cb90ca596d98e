"""Files without zeros: the form, which weights get it, and that the runtime computes the same."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import tfcompress as tfc
from tfcompress.evaluation.file_constants import count_tflite
from tfcompress.export.tflite import sparse as sparse_module
from tfcompress.export.tflite.flatbuffer import File, operators
from tfcompress.export.tflite.sparse_encoding import densify, encode, parameters
from tfcompress.export.tflite.sparse_weights import SPARSE_VERSION


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def blocks(inputs, outputs, share, size, seed=0):
    """A kernel of which `share` of the blocks of `size` inputs aren't zero."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(inputs // size * outputs, bool)
    mask[generator.permutation(mask.size)[: round(share * mask.size)]] = True
    return random(inputs, outputs, seed=seed) * np.repeat(mask.reshape(-1, outputs), size, axis=0)


def mlp(share, size, units=(64, 96, 80, 32)):
    stack = [*(layers.Dense(n, activation="relu") for n in units[1:-1]), layers.Dense(units[-1])]
    model = keras.Sequential([keras.Input((units[0],), name="x"), *stack])
    for seed, layer in enumerate(model.layers):
        kernel = blocks(*layer.kernel.shape, share, size, seed)
        layer.set_weights([kernel, random(layer.units, seed=seed)])
    of_one_size(model.layers[-1])
    return model


def of_one_size(layer):
    """Let all outputs of a layer vary alike: with one of much smaller size it would stay float."""
    kernel, bias = layer.get_weights()
    norms = np.linalg.norm(kernel, axis=0)
    layer.set_weights([kernel * 5 / np.where(norms, norms, 1), bias])


def cnn(share=0.15):
    stack = [
        layers.Conv2D(32, 3, activation="relu"),
        layers.Conv2D(64, 1, activation="relu"),
        layers.DepthwiseConv2D(3, depth_multiplier=1),
        layers.Conv2DTranspose(32, 2, strides=2),
        layers.GlobalAveragePooling2D(),
        layers.Dense(64),
    ]
    model = keras.Sequential([keras.Input((12, 12, 8), name="x"), *stack])
    for seed, layer in enumerate(layer for layer in model.layers if layer.weights):
        kernel, bias = layer.get_weights()
        kernel = random(*kernel.shape, seed=seed) * (np.random.default_rng(seed).random(kernel.shape) < share)
        layer.set_weights([kernel.astype("float32"), random(*bias.shape, seed=seed)])
    of_one_size(model.layers[-1])
    return model


def kernels_of(path):
    """{(operator, version): how often}, and how many constants are sparse."""
    content = path.read_bytes()
    found = [(op.name, op.version) for op in operators(content)]
    return {key: found.count(key) for key in found}, [
        graph.tensors[i] for graph in File(content).graphs for i in range(len(graph.tensors))
        if graph.tensors[i].sparsity is not None
    ]  # fmt: skip


def shapes(tensors):
    return {tuple(map(int, tensor.shape)) for tensor in tensors}


@pytest.mark.parametrize("shape", [(5, 48), (3, 2, 2, 16), (1, 3, 3, 64), (4, 300), (7,)])
@pytest.mark.parametrize("block", [1, 4, 16])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_form_stands_for_its_constant(shape, block, share):
    generator = np.random.default_rng(1)
    values = generator.normal(size=shape).astype("float32") * (generator.random(shape) < share)
    form = encode(values, block)
    if shape[-1] % block:
        assert form is None
        return
    np.testing.assert_array_equal(densify(form.values, parameters(schema, form), shape), values)
    stored = np.count_nonzero((values.reshape(-1, block) != 0).any(axis=1))
    assert form.values.size == block * stored
    assert form.nbytes == form.values.nbytes + form.segments.nbytes + form.indices.nbytes
    assert form.indices.dtype.itemsize == (1 if shape[-1] // block <= 256 or share == 0 else 2)


def test_forms_of_other_tools():
    """Columns first, and blocks of 2 x 2, as the schema allows."""
    values = np.array([[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]], "int8")

    def dense(size):
        level = schema.DimensionMetadataT()
        level.denseSize = size
        return level

    def sparse(segments, indices):
        level = schema.DimensionMetadataT()
        level.format = schema.DimensionType.SPARSE_CSR
        level.arraySegments, level.arrayIndices = schema.Int32VectorT(segments), schema.Int32VectorT(indices)
        return level

    square = schema.SparsityParametersT([0, 1, 2, 3], [0, 1], [dense(2), sparse([0, 1, 2], [0, 1]), dense(2), dense(2)])
    np.testing.assert_array_equal(densify(np.arange(1, 9, dtype="int8"), square, (4, 4)), values)
    by_column = schema.SparsityParametersT([1, 0], None, [dense(4), sparse([0, 2, 4, 6, 8], [0, 1, 0, 1, 2, 3, 2, 3])])
    stored = np.array([1, 3, 2, 4, 5, 7, 6, 8], "int8")
    np.testing.assert_array_equal(densify(stored, by_column, (4, 4)), values)


def test_float_kernels_compute_without_zeros(tmp_path):
    model = mlp(0.1, 4)
    dense = tfc.export(model, tmp_path / "dense.tflite")
    found = tfc.export(model, tmp_path / "sparse.tflite", sparse=True)
    assert dense.notes == ()
    assert found.nbytes == found.path.stat().st_size < dense.nbytes / 3
    assert found.parity is not None
    counts, constants = kernels_of(found.path)
    # XNNPACK would read the weights of any other version as if they were dense.
    assert counts == {("FULLY_CONNECTED", SPARSE_VERSION): 3}
    assert shapes(constants) == {(96, 64), (80, 96), (32, 80)}
    x = random(20, 64, seed=9)
    np.testing.assert_allclose(found.predict(x), np.asarray(model(x)), rtol=1e-5, atol=1e-5)
    assert found.notes == (
        f"sparse: 3 weights stored without zeros, {found.nbytes:,} bytes instead of {dense.nbytes:,} "
        "(3 computed without zeros, faster than dense).",
    )
    assert found.notes[0] in str(found)


def test_float_kernels_that_would_be_slow_are_widened(tmp_path):
    model = mlp(0.25, 1)
    found = tfc.export(model, tmp_path / "sparse.tflite", sparse=True)
    counts, constants = kernels_of(found.path)
    assert counts.pop(("DENSIFY", 1)) == len(constants) == 3
    assert [name for name, _ in counts] == ["FULLY_CONNECTED"]
    assert ("FULLY_CONNECTED", SPARSE_VERSION) not in counts
    dense = tfc.export(model, tmp_path / "dense.tflite")
    assert found.nbytes < 0.6 * dense.nbytes
    x = random(20, 64, seed=9)
    np.testing.assert_array_equal(found.predict(x), dense.predict(x))  # the same kernels on the same numbers
    # A batch makes a matrix of the vector, and dense kernels the faster ones.
    batch = tfc.export(mlp(0.1, 4), tmp_path / "batch.tflite", batch_size=8, sparse=True)
    assert kernels_of(batch.path)[0][("DENSIFY", 1)] == 3
    free = tfc.export(mlp(0.1, 4), tmp_path / "free.tflite", batch_size=None, sparse=True)
    assert kernels_of(free.path)[0][("DENSIFY", 1)] == 3


@pytest.mark.parametrize("recipe", ["int8", "dynamic_int8"])
def test_int8_kernels_take_blocks_of_16(recipe, tmp_path):
    model = mlp(0.1, 16, (128, 160, 32))
    quantized = tfc.quantize(model, recipe, data=random(64, 128))
    dense = tfc.export(quantized, tmp_path / "dense.tflite")
    found = tfc.export(quantized, tmp_path / "sparse.tflite", sparse=True)
    assert kernels_of(found.path)[0][("FULLY_CONNECTED", SPARSE_VERSION)] == 2
    assert found.nbytes < dense.nbytes / 2
    assert "slower than dense" in found.notes[0]
    x = random(50, 128, seed=9)
    ours, theirs = found.predict(x), dense.predict(x)
    step = dense.parity.outputs["dense_1"].scale or 1e-4  # what is rounded at run time alone comes out in float
    assert np.abs(ours - theirs).max() <= 1.01 * step
    assert count_tflite(found.path).nonzeros == count_tflite(dense.path).nonzeros
    # At a tenth of the blocks the integer kernel is the slower one.
    kept = tfc.export(quantized, tmp_path / "auto.tflite", sparse="auto")
    assert kept.nbytes == dense.nbytes
    assert kept.path.read_bytes() == dense.path.read_bytes()
    assert "all weights are stored dense" in kept.notes[0]
    assert "10% of its blocks of 16 inputs not all zero" in kept.notes[1]


@pytest.mark.filterwarnings("ignore:Channels of")  # one of the outputs is all but constant
@pytest.mark.parametrize(("recipe", "stored"), [("int8", 2), ("dynamic_int8", 0)])
def test_int8_kernels_that_are_faster_without_zeros(recipe, stored, tmp_path):
    model = mlp(0.04, 16, (128, 160, 64))
    quantized = tfc.quantize(model, recipe, data=random(64, 128))
    found = tfc.export(quantized, tmp_path / "auto.tflite", sparse="auto")
    assert len(kernels_of(found.path)[1]) == stored
    assert ("faster than dense" in found.notes[0]) == bool(stored)


def test_int8_without_blocks_stays_dense_and_says_so(tmp_path):
    model = mlp(0.2, 1, (64, 96, 40))
    quantized = tfc.quantize(model, "int8", data=random(64, 64))
    found = tfc.export(quantized, tmp_path / "m.tflite", sparse=True)
    assert kernels_of(found.path)[1] == []
    assert len(found.notes) == 3
    assert "too few zeros" in found.notes[1] or "not all zero" in found.notes[1]


@pytest.mark.parametrize("recipe", ["float32", "float16", "int8", "int8_weights", "dynamic_int8", "int16x8"])
def test_convolutions_of_every_scheme(recipe, tmp_path):
    model, data = cnn(), random(16, 12, 12, 8)
    precision = "float16" if recipe == "float16" else "float32"
    if not recipe.startswith("float"):
        model = tfc.quantize(model, recipe, data=data)
    dense = tfc.export(model, tmp_path / "dense.tflite", precision=precision)
    found = tfc.export(model, tmp_path / "sparse.tflite", precision=precision, sparse=True)
    assert found.nbytes < dense.nbytes
    counts, constants = kernels_of(found.path)
    # The kernels that round their input at run time read dense weights alone: the two others are left.
    assert counts[("DENSIFY", 1)] == len(constants) >= (1 if recipe == "dynamic_int8" else 3)
    np.testing.assert_array_equal(found.predict(data), dense.predict(data))
    counted = count_tflite(found.path)
    assert counted.left_out > 0
    assert (counted.parameters, counted.nonzeros) == (count_tflite(dense.path).parameters, counted.nonzeros)
    assert counted.nonzeros == count_tflite(dense.path).nonzeros
    if recipe == "dynamic_int8":
        assert any("rounds its input at run time" in note for note in found.notes)


@pytest.mark.parametrize("how", ["wrong numbers", "refused"])
def test_weights_that_the_runtime_fails_on_stay_dense(how, tmp_path, monkeypatch):
    """As if the runtime couldn't do it for one of the weights: found by running, and that one is left dense."""
    right, tried = sparse_module.apply, []

    def apply(content, choices):
        tried.append(len(choices))
        bad = [choice for choice in choices if choice.form.shape == (80, 96)]
        if not bad:
            return right(content, choices)
        if how == "wrong numbers":
            wrong = dataclasses.replace(bad[0].form, values=-bad[0].form.values)
            return right(content, [dataclasses.replace(c, form=wrong) if c is bad[0] else c for c in choices])
        file = File(right(content, choices))
        for code in file.model.operatorCodes:
            code.version = 99
        return file.to_bytes()

    monkeypatch.setattr(sparse_module, "apply", apply)
    model = mlp(0.1, 4)
    found = tfc.export(model, tmp_path / "m.tflite", sparse=True)
    assert tried == [3, 1, 1, 1, 2]
    assert shapes(kernels_of(found.path)[1]) == {(96, 64), (32, 80)}
    assert "2 weights stored without zeros" in found.notes[0]
    assert "stays dense: the runtime fails on it" in found.notes[1]
    x = random(20, 64, seed=9)
    np.testing.assert_allclose(found.predict(x), np.asarray(model(x)), rtol=1e-5, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]


def test_a_dense_model_stays_dense(tmp_path):
    model = mlp(1.0, 1)
    found = tfc.export(model, tmp_path / "m.tflite", sparse=True)
    assert found.path.read_bytes() == tfc.export(model, tmp_path / "dense.tflite").path.read_bytes()
    assert found.notes == (f"sparse: all weights are stored dense, {found.nbytes:,} bytes.",)


def test_weights_that_are_read_twice(tmp_path):
    shared = layers.Dense(64, name="shared")
    a, b = keras.Input((64,), name="a"), keras.Input((64,), name="b")
    model = keras.Model([a, b], shared(a) * keras.ops.tanh(shared(b)))
    for size in (4, 1):
        shared.set_weights([blocks(64, 64, 0.1 * size / 2, size), random(64)])
        found = tfc.export(model, tmp_path / f"{size}.tflite", sparse=True)
        assert len(kernels_of(found.path)[1]) == 1
        x = {"a": random(5, 64), "b": random(5, 64, seed=1)}
        np.testing.assert_allclose(found.predict(x), np.asarray(model(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("recipe", ["float32", "int8_weights"])
def test_tables_products_and_volumes(recipe, tmp_path):
    tokens, volume = keras.Input((6,), dtype="int32", name="tokens"), keras.Input((4, 4, 4, 8), name="volume")
    x = layers.Embedding(100, 32)(tokens)
    x = layers.Add()([x, layers.MultiHeadAttention(4, 16)(x, x)])
    y = layers.GlobalAveragePooling3D()(layers.Conv3D(32, 2)(volume))
    model = keras.Model([tokens, volume], layers.Concatenate()([layers.Flatten()(x), y]))
    model = tfc.prune_once(model, 0.9)
    data = {"tokens": np.arange(24).reshape(4, 6) * 4, "volume": random(4, 4, 4, 4, 8)}
    if recipe != "float32":
        model = tfc.quantize(model, recipe)
    dense = tfc.export(model, tmp_path / "dense.tflite")
    found = tfc.export(model, tmp_path / "sparse.tflite", sparse=True)
    counts, constants = kernels_of(found.path)
    assert len(constants) >= 4, (counts, found.notes)
    assert found.nbytes < 0.7 * dense.nbytes
    np.testing.assert_allclose(found.predict(data), dense.predict(data), rtol=1e-5, atol=1e-6)


def test_loops_keep_their_weights_and_say_so(tmp_path):
    model = tfc.prune_once(keras.Sequential([keras.Input((5, 16)), layers.GRU(32), layers.Dense(64)]), 0.9)
    found = tfc.export(model, tmp_path / "m.tflite", sparse=True)
    assert shapes(kernels_of(found.path)[1]) == {(64, 32)}
    assert any("a loop reads it" in note for note in found.notes)
    x = random(4, 5, 16)
    np.testing.assert_allclose(found.predict(x), np.asarray(model(x)), rtol=1e-4, atol=1e-5)


def test_without_verification_zeros_are_still_proven(tmp_path):
    found = tfc.export(mlp(0.1, 4), tmp_path / "m.tflite", sparse=True, verify=False)
    assert len(kernels_of(found.path)[1]) == 3
    assert found.parity is not None


def test_onnx_has_no_sparse_weights(tmp_path):
    model = mlp(0.1, 4)
    with pytest.raises(ValueError, match="Expected sparse=False or 'auto' for a .onnx file"):
        tfc.export(model, tmp_path / "m.onnx", sparse=True)
    found = tfc.export(model, tmp_path / "m.onnx", sparse="auto")
    assert "no kernels for sparse weights" in found.notes[0]


@pytest.mark.parametrize("sparse", [None, "yes", 1, 0.5])
def test_other_values_are_refused(sparse, tmp_path):
    with pytest.raises(ValueError, match="Expected sparse to be one of"):
        tfc.export(mlp(1.0, 1), tmp_path / "m.tflite", sparse=sparse)
