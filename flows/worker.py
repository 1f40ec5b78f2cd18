"""How does a machine take runs from the work pool, and what becomes of a run when the machine stops?

`python -m flows.worker` starts Prefect's worker, and again when it gives up; it also puts runs back into the queue
whose processes were killed (flows.recovery). On SIGTERM it passes that on to the run in hand, which saves and puts
itself back, and waits for it. So it is what a container runs: with the first process everything there ends.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from uuid import uuid4

import httpx
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.recovery import recover
from flows.settings import store_from_env
from gan.cli.entry import WAITING
from gan.errors import GanError

POOL = "gpu"
WORKER = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--limit", "1",
          "--with-healthcheck", "--no-create-pool-if-not-found"]  # fmt: skip
RECOVER_SECONDS = 10.0
RUN_GRACE_SECONDS = 40.0
WORKER_GRACE_SECONDS = 10.0
PATIENT = {"PREFECT_CLIENT_MAX_RETRIES": "8"}  # 2 + 4 + ... + 256 s; a trained run has only its end to tell
ENGINE = b"prefect.engine"  # in the command line of each process that runs a flow
MARK = f"FLOWS_WORKER={uuid4().hex}".encode()  # in the environment of each process that comes from this one

log = logging.getLogger("flows.worker")


def main() -> int:
    """Work until SIGTERM or SIGINT; return 0."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        log.info("%s: stopping, the run in hand saves", signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    worker = _start()
    while not stop.wait(RECOVER_SECONDS):
        if worker.poll() is not None:
            log.warning("the worker ended with code %s; starting it again", worker.returncode)
            worker = _start()
        _recover()
    _end(worker)
    return 0


def _start() -> subprocess.Popen[bytes]:
    name, _, value = MARK.decode().partition("=")
    # A session of its own: signals are passed on by us, in order.
    return subprocess.Popen(WORKER, env={**WAITING, **PATIENT, **os.environ, name: value}, start_new_session=True)


def _recover() -> None:
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):  # the next time is soon, and a stop must not wait
            for line in recover(POOL, store_from_env()):
                log.info("%s", line)
    except (httpx.HTTPError, PrefectException, GanError) as error:
        log.warning("cannot look after killed runs at present: %s", error)


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Let the run in hand save and put itself back, then end the worker: it holds the pipe that the run writes to."""
    for pid in _engines():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + RUN_GRACE_SECONDS
    while _engines() and time.monotonic() < deadline:
        time.sleep(0.1)
    worker.terminate()
    try:
        worker.wait(WORKER_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def _engines() -> list[int]:
    """Return the processes that run flows and were started by this process's workers, the ended ones too."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is somebody else's
            if ENGINE in (folder / "cmdline").read_bytes() and MARK in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


if __name__ == "__main__":
    sys.exit(main())
