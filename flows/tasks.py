"""Which steps does the flow take, and which of them are worth another try?"""

import logging
from signal import Signals
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import task_run as this_task_run
from prefect.states import Cancelled

from flows.progress import publish_progress, show_film
from flows.workplace import Workplace
from gan import mnist, report
from gan.config import TrainConfig
from gan.errors import (
    CheckpointError,
    ConfigMismatchError,
    DataError,
    DeviceError,
    DownloadError,
    RunError,
    StorageError,
    TrainingDivergedError,
)
from gan.progress import show_download, show_progress
from gan.publish import publish, run_prefix
from gan.run_dir import RunDir
from gan.runner import open_run
from gan.signals import stop_on_signals
from gan.store import open_store

PERMANENT = (DataError, ConfigMismatchError, DeviceError, RunError, CheckpointError, TrainingDivergedError)

log = logging.getLogger("gan.tasks")


class Stopped(Exception):
    """A run that a signal has ended; the message says where, and how to go on."""

    def __init__(self, number: int, where: str, workplace: Workplace) -> None:
        super().__init__(f"stopped by {Signals(number).name} {where}; go on with: {workplace.command}")
        self.exit_code = 128 + number


def can_pass(error: object) -> bool:
    """Tell whether what went wrong may go right the next time, as a network or a disk may; bad data and NaN do not."""
    return isinstance(error, DownloadError) or not isinstance(error, PERMANENT)


def worth_retrying(_task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Decide, for every task here, whether Prefect tries again; say so where it does."""
    if again := can_pass(state.data):
        log.warning("%s will be tried again: %s", run.name, state.data)
    return again


@task(cache_policy=NO_CACHE, retries=3, retry_delay_seconds=[2, 10, 30], retry_condition_fn=worth_retrying)
def download_mnist(workplace: Workplace) -> None:
    """Make sure that the four files are in the data directory; good ones cost no request."""
    with show_download() as progress:
        mnist.download(workplace.data_dir, workplace.mirrors, pinned=workplace.pinned, progress=progress)


@task(cache_policy=NO_CACHE)
def validate_mnist(workplace: Workplace) -> None:
    """Read every byte of the four files and check all that is known of them."""
    mnist.validate(workplace.data_dir, pinned=workplace.pinned)


@task(cache_policy=NO_CACHE, retries=3, retry_delay_seconds=[2, 10, 30], retry_condition_fn=worth_retrying)
def train_gan(config: TrainConfig, workplace: Workplace) -> State[Any] | None:
    """Train the run to its end, going on where it was; return a Cancelled state when a signal stops it."""
    data = mnist.load(workplace.data_dir, pinned=workplace.pinned)
    from_scratch = workplace.from_scratch and this_task_run.run_count <= 1  # a second try goes on, too
    with (
        stop_on_signals() as stop,
        open_run(workplace.run_path, config, data, resume=True, from_scratch=from_scratch) as run,
        show_progress(run) as shown,
        publish_progress(run),
    ):
        for _ in run.train(stop):
            shown()
    if stop.signal is None:
        return None
    stopped = Stopped(stop.signal, f"at step {run.state.step:,} of {run.num_steps:,}", workplace)
    return Cancelled(message=str(stopped), data=stopped)


@task(cache_policy=NO_CACHE)
def render_report(workplace: Workplace) -> None:
    """Make the film and the report, unless a manifest vouches for those that are there; show the film."""
    run_dir = RunDir(workplace.run_path)
    if not run_dir.manifest_path.exists():
        report.render(run_dir)
    show_film(run_dir)


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_condition_fn=worth_retrying)
def publish_run(workplace: Workplace) -> str:
    """Put the run into the store and return its address there.

    Raises:
        StorageError: with the command that publishes the run, which is complete on disk.
    """
    try:
        store = open_store(workplace.store)
        publish(workplace.run_path, workplace.run_id, store)
    except StorageError as error:
        raise StorageError(
            f"{error}\nThe run is complete in {workplace.run_path}; publish it with: {workplace.command}"
        ) from error
    return f"{store.address.rstrip('/')}/{run_prefix(workplace.run_id)}"
