"""Layers that need operators that a format lacks are named, and nothing is written."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

from tfcompress.export import export


def preprocessing(layer, samples=(1,), dtype="int32"):
    inputs = keras.Input(samples, dtype=dtype, name="x")
    return keras.Model(inputs, L.Dense(2, name="y")(keras.ops.cast(layer(inputs), "float32")), name="net")


def nested(layer):
    inner = keras.Sequential([keras.Input((1,), dtype="int32"), layer], name="inner")
    return preprocessing(keras.Sequential([keras.Input((1,), dtype="int32"), inner], name="outer"))


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
@pytest.mark.parametrize("make", [preprocessing, nested], ids=["plain", "nested"])
def test_a_lookup_in_a_table_is_refused_with_the_name_of_the_layer(make, suffix, tmp_path):
    model = make(L.IntegerLookup(vocabulary=[1, 2, 3], output_mode="one_hot", name="look_2"))
    with pytest.raises(ValueError, match=r"Received: layer 'look_2' of model 'net', .*LookupTable.*before the model"):
        export(model, tmp_path / f"model{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("layer", "samples", "operator", "in_onnx"),
    [
        (lambda: L.CategoryEncoding(5, name="encode"), (4,), "FlexDenseBincount", True),
        (lambda: L.Hashing(5, name="encode"), (1,), "FlexStringToHashBucketFast", False),
    ],
    ids=["category encoding", "hashing"],
)
def test_onnx_is_proposed_where_it_has_the_operator(layer, samples, operator, in_onnx, tmp_path):
    model = preprocessing(layer(), samples)
    with pytest.raises(ValueError, match=rf"layer 'encode' of model 'net', .*{operator}.*tf\.data") as refused:
        export(model, tmp_path / "model.tflite")
    assert ("export to .onnx" in str(refused.value)) is in_onnx
    assert not list(tmp_path.iterdir())
    if in_onnx:
        assert export(model, tmp_path / "model.onnx").parity.outputs["y"].max_rel < 1e-6
    else:
        with pytest.raises(ValueError, match=r"layer 'encode' of model 'net', .*is not supported"):
            export(model, tmp_path / "model.onnx")


def test_of_a_model_of_text_the_part_behind_the_text_is_proposed(tmp_path):
    words = L.TextVectorization(output_sequence_length=4, vocabulary=["a", "cat", "dog"], name="words")
    model = keras.Sequential([keras.Input((1,), dtype="string", name="text"), words, L.Embedding(5, 3), L.Flatten()])
    with pytest.raises(ValueError, match="input 'text', which is string") as error:
        export(model, tmp_path / "model.onnx")
    made = eval(str(error.value).partition("export ")[2].rstrip("."), {"keras": keras, "model": model})
    ids = np.asarray(words(np.array([["a dog"], ["the cat"]])))
    artifact = export(made, tmp_path / "model.onnx", verify=ids)
    np.testing.assert_allclose(artifact.predict(ids), np.asarray(keras.tree.flatten(made(ids))[0]), atol=1e-6)
