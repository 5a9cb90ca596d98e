"""`tfc.benchmark`: what is counted, in which order; no test looks at how long anything takes."""

import keras
import numpy as np
import pytest

from tfcompress.evaluation import Timing, benchmark
from tfcompress.evaluation.timing import ROUNDS, time_in_turns


def test_every_format(digits, tflite_file, int8_file, onnx_file):
    runtimes = {digits.model: "Keras 3", tflite_file: "LiteRT", int8_file: "LiteRT", onnx_file: "ONNX Runtime"}
    for source, runtime in runtimes.items():
        timing = benchmark(source, threads=2, runs=12, warmup=3, batch_size=2)
        assert isinstance(timing, Timing)
        assert (timing.runs, timing.warmup, timing.batch_size) == (12, 3, 2)
        assert timing.threads == (None if source is digits.model else 2)
        assert timing.runtime.startswith(runtime)
        assert 0 < timing.min_ms <= timing.p10_ms <= timing.median_ms <= timing.p90_ms <= timing.p95_ms
        assert timing.iqr_ms >= 0
        assert timing.to_dict()["median_ms"] == timing.median_ms
        assert timing.samples_per_second == pytest.approx(2000 / timing.median_ms)
        assert "12 runs, batch 2" in str(timing)
        assert f"p95 {timing.p95_ms:.3f}" in str(timing)


def test_after_other_batches(digits, tflite_file):
    """A file that was resized for one batch is timed at another."""
    from tfcompress.evaluation import compare

    report = compare({"a": tflite_file}, digits.x[:33], digits.y[:33], runs=3, warmup=1)
    assert report["a"].timing.batch_size == 1


def test_own_samples_are_used():
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.GlobalAveragePooling1D()])
    assert benchmark(model, data=np.zeros((1, 5, 2)), runs=2, batch_size=3).batch_size == 3


def test_integers_get_zeros():
    model = keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Embedding(3, 2)])
    assert benchmark(model, runs=1).runs == 1


class Clock:
    """A clock that only the steps move on, and their record."""

    def __init__(self):
        self.now = 0
        self.calls = []

    def __call__(self):
        return self.now

    def step(self, name, milliseconds):
        def run():
            self.calls.append(name)
            self.now += int(milliseconds * 1e6)

        return run


def test_exact_runs_in_turns():
    clock = Clock()
    a, b = time_in_turns([clock.step("a", 1), clock.step("b", 3)], runs=20, warmup=2, clock=clock)
    assert [times.tolist() for times in a] == [[1.0] * 2] * ROUNDS
    assert [times.tolist() for times in b] == [[3.0] * 2] * ROUNDS
    assert clock.calls[:4] == ["a", "a", "b", "b"]
    # Each turn: one run to get warm, two timed ones; every other round backwards.
    assert "".join(clock.calls[4:16]) == "aaabbbbbbaaa"
    assert clock.calls.count("a") == 2 + ROUNDS * 3


def test_runs_fill_the_time():
    clock = Clock()
    fast, slow = time_in_turns([clock.step("a", 1), clock.step("b", 500)], warmup=1, seconds=1, clock=clock)
    assert sum(map(len, fast)) == 1000
    assert sum(map(len, slow)) == ROUNDS


@pytest.mark.parametrize("bad", [{"runs": 0}, {"warmup": 0}, {"batch_size": 1.5}, {"seconds": 0}, {"threads": 0}])
def test_numbers_are_checked(digits, bad):
    with pytest.raises(ValueError, match=f"Expected {next(iter(bad))}"):
        benchmark(digits.model, **bad)


def test_samples_that_do_not_fit(tflite_file):
    with pytest.raises(ValueError, match="x does not fit"):
        benchmark(tflite_file, data=np.zeros((1, 3)))
