"""What every report is too: a JSON file."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from tfcompress.core.atomic_files import check_target, write_text


class Document:
    """A report that is written as JSON: what its `to_dict` returns."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        raise NotImplementedError

    def to_json(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> pathlib.Path:
        """Write everything as JSON.

        Args:
            path: ends in `.json`.
            overwrite: whether an existing file may be replaced.

        Returns:
            The path.

        Raises:
            FileExistsError: the file exists, and `overwrite` is False.
            FileNotFoundError: the folder doesn't exist.
            ValueError: another suffix.
        """
        target = check_target(path, ".json", overwrite)
        return write_text(target, json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n")
