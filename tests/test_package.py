"""The package as a whole: what it imports, and what it offers."""

from __future__ import annotations

import graphlib
import importlib.metadata
import importlib.util
import pathlib
import subprocess
import sys

import grimp
import pytest

import tfcompress as tfc
from tfcompress.core.command_line import is_command

ROOT = pathlib.Path(__file__).parents[1]


def test_help_of_the_command_imports_no_keras():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tfcompress", "prune", "--help"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines()}
    assert "tfcompress.cli.main" in imported
    assert not imported & {"keras", "tensorflow", "numpy", "rich", "tfcompress.public"}


@pytest.mark.parametrize(
    ("argv", "options", "is_one"),
    [
        (["-m", "prune"], ["-m", "tfcompress"], True),
        (["-m"], ["-I", "-mtfcompress"], True),
        (["/usr/bin/tfcompress", "prune"], ["/usr/bin/tfcompress"], True),
        (["C:\\bin\\tfcompress.exe"], ["tfcompress.exe"], sys.platform == "win32"),
        (["-m", "tfcompress"], ["-m", "mine"], False),
        (["train_tfcompress.py"], ["train_tfcompress.py"], False),
        (["-c"], ["-c", "import tfcompress"], False),
        ([""], [], False),
        ([], [], False),
    ],
)
def test_the_command_alone_waits_with_its_imports(argv, options, is_one, monkeypatch):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", ["python", *options, *argv[1:]])
    assert is_command() == is_one


@pytest.mark.parametrize("command", [True, False])
def test_the_command_has_all_names_as_soon_as_one_is_asked_for(command, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tfcompress" if command else "mine.py"])
    spec = importlib.util.spec_from_file_location("tfcompress", tfc.__file__)
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    assert ("prune" in vars(package)) != command
    assert package.prune is tfc.prune
    assert set(tfc.__all__) <= set(dir(package))
    assert package.callbacks is tfc.callbacks
    with pytest.raises(AttributeError, match="nothing"):
        package.nothing  # noqa: B018


def test_every_public_name_is_there_and_described():
    for name in tfc.__all__:
        assert getattr(tfc, name).__doc__, name


def test_version_is_that_of_the_package():
    assert tfc.__version__ == importlib.metadata.version("tfcompress")


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
