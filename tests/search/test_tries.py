"""A tried file with its weights in a file of their own is weighed and copied as a whole."""

import keras
import numpy as np

import tfcompress as tfc
from tfcompress.runtime.external_data import whole
from tfcompress.search.tries import TriedFile


def test_weights_outside_count_and_go_along(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    x = np.ones((2, 64), "float32")
    folders = [tmp_path / name for name in ("tried", "plain", "shipped")]
    for folder in folders:
        folder.mkdir()
    artifact = tfc.export(model, folders[0] / "model.onnx", external_data=True)
    file = TriedFile.measured("onnx", artifact.path, None)
    assert len(whole(artifact.path)) == 2
    assert file.nbytes == artifact.nbytes > 4 * 64 * 32
    assert file.zipped > 0.8 * 4 * 64 * 32
    path = file.copied(folders[2] / "model.onnx")
    expected = artifact.predict(x)
    for one in whole(artifact.path):
        one.unlink()
    np.testing.assert_array_equal(tfc.Artifact.open(path).predict(x), expected)
    inside = tfc.export(model, folders[1] / "model.onnx")
    TriedFile.measured("onnx", inside.path, None).copied(path)
    assert [one.name for one in folders[2].iterdir()] == ["model.onnx"]
