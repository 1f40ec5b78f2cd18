"""How does a machine take runs from the work pool, and what happens to a run when the machine stops?

`python -m flows.worker` starts Prefect's worker, and starts it again if it ends. It also puts killed runs back into
the queue (flows.recovery). On SIGTERM it sends SIGTERM to the run in training and waits until the run has saved and
put itself back. It is the first process of the worker's container, so it must wait: its end ends the container.
"""

import flows.first  # isort: skip  # noqa: F401  # before anything else of Prefect

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from uuid import uuid4

import httpx
from prefect.exceptions import PrefectException
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)

from flows.api import check_api, wait_for_api
from flows.logs import EXTRA_LOGGERS
from flows.prefect_compat import ENGINE
from flows.recovery import recover
from flows.settings import store_from_env
from flows.worker_metrics import metrics_server
from gan.cli.entry import WAITING
from gan.errors import GanError

POOL = "gpu"
WORKER = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--limit", "1",
          "--with-healthcheck", "--no-create-pool-if-not-found"]  # fmt: skip
RECOVER_SECONDS = 10.0
RUN_GRACE_SECONDS = 40.0
WORKER_GRACE_SECONDS = 10.0
ENVIRONMENT = {
    **WAITING,
    "PREFECT_CLIENT_MAX_RETRIES": "8",  # 2 + 4 + ... + 256 s: the state of a trained run must reach the server
    "PREFECT_LOGGING_EXTRA_LOGGERS": EXTRA_LOGGERS,
    "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",  # its health is asked for on this machine alone
}
HASTE = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: 10.0}  # it asks again soon; a stop must not wait
MARK = f"FLOWS_WORKER={uuid4().hex}".encode()  # is in the environment of each process that this one starts

log = logging.getLogger(__name__)


def main() -> int:
    """Work until SIGTERM or SIGINT; return 0. Return an error's code if the API refuses us at the start."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    log.addFilter(_differs_from_the_last())
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        log.info("%s: stopping; the run in training saves", signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    try:
        wait_for_api(lambda: stop.wait(RECOVER_SECONDS))
        with metrics_server(os.environ.get("GAN_METRICS_ADDRESS")) as for_metrics:
            os.environ.update(for_metrics)
            _work(stop)
    except GanError as error:
        return 0 if stop.is_set() else _refused(error)
    return 0


def _work(stop: threading.Event) -> None:
    log.info("the worker of the pool %s starts; it takes runs from %s in some seconds", POOL, PREFECT_API_URL.value())
    worker = _start()
    while not stop.wait(RECOVER_SECONDS):
        worker = _tend(worker)
    _end(worker)


def _refused(error: GanError) -> int:
    log.error("error: %s", error)
    return error.exit_code


def _differs_from_the_last() -> Callable[[logging.LogRecord], bool]:
    """Return a filter for a log that would say the same thing every ten seconds."""
    said = ""

    def differs(record: logging.LogRecord) -> bool:
        nonlocal said
        before, said = said, record.getMessage()
        return said != before

    return differs


def _start() -> subprocess.Popen[bytes]:
    name, _, value = MARK.decode().partition("=")
    # In a session of its own the worker gets no signal from the terminal: _end sends the signals in the right order.
    return subprocess.Popen(WORKER, env={**ENVIRONMENT, **os.environ, name: value}, start_new_session=True)


def _tend(worker: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Start the worker again if it has ended, and put killed runs back; return the worker."""
    try:
        with temporary_settings(HASTE):
            check_api()
            for line in recover(POOL, store_from_env()):
                log.info("%s", line)
        if worker.poll() is not None:
            log.warning("the worker ended with code %s; starting it again", worker.returncode)
            return _start()
    except (httpx.HTTPError, PrefectException, GanError) as error:
        log.warning("cannot put killed runs back at present; trying again every %.0f s: %s", RECOVER_SECONDS, error)
    return worker


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Let the run in training save and put itself back, then end the worker, which must read the run's output."""
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
    """Return the ids of the processes that run flows for a worker of this process, also of a worker that has ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or belongs to another user
            if ENGINE in (folder / "cmdline").read_bytes() and MARK in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


if __name__ == "__main__":
    sys.exit(main())
