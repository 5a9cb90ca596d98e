"""The package as a whole: what it imports, and what it offers."""

from __future__ import annotations

import subprocess
import sys

import tfcompress as tfc

_MODULES = """
import sys
import keras
before = set(sys.modules)
import tfcompress
print(" ".join(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
"""


def test_import_is_light():
    done = subprocess.run([sys.executable, "-c", _MODULES], capture_output=True, text=True, check=True)
    added = done.stdout.split()
    assert "tfcompress" in added
    heavy = {"tensorflow_model_optimization", "tf_keras", "matplotlib", "onnxruntime", "onnx", "tf2onnx", "sklearn"}
    assert not heavy & set(added), added


def test_every_public_name_is_there_and_described():
    for name in tfc.__all__:
        assert getattr(tfc, name).__doc__, name


def test_import_does_not_change_the_environment():
    code = "import os, keras; before = dict(os.environ); import tfcompress; assert dict(os.environ) == before"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
