"""`tfc.compare_codebooks`: what each codebook loses of each kernel."""

from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc


def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((20,)), L.Dense(30, name="hidden"), L.ReLU(), L.Dense(3, name="logits")])


def test_errors_are_those_of_the_clustered_model(tmp_path):
    given = model()
    found = tfc.compare_codebooks(given, bits=(2, 4))
    for method, fields in [("kmeans", {"init": "kmeans"}), ("power_of_two", {"codebook": "power_of_two"})]:
        for bits in (2, 4):
            count = 2**bits - ("codebook" in fields)
            seen = tfc.strip(tfc.cluster(given, count, preserve_sparsity=False, **fields))
            for name in ("hidden", "logits"):
                before, after = (np.asarray(each.get_layer(name).kernel, float) for each in (given, seen))
                row = next(r for r in found.rows if (r.layer, r.method, r.bits) == (name, method, bits))
                assert row.relative_error == pytest.approx(np.square(before - after).sum() / np.square(before).sum())
    assert found.signal_to_noise("kmeans", 4) == max(found.signal_to_noise(method, 4) for method in found.methods)
    by_channel = tfc.compare_codebooks(given, bits=[4], methods=["kmeans"], granularity="per_channel")
    assert by_channel.signal_to_noise("kmeans", 4) > found.signal_to_noise("kmeans", 4)
    text = str(found)
    assert "additive power of two" in text.replace("\n", " ") or "additive" in text
    assert json.loads(found.to_json(tmp_path / "c.json").read_text())["sizes"] == {
        "hidden/kernel": 600,
        "logits/kernel": 90,
    }
    assert found.plot(tmp_path / "c.png").stat().st_size > 1000


def test_a_table_that_holds_every_weight_is_exact():
    given = tfc.strip(tfc.cluster(model(), 4))
    found = tfc.compare_codebooks(given, bits=[2], methods=["kmeans"])
    assert found.signal_to_noise("kmeans", 2) > 100 or found.signal_to_noise("kmeans", 2) == math.inf


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"bits": 4}, "several values"),
        ({"bits": [1]}, "from 2 to 8"),
        ({"methods": ["k-means"]}, "Did you mean 'kmeans'"),
        ({"granularity": "channel"}, "Did you mean 'per_channel'"),
        ({"layers": "hiden"}, "Did you mean 'hidden'"),
        ({"layers": L.ReLU}, "none has a kernel"),
    ],
)
def test_what_cannot_be_compared_is_refused(how, said):
    with pytest.raises(ValueError, match=said):
        tfc.compare_codebooks(model(), **how)
