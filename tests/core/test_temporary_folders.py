"""Temporary files of a process, in one folder."""

import os
import tempfile

from tfcompress.core.temporary_folders import temporary_folder


def test_temporary_files_are_in_one_folder_that_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with temporary_folder():
        (folder,) = tmp_path.iterdir()
        assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(folder)
        (folder / "left").write_text("by a library")
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(tmp_path)
    assert not list(tmp_path.iterdir())
