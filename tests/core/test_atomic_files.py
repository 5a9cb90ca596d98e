"""Files are written whole or not at all, and what killed programs left is found."""

from __future__ import annotations

import fcntl
import os
import resource
import stat

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tfcompress.core import atomic_files
from tfcompress.core.temporary_folders import PREFIX


def model(units=3):
    return keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(units, name="y")])


@pytest.fixture
def full():
    """Let no file grow beyond 200 KB, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_save(tmp_path):
    file = tmp_path / "model.keras"
    given = model()
    assert tfc.save(given, file) == file
    np.testing.assert_array_equal(tfc.load(file).get_weights()[0], given.get_weights()[0])
    with pytest.raises(FileExistsError, match="overwrite=True"):
        tfc.save(given, file)
    other = model()
    tfc.save(other, str(file), overwrite=True)
    np.testing.assert_array_equal(tfc.load(file).get_weights()[0], other.get_weights()[0])
    assert os.listdir(tmp_path) == ["model.keras"]


def test_nothing_changes_when_saving_fails(tmp_path, monkeypatch):
    file = tmp_path / "model.keras"
    tfc.save(model(), file)
    before = file.read_bytes()

    def half(self, path, *args, **kwargs):
        with open(path, "wb") as stream:
            stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "save", half)
    with pytest.raises(KeyboardInterrupt):
        tfc.save(model(), file, overwrite=True)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.keras"]


def test_a_full_disk_is_found_before_anything_is_written(tmp_path, full):
    file = tmp_path / "model.keras"
    tfc.save(model(), file)
    before = file.read_bytes()
    large = model(30_000)
    with pytest.raises(OSError, match="Expected room"):
        tfc.save(large, file, overwrite=True)
    assert file.read_bytes() == before
    with pytest.raises(OSError, match="Expected room"):
        atomic_files.check_target(file, ".keras", overwrite=True, size=300_000)
    assert atomic_files.check_target(file, ".keras", overwrite=True, size=100_000) == file
    assert os.listdir(tmp_path) == ["model.keras"]


@pytest.mark.parametrize("suffix", [".keras", ".json", ".onnx", ".tflite"])
def test_the_longest_name_that_there_is(suffix, tmp_path):
    file = tmp_path / ("n" * (255 - len(suffix)) + suffix)
    if suffix == ".keras":
        tfc.save(model(), file)
    elif suffix == ".json":
        tfc.compare({"a": model()}, np.zeros((3, 4)), np.array([0, 1, 2]), latency=False).to_json(file)
    else:
        tfc.export(model(), file)
    assert os.listdir(tmp_path) == [file.name]
    with pytest.raises(ValueError, match="name that a file can have"):
        atomic_files.check_target(file.with_name("n" + file.name), suffix, overwrite=False)


def test_what_killed_programs_left_is_removed_and_what_others_write_is_not(tmp_path):
    """`tests/test_new_process.py` kills a program that writes."""
    target, left = tmp_path / "model.keras", tmp_path / f"{PREFIX}4567"
    left.mkdir()
    (left / target.name).write_text("half")
    (left / ".lock").touch()
    living = tmp_path / f"{PREFIX}0123"
    living.mkdir()
    (tmp_path / ".other-draft").mkdir()
    with open(living / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        atomic_files.write_text(tmp_path / "a.json", "{}")
        assert sorted(os.listdir(tmp_path)) == [".other-draft", living.name, "a.json"]
        with atomic_files.draft(target) as beside:  # two at once, in one process
            beside.write_text("")
            atomic_files.write_text(tmp_path / "b.json", "{}")
    atomic_files.check_target(target, ".keras", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == [".other-draft", "a.json", "b.json", "model.keras"]


def test_a_link_stays_one_and_permissions_too(tmp_path):
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "model.json", tmp_path / "model.json"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    atomic_files.write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("model.h5", ValueError, r"ends in .keras. Received: '.*model.h5'"),
        ("none/model.keras", FileNotFoundError, "Make it first"),
        ("file/model.keras", NotADirectoryError, "is a file"),
        ("folder.keras", IsADirectoryError, "is a folder"),
        ("pipe.keras", ValueError, "a device or a pipe"),
        ("mo\0del.keras", ValueError, "a name that a file can have"),
        (b"model.keras", TypeError, "Expected a path"),
        (3, TypeError, "Expected a path.*Received: 3"),
        (None, TypeError, "Expected a path.*Received: None"),
    ],
)
def test_where_nothing_can_be_written(path, error, message, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.keras").mkdir()
    os.mkfifo(tmp_path / "pipe.keras")
    with pytest.raises(error, match=message):
        tfc.save(model(), tmp_path / path if isinstance(path, str) else path, overwrite=True)
    with pytest.raises(TypeError, match=r"keras.Model.*Received: builtins.str"):
        tfc.save("model", tmp_path / "model.keras")


def test_a_read_only_target(tmp_path, monkeypatch):
    file = tmp_path / "model.keras"
    file.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # a test may run as root
    with pytest.raises(PermissionError, match="read-only"):
        tfc.save(model(), file, overwrite=True)

    def denied(path, mode=0o777):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", denied)
    with pytest.raises(PermissionError, match=r"Expected a folder that can be written to"):
        atomic_files.check_target(tmp_path / "other.keras", ".keras", overwrite=False)


def test_a_distiller_saves_its_student_whole(tmp_path, monkeypatch):
    file = tmp_path / "student.keras"
    distiller = tfc.distill(model(), model())
    distiller.save(file)
    assert tfc.load(file).count_params() == 15
    monkeypatch.setattr(os, "replace", lambda *names: 1 / 0)
    before = file.read_bytes()
    with pytest.raises(ZeroDivisionError):
        distiller.save(file)
    assert file.read_bytes() == before
