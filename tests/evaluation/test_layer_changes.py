"""What compression does to each layer, beside figures found by hand."""

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tfcompress.evaluation.tensor_grid import TensorGrid
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.reports.histograms import picture


@pytest.fixture(scope="module")
def compared():
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(6, activation="relu", name="hidden")
    model = keras.Sequential([keras.Input((8,), name="x"), hidden, keras.layers.Dense(3, name="out")])
    x = np.random.default_rng(0).normal(size=(50, 8)).astype("float32")
    models = {"float": model, "pruned": tfc.prune_once(model, 0.5), "int8": tfc.quantize(model, "int8", x)}
    return models, x, tfc.compare(models, x, np.arange(50) % 3, latency=False)


def test_weights(compared):
    models, _, report = compared
    pruned, int8 = report.layers
    assert (pruned.model, pruned.reference, int8.model) == ("pruned", "float", "int8")
    kernel = models["float"].get_layer("hidden").get_weights()[0]
    first = pruned.weights[0]
    assert (first.layer, first.tensor, first.shape, first.bits) == ("hidden", "kernel", (8, 6), 32)
    assert (first.before.zeros, first.after.zeros) == (0, 0.5)
    assert (first.before.low, first.before.high) == pytest.approx((kernel.min(), kernel.max()))
    left = np.where(np.abs(kernel) > np.median(np.abs(kernel)), kernel, 0)
    assert first.sqnr == pytest.approx(10 * np.log10(kernel.var() / np.mean((kernel - left) ** 2)), abs=1e-3)
    assert (sum(first.histogram.before), sum(first.histogram.after)) == (48, 24)
    assert [one.bits for one in int8.weights] == [8, 8]
    assert all(30 < one.sqnr < 60 and one.after.zeros < 0.1 for one in int8.weights)
    scales = np.abs(kernel).max(axis=0) / 127
    grid = int8.weights[0].grid
    assert (grid.scale, grid.smallest_scale, grid.scales) == (
        pytest.approx(scales.max()),
        pytest.approx(scales.min()),
        6,
    )


def test_activations(compared):
    models, x, report = compared
    pruned, int8 = report.layers
    assert (pruned.samples, pruned.problem, int8.problem) == (32, "", "")
    assert [one.layer for one in pruned.activations] == ["hidden", "out"]
    before, after = (models[name].predict(x[:32], verbose=0) for name in ("float", "pruned"))
    out = pruned.activations[1]
    assert out.sqnr == pytest.approx(10 * np.log10(before.var() / np.mean((before - after) ** 2)), abs=1e-3)
    assert (out.after.low, out.after.high) == pytest.approx((after.min(), after.max()), abs=1e-5)
    last = int8.activations[-1]
    quantizer = activation_quantizers(models["int8"])[-1]
    assert (last.grid.low, last.grid.high) == pytest.approx((quantizer.grid.minimum, quantizer.grid.maximum))
    assert (last.grid.scale, last.grid.scales) == (pytest.approx(quantizer.grid.scale), 1)
    assert (last.bits, sum(last.histogram.before)) == (8, 96)
    assert last.sqnr > 25


def test_the_page_and_the_json_say_so(compared, tmp_path):
    *_, report = compared
    page = report.save(tmp_path / "r.html").read_text()
    assert page.count('<svg class="spread"') == sum(len(one.weights) + len(one.activations) for one in report.layers)
    assert "Layers of int8" in page and f"{report.layers[1].weights[0].sqnr:.1f}" in page
    text = report.to_markdown(tmp_path / "r.md").read_text()
    assert f"| hidden | {report.layers[1].weights[0].sqnr:.1f} | 8 |" in text
    found = report.to_dict()["layers"][1]["weights"][0]
    assert found["sqnr"] == report.layers[1].weights[0].sqnr
    assert len(found["histogram"]["before"]) == 48


def test_without_layers_and_with_models_that_cannot_be_opened(compared):
    models, x, _ = compared
    y = np.arange(50) % 3
    assert tfc.compare(models, x, y, latency=False, layers=False).layers == ()
    assert tfc.compare({"float": models["float"]}, x, y, latency=False).layers == ()

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3, name="out")

        def call(self, inputs):
            return self.dense(inputs) * float(np.asarray(inputs).max() > 0)  # not without values

    own = Own()
    own(x[:1])
    own.run_eagerly = True
    (found,) = tfc.compare({"float": models["float"], "own": own}, x, y, latency=False).layers
    assert found.activations == () and found.problem
    assert found.weights[0].before is None  # of another shape


def test_few_steps_of_a_grid_are_drawn_each(compared):
    shown = compared[2].layers[1].weights[0].histogram
    grid = TensorGrid.of_scales(np.float32(0.5), -2, 2)
    assert picture(shown, "<t>", (grid.low, grid.high), grid.marks).count("v7") == 3
    assert TensorGrid.of_scales(np.float32(0.01), -127, 127).marks == ()
    assert TensorGrid.of_scales(np.array([0.01, 0.005]), -127, 127).marks == pytest.approx((-0.635, 0.635))
    assert TensorGrid.of_table(np.array([0.5, -1.0, 0.5])).marks == (-1.0, 0.5)
    assert "<title>&lt;t&gt;</title>" in picture(shown, "<t>")
