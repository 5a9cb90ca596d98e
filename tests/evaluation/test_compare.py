"""`tfc.compare`: one table, one JSON file, one page."""

import json
from html.parser import HTMLParser

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tfcompress.evaluation import Report, compare, evaluate


@pytest.fixture(scope="module")
def report(digits, tflite_file, int8_file, onnx_file):
    models = {"Keras": digits.model, "TFLite": tflite_file, "int8": int8_file, "<script>&ONNX": str(onnx_file)}
    names = [f"<i>{i}</i>" for i in range(10)]
    about = {"model": "<u>Small</u>", "data": "Digits", "seed": 3}
    return compare(models, digits.x, digits.y, runs=10, warmup=1, class_names=names, about=about)


def test_rows(report, digits, int8_file):
    assert isinstance(report, Report)
    assert [candidate.name for candidate in report.candidates] == ["Keras", "TFLite", "int8", "<script>&ONNX"]
    assert [candidate.format for candidate in report.candidates] == ["keras", "tflite", "tflite", "onnx"]
    int8 = report["int8"]
    assert int8.size.file_bytes == int8_file.stat().st_size
    assert int8.metrics.accuracy == evaluate(int8_file, digits.x, digits.y).accuracy
    points = 100 * (int8.metrics.accuracy - report["Keras"].metrics.accuracy)
    assert report.differences("int8") == {"": pytest.approx(points)}
    assert report.differences("Keras") == {"": 0}
    assert report.shrink("int8") == report["Keras"].size.file_bytes / int8_file.stat().st_size
    medians = [report[name].timing.median_ms for name in ("Keras", "int8")]
    assert report.speedup("int8") == medians[0] / medians[1]
    with pytest.raises(KeyError, match="Expected one of"):
        report["nothing"]


def test_the_table(report):
    table = str(report)
    assert max(map(len, table.splitlines())) <= 100
    assert "Baseline: Keras" in table
    assert f"{100 * report['int8'].metrics.accuracy:.2f} %" in table
    assert f"{report['int8'].size.file_bytes / 1000:,.1f}" in table


def test_another_baseline(digits, tflite_file):
    models = {"model": digits.model, "file": tflite_file}
    found = compare(models, digits.x, digits.y, baseline="file", latency=False)
    assert found.baseline == "file"
    assert found.shrink("model") < 1
    assert found["file"].timing is None
    assert found.speedup("model") is None
    assert "speed-up" not in found.table()


def test_json(report, tmp_path):
    file = report.to_json(tmp_path / "report.json")
    document = json.loads(file.read_text())
    assert document["version"] == 1
    assert document["baseline"] == "Keras"
    assert document["environment"]["keras"] == keras.__version__
    assert document["about"] == {"model": "<u>Small</u>", "data": "Digits", "seed": 3}
    row = document["candidates"][2]
    assert row["name"] == "int8"
    assert row["file_bytes"] == report["int8"].size.file_bytes
    assert row["metrics"]["confusion_matrix"] == report["int8"].metrics.confusion_matrix.tolist()
    assert row["timing"]["runs"] == 10


class Page(HTMLParser):
    """What a browser would fetch, which elements stay open, and the text."""

    VOID = ("meta", "br", "img", "link", "input", "wbr")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.urls, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.urls += [value for key, value in attrs if key in ("src", "href", "xlink:href") and value[:1] != "#"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page(report, tmp_path):
    file = report.save(tmp_path / "report.html", title="Digits & <more>")
    page = Page()
    page.feed(file.read_text())
    assert page.open == []
    assert all(url.startswith("data:image/png;base64,") for url in page.urls)  # nothing is fetched
    assert {"script", "i", "b", "u", "more"}.isdisjoint(page.tags)  # names are text
    text = " ".join(page.text)
    assert "Digits & <more>" in text
    assert "<script>&ONNX" in text
    assert "<i>7</i>" in text
    assert "<u>Small</u>" in text
    pictures = sum(len(one.weights) + len(one.activations) for one in report.layers)
    assert page.tags.count("svg") == 1 + 1 + 10 + pictures  # accuracy against size, change of F1, ROC curves by class
    assert "Confusion matrices" in text
    assert list(tmp_path.iterdir()) == [file]


def test_nothing_is_overwritten(report, tmp_path):
    writers = (report.save, "report.html"), (report.to_json, "report.json"), (report.to_markdown, "report.md")
    for write, name in writers:
        file = tmp_path / name
        file.write_text("mine")
        with pytest.raises(FileExistsError, match="pass overwrite=True"):
            write(file)
        assert file.read_text() == "mine"
        write(file, overwrite=True)
        assert file.read_text() != "mine"
        with pytest.raises(ValueError, match="Expected a path that ends in"):
            write(tmp_path / "report.txt")
        with pytest.raises(FileNotFoundError, match="existing folder"):
            write(tmp_path / "missing" / name)
    assert len(list(tmp_path.iterdir())) == 3


def test_regression_and_many_outputs(tmp_path):
    inputs = keras.Input((2,), name="x")
    model = keras.Model(
        inputs, [keras.layers.Dense(1, name="value")(inputs), keras.layers.Dense(3, name="kind")(inputs)]
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 2)).astype("float32")
    y = [rng.normal(size=30), rng.integers(0, 3, 30)]
    other = keras.models.clone_model(model)
    found = compare({"one": model, "two": other}, x, y, latency=False)
    worse = found["two"].metrics["value"].mse - found["one"].metrics["value"].mse
    assert found.differences("two")["value"] == pytest.approx(worse)
    table = found.table()
    assert max(map(len, table.splitlines())) <= 100
    assert "value" in table
    assert "kind" in table
    page = Page()
    page.feed(found.save(tmp_path / "r.html").read_text())
    assert page.open == []


