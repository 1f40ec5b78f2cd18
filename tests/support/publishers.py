"""How do the processes publish that a test kills, freezes or starts at once? See tests/support/forked.py."""

import io
import logging
import os
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gan.errors import GanError
from gan.storage.address import open_store
from gan.storage.local import LocalStore
from gan.sync import publish as publishing
from gan.sync.lease import Timing, hold
from gan.sync.stored_run import StoredRun
from tests.support.publishing import publish, publish_when_free

SAID = ("put", "copy", "delete", "put_new")  # requests of a slow publisher


def publish_file_by_file(pipe: Connection, run_path: Path, root: Path) -> None:
    """Publish a run; after each file, say how much is done, and wait for a word."""

    def progress(done: int, total: int) -> None:
        pipe.send(done)
        pipe.recv()

    publish(run_path, StoredRun(LocalStore(root), "a"), progress)


def publish_with_files_of_at_most(pipe: Connection, num_bytes: int, run_path: Path, root: Path) -> None:
    """Publish a run where no file can be larger, as on a full disk, and say what goes wrong."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
    try:
        publish(run_path, StoredRun(LocalStore(root), "a"))
    except GanError as error:
        pipe.send(str(error))


def publish_at_once(pipe: Connection, num_processes: int, run_path: Path, root: Path) -> None:
    """Publish a run from so many processes, and say each one's manifest: when the last writer has closed their pipe."""
    reader, writer = os.pipe()
    results, result = os.pipe()
    children = []
    for _ in range(num_processes):
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            manifest = publish_when_free(run_path, StoredRun(LocalStore(root), "a"))
            os.write(result, f"{manifest.sha256}\n".encode())  # one write: the lines of two processes do not mix
            os._exit(0)
        children.append(child)
    os.close(writer)
    os.close(result)
    assert not any(os.waitpid(child, 0)[1] for child in children)
    with os.fdopen(results) as lines:
        pipe.send(lines.read().split())


def publish_request_by_request(pipe: Connection, run_path: Path, address: str) -> None:
    """Publish a run; say each request to the store, and wait for a word before it. Say in the end what was logged.

    It counts on its lease for a minute, so that its own clock does not stop it.
    """
    logged = io.StringIO()
    log = logging.getLogger("gan")
    log.addHandler(logging.StreamHandler(logged))
    try:
        with hold(StoredRun(_Slow(open_store(address), pipe), "a"), Timing(0.2, 60)) as lease:
            publishing.publish(run_path, lease)
    except GanError as error:
        log.error("%s", error)
    pipe.send(f"ended: {logged.getvalue()}")


class _Slow:
    def __init__(self, store: Any, pipe: Connection) -> None:
        self._store, self._pipe = store, pipe

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        return self._saying(name, method) if name in SAID else method

    def _saying(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def request(*args: Any) -> Any:
            self._pipe.send(f"{name} {args[0]}")
            self._pipe.recv()
            return method(*args)

        return request
