"""How does a contender run in a process of its own, alive and idle between its windows?"""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection

import click
import torch

from benchmarks.contenders import Contender
from benchmarks.timing import WINDOW, Run, Setting

# So many times the steps of the others take ours and the limit, so that their windows last about as long.
PACES = {"cpu": 5, "cuda": 20}


class Process:
    """Run a contender, kept alive and idle between its windows."""

    def __init__(self, contender: Contender, setting: Setting) -> None:
        """Start it; it prepares itself meanwhile."""
        pace = PACES[setting.device] if contender.group in ("ours", "limit") else 1
        setting = replace(setting, warm_up_steps=setting.warm_up_steps * pace)
        self.contender, self.num_steps = contender, WINDOW * setting.warm_up_steps
        spawn = multiprocessing.get_context("spawn")
        self.connection, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(theirs, contender.prepare, setting))
        self.process.start()
        theirs.close()

    def window(self) -> float:
        """Run a warm-up, then a window; return its steps a second."""
        try:
            self.connection.send(self.num_steps)
            seconds: float = self.connection.recv()
        except (EOFError, BrokenPipeError):
            raise click.ClickException(f"{self.contender.name}: its process ended; its last words are above") from None
        return self.num_steps / seconds

    def stop(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.join()


@contextmanager
def running(contender: Contender, setting: Setting) -> Iterator[Process]:
    """Keep a contender's process for the length of the block."""
    process = Process(contender, setting)
    try:
        yield process
    finally:
        process.stop()


def _serve(connection: Connection, prepare: Callable[[Setting], Run], setting: Setting) -> None:
    """Answer each number of steps with the seconds that they took after a warm-up, until nobody asks any more."""
    torch.set_num_threads(setting.num_threads)
    torch.set_flush_denormal(True)  # else the published loop goes ten times as slowly once its D has been dead a while
    run = prepare(setting)
    while True:
        try:
            num_steps: int = connection.recv()
        except EOFError:
            return
        run(setting.warm_up_steps)
        connection.send(run(num_steps))
