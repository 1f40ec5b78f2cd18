"""How does a test start another process that uses gan, without the two seconds that importing torch takes?

It is forked by a process that has imported all that it needs. It gets nothing of the test's own process but arguments,
the environment and one end of a pipe.
"""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Self

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.support.publishers"])
SECONDS = 60  # without a word from a process, which has failed


class Forked:
    """A process that calls a function of tests/support with its end of the pipe and these arguments."""

    def __init__(self, function: Callable[..., None], *args: Any) -> None:
        self._pipe, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_call, args=(function, theirs, dict(os.environ), *args))
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def hear(self) -> Any:
        """Return what the process says next. Raises EOFError where it has ended."""
        assert self._pipe.poll(SECONDS), "the process says nothing"
        return self._pipe.recv()

    def say(self, word: str = "go on") -> None:
        """Let the process, which waits for a word, go on."""
        self._pipe.send(word)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process as a crash would, and wait until it is gone."""
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._pipe.close()


def _call(function: Callable[..., None], pipe: Connection, environment: dict[str, str], *args: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    function(pipe, *args)
