"""Scans: each point is the model with one layer changed, measured."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.graph import rebuild
from tfcompress.pipeline import sensitivity as scanning
from tfcompress.pipeline.repeated_metric import Measure


@keras.saving.register_keras_serializable(package="test_sensitivity")
class Counting(L.Layer):
    """Counts how often it is traced."""

    traces = 0

    def call(self, x):
        type(self).traces += 1
        return x


def make_model():
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((12,)), L.Dense(16, activation="relu", name="inner")], name="block")
    inputs = keras.Input((12,), name="x")
    x = Counting(name="count")(inner(inputs))
    return keras.Model(inputs, L.Dense(3, name="last")(x))


def make_data(count=90):
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, count)
    x = (np.eye(3)[y].repeat(4, axis=1) + generator.normal(0, 0.6, (count, 12))).astype("float32")
    return x, y


@pytest.fixture(scope="module")
def trained():
    model, (x, y) = make_model(), make_data()
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=20, verbose=0)
    return model


def test_each_point_is_the_model_with_one_layer_pruned(trained):
    before = trained.get_weights()
    x, y = make_data()
    result = tfc.sensitivity(trained, (x, y), sparsities=(0.9, 0.5, 0.5))
    assert result.kind == "sparsity"
    assert result.levels == (0.5, 0.9)
    assert result.samples == 90
    assert result.sizes == {"inner": 192, "last": 48}
    assert result.baseline == tfc.evaluate(trained, x, y).accuracy > 0.9
    expected = {
        (layer, level): tfc.evaluate(tfc.prune_once(trained, level, layers=layer), x, y).accuracy
        for layer in ("inner", "last")
        for level in (0.5, 0.9)
    }
    assert {(row.layer, row.level): row.value for row in result.rows} == expected
    assert result.losses()["inner"][0.9] == result.baseline - expected["inner", 0.9] > 0
    assert result.ranking()[0] == max(result.losses(), key=lambda layer: sum(result.losses()[layer].values()))
    for old, new in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_each_point_is_the_model_with_one_kernel_quantized(trained):
    x, y = make_data()
    result = tfc.sensitivity(trained, (x, y), bits=(2, 8), layers="last", metric=lambda y, scores: -scores.std())
    assert [(row.layer, row.level) for row in result.rows] == [("last", 2), ("last", 8)]
    for row in result.rows:
        model = rebuild(trained)
        kernel = model.get_layer("last").kernel
        value = np.asarray(keras.ops.convert_to_numpy(kernel))
        how = {"symmetric": True, "narrow": True, "axis": 1}
        kernel.assign(tfc.dequantize(*tfc.uniform_quantize(value, int(row.level), **how), axis=1))
        assert row.value == pytest.approx(-model.predict(x, verbose=0).std(), rel=1e-5)
    with pytest.raises(ValueError, match="scan of sparsities"):
        tfc.allocation.from_sensitivity(result, 0.5)


def test_the_model_is_traced_once_and_left_as_it_was(trained):
    data = make_data(64)
    Counting.traces = 0
    tfc.sensitivity(trained, data, sparsities=(0.5,), batch_size=32)
    few = Counting.traces
    Counting.traces = 0
    tfc.sensitivity(trained, data, sparsities=(0.1, 0.3, 0.5, 0.7, 0.9), batch_size=32)
    assert Counting.traces == few


def test_data_of_several_kinds_gives_the_same(trained):
    x, y = make_data()
    batches = [(x[start : start + 32], y[start : start + 32]) for start in range(0, 90, 32)]

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, index):
            return (*batches[index], np.ones(len(batches[index][1])))

    expected = tfc.sensitivity(trained, (x, y), sparsities=(0.8,))
    for data in (batches, lambda: iter(batches), iter(batches)):
        found = tfc.sensitivity(trained, data, sparsities=(0.8,), batch_size=7)
        assert found == expected
    with pytest.warns(UserWarning, match="Sample weights are left out"):
        assert tfc.sensitivity(trained, Batches(), sparsities=(0.8,), batch_size=7) == expected
    with pytest.raises(ValueError, match="at least one batch"):
        tfc.sensitivity(trained, [], sparsities=(0.8,))
    with pytest.raises(ValueError, match=r"Expected batches \(x, y\)"):
        tfc.sensitivity(trained, [x], sparsities=(0.8,))
    with pytest.raises(ValueError, match="90. Received: 80 rows"):
        tfc.sensitivity(trained, (x, y[:80]), sparsities=(0.8,))


def test_it_goes_on_where_it_was_interrupted(trained, tmp_path, monkeypatch):
    path, data = tmp_path / "scan.json", make_data()
    complete = tfc.sensitivity(trained, data, sparsities=(0.5, 0.9))
    real, calls = Measure.__call__, []

    def dying(self):
        calls.append(self)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(Measure, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        tfc.sensitivity(trained, data, sparsities=(0.5, 0.9), resume=path)
    assert tfc.Sensitivity.from_json(path).rows == complete.rows[:2]
    assert [file.name for file in tmp_path.iterdir()] == ["scan.json"]
    calls[:] = [None] * 4
    assert tfc.sensitivity(trained, data, sparsities=(0.5, 0.9), resume=path) == complete
    assert len(calls) == 4 + 1 + 2  # the baseline and what was missing
    assert tfc.Sensitivity.from_json(path) == complete


def test_a_file_of_something_else_is_refused(trained, tmp_path):
    path, data = tmp_path / "scan.json", make_data()
    tfc.sensitivity(trained, data, sparsities=(0.5,), resume=path)
    written = path.read_text()
    other = rebuild(trained)
    other.get_layer("last").bias.assign([0.0, 0.0, 5.0])
    for model, given, how, message in [
        (other, data, {"sparsities": (0.5,)}, "the model's weights"),
        (trained, data, {"sparsities": (0.5, 0.6)}, "levels"),
        (trained, data, {"bits": (4,)}, "sparsities or bits"),
        (trained, data, {"sparsities": (0.5,), "metric": "macro_f1"}, "metric"),
        (trained, data, {"sparsities": (0.5,), "layers": "last"}, "the layers"),
        (trained, make_data(80), {"sparsities": (0.5,)}, "on 90 samples; now .* on 80"),
        (trained, (data[0], 1 - data[1].clip(0, 1)), {"sparsities": (0.5,)}, "on this data"),
    ]:
        with pytest.raises(ValueError, match=message):
            tfc.sensitivity(model, given, resume=path, **how)
    assert path.read_text() == written
    path.write_text(json.dumps({"version": 1}))
    with pytest.raises(ValueError, match=r"Sensitivity.to_json wrote"):
        tfc.sensitivity(trained, data, sparsities=(0.5,), resume=path)
    with pytest.raises(ValueError, match=r"ends in .json"):
        tfc.sensitivity(trained, data, sparsities=(0.5,), resume=tmp_path / "scan.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsities": (0.5, 1.0)}, r"\[0, 1\)"),
        ({"sparsities": ()}, "several values"),
        ({"sparsities": 0.5}, "several values"),
        ({"bits": (1,)}, "bits"),
        ({"bits": (4,), "sparsities": (0.5,)}, "Received: both"),
        ({"metric": "acuracy"}, "'accuracy'"),
        ({"metric": "mse"}, "metric of a multiclass task"),
        ({"layers": "lst"}, "Did you mean 'last'"),
        ({"layers": "count"}, "has nothing to prune"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_arguments_are_refused(trained, arguments, message):
    with pytest.raises(ValueError, match=message):
        tfc.sensitivity(trained, make_data(), **arguments)


def test_regression_counts_the_other_way_round():
    model = keras.Sequential([keras.Input((4,)), L.Dense(1, name="only")])
    x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    result = tfc.sensitivity(model, (x, model.predict(x, verbose=0)), sparsities=(0.75,), metric="mse")
    assert result.baseline == 0 < result.rows[0].value
    assert not result.higher_is_better
    assert result.losses() == {"only": {0.75: result.rows[0].value}}


def test_several_outputs_need_a_function():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, {"a": L.Dense(2, name="a")(inputs), "b": L.Dense(1, name="b")(inputs)})
    x = np.random.default_rng(0).normal(size=(10, 4)).astype("float32")
    y = model.predict(x, verbose=0)
    with pytest.raises(ValueError, match="metric"):
        tfc.sensitivity(model, (x, y), sparsities=(0.5,))

    def error(y, outputs):
        return -float(np.mean((y["a"] - outputs["a"]) ** 2))

    found = {row.layer: row.value for row in tfc.sensitivity(model, (x, y), sparsities=(0.5,), metric=error).rows}
    assert found["a"] < 0 == found["b"]


def test_a_pruned_model_and_a_recurrent_one_with_two_kernels():
    model = keras.Sequential([keras.Input((5, 3)), L.GRU(4, name="gru"), L.Dense(2, name="last")])
    pruned = tfc.prune(model, 0.5)
    x, y = np.random.default_rng(0).normal(size=(20, 5, 3)).astype("float32"), np.arange(20) % 2
    result = tfc.sensitivity(pruned, (x, y), sparsities=(0.9,))
    assert result.sizes == {"gru": 3 * 12 + 4 * 12, "last": 8}
    expected = tfc.evaluate(tfc.prune_once(model, 0.9, layers="gru"), x, y).accuracy
    assert result.rows[0].value == expected


def test_table_json_and_plot(trained, tmp_path):
    result = tfc.sensitivity(trained, make_data(), sparsities=(0.5, 0.9))
    table = result.table()
    assert str(result) == table
    for text in ("inner", "last", "50 % zeros", "90 % zeros", "192", "Baseline", f"{100 * result.baseline:.2f} %"):
        assert text in table
    assert tfc.Sensitivity.from_json(result.to_json(tmp_path / "scan.json")) == result
    with pytest.raises(FileExistsError, match="overwrite=True"):
        result.to_json(tmp_path / "scan.json")
    path = result.plot(tmp_path / "scan.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    (axis,) = result.plot().axes
    lines = {line.get_label().lstrip("\u200b"): line for line in axis.get_lines()}
    values = [result.baseline, *(row.value for row in result.rows if row.layer == "inner")]
    np.testing.assert_allclose(lines["inner"].get_ydata(), 100 * np.array(values))
    np.testing.assert_allclose(lines["inner"].get_xdata(), [0, 50, 90])


def test_of_many_layers_the_plot_names_the_most_sensitive():
    rows = [scanning.SensitivityRow(f"layer_{i}", level, 0.9 - 0.01 * i * level) for i in range(30) for level in (2, 4)]
    sizes = {f"layer_{i}": 10 for i in range(30)}
    result = tfc.Sensitivity("bits", "mine", True, 0.9, 100, sizes, (2, 4), tuple(rows))
    (axis,) = result.plot().axes
    labels = [text.get_text().lstrip("\u200b") for text in axis.get_legend().get_texts()]
    assert labels == ["as given", "20 less sensitive", *(f"layer_{i}" for i in range(20, 30))]
    assert len(axis.get_lines()) == 31


def test_what_a_scan_finds_are_targets_of_pruning(trained):
    scan = tfc.sensitivity(trained, make_data(), sparsities=(0.3, 0.6, 0.9))
    wanted = tfc.allocation.from_sensitivity(scan, 0.6)
    found = tfc.summary(tfc.prune_once(trained, 0.6, allocation=wanted)).sparsities
    assert found == pytest.approx({f"{name}/kernel": value for name, value in wanted.items()}, abs=0.02)
