"""How long does Prefect's worker live? As long as its standard input is open.

Run it as `python -m flows.worker_process MODULE ARGUMENTS`; MODULE is the program of the worker. flows.worker holds the
other end of standard input. The kernel closes that end when flows.worker ends, also after SIGKILL. Then the run in
training saves and puts itself back into the queue, and the worker ends after it, because it reads the run's output.
"""

import os
import runpy
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

ENGINE = b"prefect.engine"  # is in the command line of each process that runs a flow; see test_prefect_compat.py
MARK = "FLOWS_WORKER"  # this variable has the same value in each process that one flows.worker starts
RUN_GRACE_SECONDS = 40.0
WORKER_GRACE_SECONDS = 10.0


def main(module: str, *arguments: str) -> None:
    """Run the program of the worker in this process."""
    threading.Thread(target=_watch, daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def stop_runs() -> None:
    """Let the run in training save and put itself back, and wait for its end."""
    for pid in _engines():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + RUN_GRACE_SECONDS
    while _engines() and time.monotonic() < deadline:
        time.sleep(0.1)


def _watch() -> None:
    """End this process when standard input ends. Drop what it prints when the terminal or the reader has gone."""
    watched = select.poll()
    watched.register(sys.stdin.fileno(), select.POLLIN)
    for descriptor in (1, 2):
        watched.register(descriptor, 0)  # reports only that nobody can read any more
    gone: list[int] = []
    while sys.stdin.fileno() not in gone:
        gone = [descriptor for descriptor, _event in watched.poll()]
        for descriptor in gone:
            watched.unregister(descriptor)
            if descriptor in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    stop_runs()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(WORKER_GRACE_SECONDS)
    os._exit(1)


def _engines() -> list[int]:
    """Return the ids of the processes that run flows for the same flows.worker, also for a worker that has ended."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or belongs to another user
            if ENGINE in (folder / "cmdline").read_bytes() and mark in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