def test_many_classes_get_a_picture(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(30)])
    rng = np.random.default_rng(0)
    found = compare({"m": model}, rng.normal(size=(60, 2)), rng.integers(0, 30, 60), latency=False)
    page = Page()
    page.feed(found.save(tmp_path / "r.html").read_text())
    assert page.open == []
    assert page.tags.count("svg") == 1 + 1  # accuracy against size, the matrix; no ROC curves of 30 classes
    assert all(url.startswith("data:image/png;base64,") for url in page.urls)


def test_a_wrong_request_is_refused_before_any_work(digits, tflite_file, tmp_path):
    data = digits.x, digits.y
    with pytest.raises(ValueError, match="with an entry"):
        compare({}, *data)
    with pytest.raises(ValueError, match="Expected baseline to be one of"):
        compare({"a": tflite_file}, *data, baseline="b")
    with pytest.raises(TypeError, match="Expected about to be a dict"):
        compare({"a": tflite_file}, *data, about="mine")
    with pytest.raises(TypeError, match="Expected scans to be what tfc.sensitivity"):
        compare({"a": tflite_file}, *data, scans=[1])
    with pytest.raises(FileNotFoundError):
        compare({"a": tflite_file, "b": tmp_path / "missing.onnx"}, *data)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(10)])
    with pytest.raises(ValueError, match="x does not fit model"):
        compare({"a": tflite_file, "b": other}, *data)


def test_zeros_that_are_stored_are_no_speed(tmp_path):
    model = keras.Sequential([keras.Input((64,), name="x"), keras.layers.Dense(96), keras.layers.Dense(10)])
    x, y = np.random.default_rng(0).normal(size=(20, 64)).astype("float32"), np.arange(20) % 10
    models = {"dense": model, "pruned": tfc.prune_once(model, 0.8)}
    for name, sparse in (("full.tflite", False), ("sparse.tflite", True)):
        tfc.export(models["pruned"], tmp_path / name, sparse=sparse)
        models[name] = tmp_path / name
    models["full.onnx"] = tmp_path / "full.onnx"
    tfc.export(models["pruned"], models["full.onnx"])
    report = compare(models, x, y, latency=False)
    (note,) = report.notes()
    assert note.startswith("Zeros alone don't make a model faster on Keras, LiteRT, ONNX Runtime: ")
    assert "here in pruned, full.tflite, full.onnx." in note
    assert 'weights="coded"' in note
    assert 'the column "zip kB"' in note
    assert "sparse=True" in note
    assert report["sparse.tflite"].size.sparsity == report["full.tflite"].size.sparsity > 0.75
    assert note in " ".join(report.table().split())
    assert report.to_dict()["notes"] == [note]
    page = Page()
    page.feed(report.save(tmp_path / "report.html").read_text())
    assert note in page.text
    assert compare({"dense": model, "sparse": tmp_path / "sparse.tflite"}, x, y, latency=False).notes() == []
    keras_alone = compare({"dense": model, "pruned": models["pruned"]}, x, y, latency=False)
    assert "sparse=True" not in keras_alone.notes()[0]
    assert "faster on Keras:" in keras_alone.notes()[0]
