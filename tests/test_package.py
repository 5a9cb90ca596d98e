"""The package as a whole: what it imports, and what it offers."""

from __future__ import annotations

import graphlib
import importlib.metadata
import subprocess
import sys

import grimp

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


def test_version_is_that_of_the_package():
    assert tfc.__version__ == importlib.metadata.version("tfcompress")


def test_import_does_not_change_the_environment():
    code = "import os, keras; before = dict(os.environ); import tfcompress; assert dict(os.environ) == before"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_no_module_imports_itself_by_way_of_others():
    graph = grimp.build_graph("tfcompress", cache_dir=None)  # with imports in functions and those for types
    imports = {}
    for module in graph.modules:
        imports[module] = set()
        for other in graph.find_modules_directly_imported_by(module):
            names = other.split(".")
            packages = {".".join(names[:end]) for end in range(1, len(names))}  # which are run before
            imports[module] |= {other, *(package for package in packages if not f"{module}.".startswith(f"{package}."))}
    assert len(imports) > 200 and imports["tfcompress.export.exporter"]
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(
            f"Expected imports that point one way. Received: {' <- '.join(error.args[1])}. Move what both need into a "
            "module of its own; an import in a function, or for types alone, doesn't help."
        ) from None
