"""The table of layers: what mixed precision adds to it. (What compression adds is tested where it is made.)"""

import keras

import tfcompress as tfc


def test_of_a_model_in_mixed_precision():
    layers = [keras.Input((8,)), keras.layers.Dense(4, name="hidden"), keras.layers.Dense(2, name="logits")]
    model = keras.Sequential(layers)
    mixed = tfc.summary(tfc.prune_once(tfc.mixed_precision(model, "mixed_bfloat16"), 0.5))
    assert {row.layer: row.precision for row in mixed.rows} == {"hidden": "bfloat16", "logits": "float32"}
    assert "computes in" in str(mixed)
    assert "computes in" not in str(tfc.summary(model))
    quantized = str(tfc.summary(tfc.quantize(tfc.mixed_precision(model, "mixed_bfloat16"), "int8")))
    assert "computes in" in quantized


def test_long_paths_of_kernels_leave_room_for_names_of_layers():
    recurrent = keras.layers.Bidirectional(keras.layers.GRU(2), name="reads_both_ways")
    pruned = tfc.prune_once(keras.Sequential([keras.Input((3, 4)), recurrent]), 0.5)
    assert tfc.summary(pruned).table(100).count("reads_both_ways") == 4
