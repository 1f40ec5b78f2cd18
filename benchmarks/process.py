"""How does a benchmark case run in a process of its own, which waits between its windows?"""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection

import click
import torch

from benchmarks.cases import Case
from benchmarks.timing import WINDOW, Setting, TimeSteps

# Peers, our recipes and the limit take this many times the steps of the published loop, so that all windows last about
# as long.
STEP_FACTORS = {"cpu": 5, "cuda": 20}


class CaseProcess:
    """Run a case in its own process. Between the windows, the process waits."""

    def __init__(self, case: Case, setting: Setting) -> None:
        """Start the process. It prepares the case while the caller continues."""
        factor = STEP_FACTORS[setting.device] if case.group in ("peer", "ours", "limit") else 1
        setting = replace(setting, warm_up_steps=setting.warm_up_steps * factor)
        self.case, self.num_steps = case, WINDOW * setting.warm_up_steps
        spawn = multiprocessing.get_context("spawn")
        self.first_seconds: float | None = None  # of the first warm-up
        self.connection, child_connection = spawn.Pipe()
        self.process = spawn.Process(target=_time_windows, args=(child_connection, case.prepare, setting))
        self.process.start()
        child_connection.close()

    def begin(self) -> None:
        """Take the first warm-up steps, in which a compiler does its work. Wait until they are done."""
        self.first_seconds = self._time(self.num_steps // WINDOW)

    def time_window(self) -> float:
        """Take the warm-up steps, then the steps of a window. Return the window's steps per second."""
        self._time(self.num_steps // WINDOW)
        return self.num_steps / self._time(self.num_steps)

    def _time(self, num_steps: int) -> float:
        try:
            self.connection.send(num_steps)
            seconds: float = self.connection.recv()
        except (EOFError, BrokenPipeError):
            raise click.ClickException(f"{self.case.name}: its process ended; its error message is above") from None
        return seconds

    def stop(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.join()


@contextmanager
def running(case: Case, setting: Setting) -> Iterator[CaseProcess]:
    """Start a case's process, and end it after the block."""
    process = CaseProcess(case, setting)
    try:
        yield process
    finally:
        process.stop()


def _time_windows(connection: Connection, prepare: Callable[[Setting], TimeSteps], setting: Setting) -> None:
    """Receive numbers of steps and send the seconds that they took. Return when the connection is closed."""
    torch.set_num_threads(setting.num_threads)
    torch.set_flush_denormal(True)  # otherwise the published loop takes ten times as long, after D has died
    time_steps = prepare(setting)
    while True:
        try:
            num_steps: int = connection.recv()
        except EOFError:
            return
        connection.send(time_steps(num_steps))
