"""Where a study is kept, so that several processes and machines can work on it: Optuna's own storages."""

from __future__ import annotations

import os
import pathlib
import urllib.parse
import warnings
from typing import Any

from tfcompress.core.arguments import short

JOURNAL = "study.journal"
"""In the folder of a search, where no other storage is named."""

SECONDS = 20
"""That a server has to answer."""


def optuna() -> Any:
    """Return the package.

    Raises:
        ImportError: It isn't installed.
    """
    try:
        import optuna as package
    except ImportError as error:
        raise ImportError(
            f"Expected the package optuna, to search. Received: {error}. Install it: pip install 'tfcompress[search]'."
        ) from error
    return package


def open_storage(storage: Any, folder: pathlib.Path) -> Any:
    """Return a storage of Optuna.

    Args:
        storage: one; the path of a `.journal` file; "grpc://host:port" of what `optuna.storages.run_grpc_proxy_server`
            runs; the address of a database, such as "sqlite:///search.db"; `None`: a journal in the folder.
        folder: of the search.

    Raises:
        ConnectionError: nothing answers there.
        NotADirectoryError: the folder of the file isn't there.
        ValueError: it is none of these.
    """
    given = folder / JOURNAL if storage is None else storage
    storages = optuna().storages
    if not isinstance(given, str | os.PathLike):
        if not isinstance(given, storages.BaseStorage):
            raise ValueError(f"Expected {_FORMS}. Received: {short(given)}.")
        return given
    text = os.fspath(given)
    if text.startswith("grpc://"):
        return _server(storages, text)
    if "://" in text:
        return _database(storages, text)
    path = pathlib.Path(text)
    if path.suffix != ".journal":
        raise ValueError(f"Expected {_FORMS}. Received: {text!r}.")
    if not path.parent.is_dir():
        raise NotADirectoryError(f"Expected a folder that is there. Received: {text}; make {path.parent} first.")
    return storages.JournalStorage(storages.journal.JournalFileBackend(text))


_FORMS = (
    "storage to be a file such as search.journal, an address such as sqlite:///search.db or grpc://host:13000, or a "
    "storage of optuna"
)


def _server(storages: Any, address: str) -> Any:
    found = urllib.parse.urlsplit(address)
    if not found.hostname or not found.port:
        raise ValueError(f"Expected {_FORMS}. Received: {address!r}, without a host and a port.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna().exceptions.ExperimentalWarning)
        proxy = storages.GrpcStorageProxy(host=found.hostname, port=found.port)
    try:
        proxy.wait_server_ready(timeout=SECONDS)
    except Exception as error:
        raise ConnectionError(
            f"Expected a server of optuna at {address}. Received: no answer in {SECONDS} s. Start it there, with "
            f"optuna.storages.run_grpc_proxy_server(storage, host='0.0.0.0', port={found.port})."
        ) from error
    return proxy


def _database(storages: Any, address: str) -> Any:
    try:
        return storages.get_storage(address)
    except Exception as error:  # of the driver of one of many databases
        raise ValueError(
            f"Expected {_FORMS}. Received: {address!r}, which can't be opened: {' '.join(str(error).split())[:200]}"
        ) from error
