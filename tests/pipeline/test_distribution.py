"""What is set up to train on several devices, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfcompress.data.epoch_batches import WholeBatches
from tfcompress.data.splits import ArraySplit
from tfcompress.pipeline.distribution import ONE, Devices, batch_parts, layout_map, start


def zeros(samples):
    return ArraySplit(np.zeros(samples), np.zeros(samples))


def test_all_parts_are_the_batches_of_one_process_and_every_epoch_has_another_order():
    x = np.arange(23)
    seen = []
    for parts in (1, 3):
        np.random.seed(5)
        seed = np.random.get_state()
        sets = []
        for part in range(parts):
            np.random.set_state(seed)
            sets.append(WholeBatches(x, -x, 6, part, parts))
        epochs = []
        for _ in range(2):
            assert {len(one) for one in sets} == {3}
            batches = [[np.concatenate(half) for half in zip(*(one[i] for one in sets), strict=True)] for i in range(3)]
            epochs.append(np.stack([batch[0] for batch in batches]))
            assert all(np.all(batch[0] == -batch[1]) for batch in batches)
            for one in sets:
                one.on_epoch_end()
        assert len(np.unique(epochs[0])) == 18
        assert np.any(epochs[0] != epochs[1])
        seen.append(epochs)
    np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize(
    ("process", "processes", "parts", "part", "feeding"),
    [(1, 2, 4, 1, 2), (1, 2, 1, 0, 1), (3, 4, 2, 1, 2), (2, 4, 4, 2, 4)],
)
def test_each_process_feeds_its_part(process, processes, parts, part, feeding):
    devices = Devices("model_parallel", 4, parts, process, processes)
    made = devices.batches(zeros(8), 4)
    assert (made.part, made.parts) == (part, feeding)
    assert devices.writes == (process == 0)


def test_what_does_not_go_together_is_refused():
    for refused, words in [
        (lambda: start("both"), "Expected one of none, mirrored"),
        (lambda: start("multi_worker_mirrored"), "keras/issues/20585.*KERAS_BACKEND=jax"),
        (lambda: start("none", devices=2), "with one of the distributions"),
        (lambda: start("none", num_processes=2), "num_processes with 'data_parallel'"),
        (lambda: start("none", model_devices=2), "model_devices with 'model_parallel'"),
        (lambda: Devices("model_parallel", 6, 3, 0, 2), "3 parts and 2 processes"),
        (lambda: batch_parts([2, 1], 1), "Received: 2, 1. Ask for devices=1"),
        (lambda: batch_parts([2, 2], 3), "divide the number of devices, 4. Received: 3"),
        (lambda: Devices("mirrored", 4, 4).batches(zeros(64), 30), "Received: 30. Take 32"),
        (lambda: Devices("mirrored", 4, 4).batches(zeros(8), 16), "at least one batch"),
    ]:
        with pytest.raises(ValueError, match=words):
            refused()


def test_a_nested_model_is_not_trained_in_place():
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model = keras.Sequential([keras.Input((2,)), inner, keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="flat functional model"):
        Devices("mirrored").train(model, lambda copy: None)


def test_devices_say_how_many_they_are():
    assert [str(Devices(count=1)), str(Devices("data_parallel", 4, 4, 1, 2))] == [
        "1 device",
        "4 devices in 2 processes",
    ]


def test_kernels_are_divided_where_devices_share_them_evenly():
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), [f"cpu:{index}" for index in range(4)])
    layers = [keras.layers.Dense(4, name="even"), keras.layers.Dense(3, name="odd")]
    layouts = layout_map(keras.Sequential([keras.Input((5,)), *layers]), mesh)
    assert {path: layout.axes for path, layout in layouts.items()} == {layers[0].kernel.path: (None, "model")}


def test_one_device_is_what_is_there_without_flags():
    assert start() is ONE
