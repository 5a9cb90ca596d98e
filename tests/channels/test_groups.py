"""Which channels depend on each other, in models of all shapes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.graph.networks import NETWORKS, OUTPUT
from tfcompress.channels import Slice, channel_groups
from tfcompress.graph import rebuild


def groups_of(name):
    return {group.name: group for group in channel_groups(rebuild(NETWORKS[name].make(), check=False))}


def where(group, role=None):
    """The slices of a group as (layer, position, axis, start, outer, inner)."""
    return {
        (part.layer, part.position, part.axis, part.start, part.outer, part.inner)
        for part in group.slices
        if role in (None, part.role)
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_have_their_sizes_and_reasons(name):
    found = groups_of(name)
    expected = NETWORKS[name].groups
    assert {key: group.size for key, group in found.items()} == {key: size for key, (size, _) in expected.items()}
    for key, (_, reason) in expected.items():
        assert (found[key].reason is None) == (reason is None), (key, found[key].reason)
        assert reason is None or reason in found[key].reason, key


@pytest.mark.parametrize("name", NETWORKS)
def test_slices_lie_in_the_weights_and_apart(name):
    model = rebuild(NETWORKS[name].make(), check=False)
    taken: dict[tuple[str, int, int], set[int]] = {}
    for group in channel_groups(model):
        assert group.producers[0] in group.name
        for part in group.slices:
            indices = part.indices(group.size, range(group.size))
            assert len(set(indices.tolist())) == group.size * part.outer * part.inner
            assert indices.max() < model.get_layer(part.layer).weights[part.position].shape[part.axis]
            others = taken.setdefault((part.layer, part.position, part.axis), set())
            assert not others & set(indices.tolist())
            others.update(indices.tolist())


def test_indices_of_a_slice():
    part = Slice("head", 0, 0, "consumer", start=5, outer=2, inner=3)
    assert part.indices(4, [2, 0]).tolist() == [5, 6, 7, 11, 12, 13, 17, 18, 19, 23, 24, 25]
    assert part.indices(4, []).tolist() == []
    apart = Slice("head", 0, 0, "consumer", start=1, outer=2, inner=2, gap=1)
    assert apart.indices(3, [0, 2]).tolist() == [1, 2, 5, 6, 8, 9, 12, 13]


def test_plain_network_in_full():
    found = groups_of("plain")
    assert where(found["a"], "producer") == {("a", 0, 3, 0, 1, 1)}
    assert where(found["a"], "follower") == {("a", 1, 0, 0, 1, 1), *(("norm", at, 0, 0, 1, 1) for at in range(4))}
    assert where(found["a"], "consumer") == {("b", 0, 2, 0, 1, 1)}
    # 8 x 8 after the first convolution, 4 x 4 after pooling
    assert where(found["b"], "consumer") == {("c", 0, 0, 0, 16, 1)}


def test_residual_groups_are_pruned_together():
    found = groups_of("residual")
    assert found["stem"].producers == ("stem", "one_b")
    assert where(found["stem"], "consumer") == {(layer, 0, 2, 0, 1, 1) for layer in ("one_a", "two_a", "two_short")}
    assert found["two_a"].producers == ("two_a", "two_short")
    assert ("slopes", 0, 2, 0, 1, 1) in where(found["two_a"], "follower")


def test_multipliers_and_groups_have_several_indices_for_each_channel():
    found = groups_of("depthwise")["a"]
    assert where(found, "follower") >= {("dw", 0, 2, 0, 1, 1), ("dw", 1, 0, 0, 1, 2), ("norm", 0, 0, 0, 1, 2)}
    assert where(found, "consumer") == {("b", 0, 2, 0, 1, 2)}
    found = groups_of("grouped")["a"]
    assert where(found, "producer") == {("a", 0, 3, 0, 1, 3)}
    assert where(found, "follower") == {("a", 1, 0, 0, 1, 3), ("groups", 0, 3, 0, 1, 2), ("groups", 1, 0, 0, 1, 2)}
    assert where(found, "consumer") == {("head", 0, 0, 0, 16, 2)}
    found = groups_of("separable")["a"]
    assert where(found, "consumer") == {("b", 1, 2, 0, 1, 2)}


def test_concatenated_channels_have_their_places():
    found = groups_of("concatenated")
    assert where(found["b"]) >= {("norm", 0, 0, 4, 1, 1), ("c", 0, 2, 4, 1, 1)}
    # Flattened, 3 x 3 places of 9 channels each.
    flattened = [part for part in found["c"].slices if part.layer == "head"]
    assert flattened == [Slice("head", 0, 0, "consumer", start=7, outer=9, gap=7)]
    assert flattened[0].indices(2, [0, 1]).tolist() == [9 * place + at for place in range(9) for at in (7, 8)]
    found = groups_of("partly_added")
    assert where(found["second"], "producer") == {("whole", 0, 3, 3, 1, 1), ("second", 0, 3, 0, 1, 1)}


def test_heads_and_widths_of_attention():
    found = groups_of("transformer")
    assert [found[name].kind for name in ("mha_query", "mha_query_1", "mha_value", "up")] == [
        *("attention_head", "attention_width", "attention_width", "channel")
    ]
    heads = found["mha_query"]
    assert where(heads, "producer") == {(f"mha_{part}", 0, 1, 0, 1, 1) for part in ("query", "key", "value")}
    assert where(heads, "consumer") == {("mha_attention_output", 0, 0, 0, 1, 1)}
    assert found["mha_query_1"].producers == ("mha_query", "mha_key")
    assert where(found["mha_value"], "consumer") == {("mha_attention_output", 0, 1, 0, 1, 1)}
    by_hand = groups_of("attention_by_hand")["key"]
    assert by_hand.kind == "attention_head"
    assert where(by_hand, "producer") == {(name, 0, 1, 0, 1, 3) for name in ("query", "key", "value")}
    assert where(by_hand, "consumer") == {("head", 0, 0, 0, 1, 3)}


def test_attention_with_scores_dropped_out_has_the_same_groups():
    inputs = keras.Input((6, 8))
    x = L.MultiHeadAttention(4, 3, value_dim=5, dropout=0.1, name="mha")(inputs, inputs)
    found = {group.name: group for group in channel_groups(rebuild(keras.Model(inputs, x), check=False))}
    assert [(group.kind, group.size) for group in found.values()] == [
        *(("attention_head", 4), ("attention_width", 3), ("attention_width", 5), ("channel", 8))
    ]
    assert [group.reason for group in found.values()] == [None, None, None, OUTPUT]


def test_heads_that_share_keys_go_together():
    heads = groups_of("shared_keys")["gqa_value"]
    assert heads.kind == "attention_head"
    assert where(heads, "producer") == {
        *(("gqa_value", 0, 1, 0, 1, 1), ("gqa_key", 0, 1, 0, 1, 1), ("gqa_query", 0, 1, 0, 1, 2))
    }
    assert where(heads, "consumer") == {("gqa_attention_output", 0, 0, 0, 1, 2)}


def test_a_layer_that_is_called_on_an_input_too_is_blocked():
    inputs = keras.Input((4,))
    shared = L.Dense(4, name="shared")
    x = shared(shared(inputs))
    (group, _) = channel_groups(rebuild(keras.Model(inputs, L.Dense(2, name="head")(x)), check=False))
    assert group.name == "shared" and "layer 'shared' of class Dense combines it with an input" in group.reason


def test_wrapped_layers_have_the_positions_of_the_layer_inside():
    model = NETWORKS["residual"].make()
    plain = channel_groups(rebuild(model, check=False))
    assert channel_groups(tfc.prune(model, 0.5)) == plain


def test_quantizers_are_transparent():
    model = NETWORKS["plain"].make()
    found = channel_groups(tfc.quantize(model, data=np.ones((4, 10, 10, 3), "float32")))
    assert {group.name: group.size for group in found if not group.reason} == {"a": 6, "b": 8, "c": 7}


@pytest.mark.parametrize(
    "change",
    [
        lambda x: ops.flip(x, axis=-1),
        lambda x: ops.average(x, axis=-1),
        lambda x: ops.clip(x, np.arange(4) - 9.0, np.arange(4) + 0.0),
        lambda x: ops.cumsum(x, axis=-1),
        lambda x: ops.split(x, 2, axis=-1)[0],
        lambda x: ops.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1))),
        lambda x: ops.tile(x, (1, 1, 1, 2)),
        lambda x: ops.repeat(x, [1, 2, 1, 2], axis=-1),
        L.UnitNormalization(),
        L.Dense(4, activation=lambda y: y * 2, name="own"),
        L.Lambda(lambda y: y * 2),
        L.Rescaling([1.0, 2.0, 3.0, 4.0]),
        lambda x: ops.sum(x, axis=-1, keepdims=True),
        lambda x: ops.nn.depth_to_space(x, 2),
    ],
)
def test_what_mixes_channels_blocks(change):
    inputs = keras.Input((4, 4, 2))
    x = change(L.Conv2D(4, 1, name="a")(inputs))
    model = keras.Model(inputs, L.Dense(2, name="head")(L.Flatten()(x)))
    found = {group.name: group for group in channel_groups(model)}
    assert found["own" if "own" in found else "a"].reason


def test_a_mask_of_scores_is_followed():
    inputs, mask = keras.Input((6, 8)), keras.Input((1, 6, 6), dtype="bool")
    x = L.MultiHeadAttention(4, 3, name="mha")(inputs, inputs, attention_mask=mask[:, 0])
    found = channel_groups(rebuild(keras.Model([inputs, mask], x), check=False))
    assert [(group.kind, group.size, group.reason) for group in found[:1]] == [("attention_head", 4, None)]
    scores = L.EinsumDense("btd,dh->bth", (None, 4), name="scores")(inputs)
    x = L.Softmax(axis=1)(scores, mask=mask[:, 0, :, :4])
    found = channel_groups(keras.Model([inputs, mask], L.Dense(2, name="head")(x)))
    assert "of class Softmax combines it with an input of the model" in found[0].reason


def test_channels_first_are_found_in_their_axis():
    inputs = keras.Input((3, 8, 8))
    x = L.Conv2D(4, 3, data_format="channels_first", name="a")(inputs)
    x = L.BatchNormalization(axis=1, name="norm")(x)
    x = L.Flatten(data_format="channels_first")(x)
    found = channel_groups(keras.Model(inputs, L.Dense(2, name="head")(x)))[0]
    assert found.reason is None
    assert where(found, "consumer") == {("head", 0, 0, 0, 36, 1)}


def test_reshape_to_heads_of_unknown_length():
    inputs = keras.Input((None, 6))
    x = L.Reshape((-1, 4, 3))(L.Dense(12, name="a")(inputs))
    x = L.EinsumDense("bthd,hdo->bto", output_shape=(None, 2), name="head")(x)
    found = channel_groups(keras.Model(inputs, x))[0]
    assert (found.name, found.size, found.reason) == ("a", 4, None)
    assert where(found, "producer") == {("a", 0, 1, 0, 1, 3)}
    assert where(found, "consumer") == {("head", 0, 0, 0, 1, 1)}


@pytest.mark.parametrize(("name", "count"), [("ResNet50", 38), ("MobileNetV2", 26)])
def test_nearly_all_groups_of_known_networks_can_lose_channels(name, count):
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=10)
    found = channel_groups(model)
    assert [group.name for group in found if group.reason] == ["predictions"]
    assert len(found) == count
