"""How does a flow run of a deployment put itself back into the queue of its work pool?

After a signal it does so at once. After an error that may pass, as of a network, a store or a missing device, it waits
longer each time. At the end of a run it waits up to ten minutes for Prefect, but not after a signal. If Prefect still
cannot be reached, the process ends with an error, and flows.recover finds the run later.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import NoReturn
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.runtime import deployment
from prefect.runtime import flow_run as this_flow_run
from prefect.settings import temporary_settings
from prefect.states import AwaitingRetry, Running

from flows.api import HASTE, wait_for_api
from flows.labels import Ends, labels_of_place, progress_of
from flows.prefect_compat import end_process
from flows.settings import Settings
from gan.errors import GanError, StorageError, TakenOverError
from gan.storage.local import LocalStore
from gan.storage.masking import masked
from gan.sync.lease import Lease
from gan.sync.stored_run import StoredRun

REQUEUE_SECONDS = 20  # the stopping worker takes runs up to 10 s ahead, and must not take this one
MAX_DELAY_SECONDS = 3600
API_SECONDS = 600.0  # in which Prefect may be restarted or updated when a run ends
API_POLL_SECONDS = 5.0
MAX_FAILURES = 32  # with delays of 20, 40, ..., 3600, 3600 s: about a day

log = logging.getLogger(__name__)


def label_run(settings: Settings) -> None:
    """Write into the labels of this flow run where its run is, so that other machines find it."""
    with _prefect() as client:
        client.update_flow_run_labels(UUID(this_flow_run.id), labels_of_place(settings.store, settings.run_id))


def put_back(message: str, seconds: float = REQUEUE_SECONDS) -> NoReturn:
    """Put the flow run of this process back into its work pool's queue, and end the process."""
    later: State[None] = AwaitingRetry(message=message, scheduled_time=datetime.now(UTC) + timedelta(seconds=seconds))
    with _prefect() as client:
        client.set_flow_run_state(UUID(this_flow_run.id), later, force=True)
    end_process(message)


def put_back_later(message: str, settings: Settings) -> None:
    """Put the flow run of this process back, to try again after a delay that doubles each time.

    Return, doing nothing, after a day in which each attempt has failed without progress.
    """
    with _prefect() as client:
        labels = client.read_flow_run(UUID(this_flow_run.id)).labels
        before = Ends.of(labels).since(_progress_here(settings))
        if before.failures >= MAX_FAILURES:
            return
        now = Ends(before.progress, before.failures + 1, before.crashes)
        client.update_flow_run_labels(UUID(this_flow_run.id), now.labels)
    delay = min(REQUEUE_SECONDS * 2**before.failures, MAX_DELAY_SECONDS)
    put_back(f"failed: {message} It is tried again in {delay:,} s.", delay)


def _progress_here(settings: Settings) -> int:
    """Return how far the run is in its directory on this machine: its store may be away."""
    with suppress(StorageError):
        return progress_of(StoredRun(LocalStore(settings.run_path.parents[1]), settings.run_id))
    return 0


def check_ours(lease: Lease | None, *, patient: bool = True) -> None:
    """Raise TakenOverError unless this process may say how a flow run of a deployment ended.

    It may while Prefect has the run as running. Where Prefect takes the run for Crashed, and this process holds it,
    its state becomes Running first: then nobody puts it back. A run that is in the queue again belongs to the next
    process, which finds what this one has published. A process whose lease has expired may not if Prefect has anything
    newer of the run than its own start.

    If Prefect does not answer, wait for it while `patient`, then end the process.
    """
    if deployment.id is None:
        return
    if patient:
        _wait_for_prefect()
    expired = _expired(lease)
    with _prefect() as client:
        run = client.read_flow_run(UUID(this_flow_run.id))
        state = run.state
        assert state is not None
        if not expired and state.is_crashed():
            client.set_flow_run_state(run.id, Running(message="its process lives"), force=True)
            return
        is_running = state.is_running() or state.is_cancelling()
        if is_running and not (expired and run.run_count != this_flow_run.run_count):
            return
    why = expired or f"The flow run {run.name} is {state.name} in Prefect."
    raise TakenOverError(f"{why} Another process may have taken over the run.")


def _wait_for_prefect() -> None:
    """Wait until Prefect answers, but not for ever. The lease is renewed meanwhile."""
    give_up_at = time.monotonic() + API_SECONDS

    def wait() -> bool:
        time.sleep(API_POLL_SECONDS)
        return time.monotonic() > give_up_at

    with suppress(GanError), temporary_settings(HASTE):
        wait_for_api(wait)


def _expired(lease: Lease | None) -> StorageError | None:
    """Return why a lease cannot be renewed; None where it holds, or where there is none. Raises TakenOverError."""
    if lease is None:
        return None
    with suppress(StorageError):
        lease.check()
        return None
    try:
        lease.confirm()
    except StorageError as error:
        return error
    return None


def is_cancelling() -> bool:
    """Return whether a user has asked to cancel the flow run of this process."""
    with _prefect() as client:
        state = client.read_flow_run(UUID(this_flow_run.id)).state
    return state is not None and state.is_cancelling()


@contextmanager
def _prefect() -> Iterator[SyncPrefectClient]:
    """Yield a client. If Prefect does not answer, end the process: its missing heartbeats show that it has ended."""
    try:
        with get_client(sync_client=True) as client:
            yield client
    except (httpx.HTTPError, PrefectException) as error:
        log.error("Prefect cannot be told how this run ended: %s. A worker, or `python -m flows.recover`, puts the run "
                  "back once its heartbeats are missed.", masked(str(error)))  # fmt: skip
        raise SystemExit(1) from error
