"""How does a machine take runs from the work pool, and what happens to a run when the machine stops?

`python -m flows.worker` starts Prefect's worker, and starts it again if it ends. It also puts killed runs back into
the queue (flows.recover). On SIGTERM, and when the terminal closes, it waits until the run in training has saved and
put itself back (flows.worker_process). It is the first process of the worker's container, so it must wait: its end
ends the container.
"""

import flows.first  # isort: skip  # noqa: F401  # before anything else of Prefect

import logging
import os
import subprocess
import sys
import threading
from uuid import uuid4

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.api import HASTE, check_api, wait_for_api
from flows.logs import EXTRA_LOGGERS
from flows.prefect_compat import working_dir_of
from flows.recover import AWAY, RECOVER_SECONDS, recover_or_warn, said_by
from flows.service import log_to_stderr, stop_event
from flows.worker_metrics import metrics_server
from flows.worker_process import MARK, RUN_GRACE_SECONDS, WORKER_GRACE_SECONDS, stop_runs
from gan.cli.entry import WAITING, run_program
from gan.errors import GanError, SettingError

POOL = "gpu"
WORKER = [sys.executable, "-m", "flows.worker_process", "prefect", "worker", "start", "--pool", POOL,
          "--type", "process", "--limit", "1", "--with-healthcheck", "--no-create-pool-if-not-found"]  # fmt: skip
ENVIRONMENT = {
    **WAITING,
    "PREFECT_CLIENT_MAX_RETRIES": "8",  # 2 + 4 + ... + 256 s: the state of a trained run must reach the server
    "PREFECT_LOGGING_EXTRA_LOGGERS": EXTRA_LOGGERS,
    "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",  # its health is asked for on this machine alone
}

log = logging.getLogger(__name__)


def main() -> int:
    """Work until SIGTERM, SIGINT or SIGHUP; return 0. Return an error's code if the API refuses us at the start."""
    log_to_stderr(log)
    stop = stop_event(log, "stopping; the run in training saves")
    os.environ[MARK] = uuid4().hex
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
    if not _wait_for_work_dir(stop):
        return
    worker = _start()
    while not stop.wait(RECOVER_SECONDS):
        worker = _tend(worker)
    _end(worker)


def _wait_for_work_dir(stop: threading.Event) -> bool:
    """Wait until the pool is there and its directory is on this machine: a run that is taken before would crash.

    Returns whether it is; False after a signal.
    """
    while not stop.is_set():
        try:
            with temporary_settings(HASTE):
                check_work_dir(POOL)
            return True
        except AWAY as error:
            log.warning("waiting: %s", said_by(error))
        stop.wait(RECOVER_SECONDS)
    return False


def check_work_dir(pool: str) -> None:
    """Raise SettingError if a pool, or the directory in which its runs work, is not there."""
    try:
        with get_client(sync_client=True) as client:
            work_dir = working_dir_of(client.read_work_pool(pool).base_job_template)
    except ObjectNotFound as error:
        raise SettingError(f"There is no work pool {pool} yet. Make it by `python -m flows.deploy`.") from error
    if work_dir and not work_dir.is_dir():
        raise SettingError(
            f"The runs of the work pool {pool} work in {work_dir}, which is no directory of this machine. Make it, or "
            "set GAN_WORK_DIR to another one and run `python -m flows.deploy`."
        )


def _refused(error: GanError) -> int:
    log.error("error: %s", error)
    return error.exit_code


def _start() -> subprocess.Popen[bytes]:
    # In a session of its own the worker gets no signal from the terminal: flows.worker_process sends them in order.
    return subprocess.Popen(WORKER, env={**ENVIRONMENT, **os.environ}, stdin=subprocess.PIPE, start_new_session=True)


def _tend(worker: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Put killed runs back, and start the worker again if it has ended; return the worker."""
    recover_or_warn()
    if worker.poll() is None:
        return worker
    try:
        with temporary_settings(HASTE):
            check_api()
            check_work_dir(POOL)
    except AWAY as error:
        log.warning(
            "the worker ended with code %s, and is not started again yet: %s", worker.returncode, said_by(error)
        )
        return worker
    log.warning("the worker ended with code %s; starting it again", worker.returncode)
    return _start()


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Let the run in training save and put itself back, then end the worker. Both follow from the end of its input."""
    if worker.poll() is not None:
        stop_runs()
    assert worker.stdin is not None
    worker.stdin.close()
    try:
        worker.wait(RUN_GRACE_SECONDS + WORKER_GRACE_SECONDS + 1)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


if __name__ == "__main__":
    sys.exit(run_program(main))
