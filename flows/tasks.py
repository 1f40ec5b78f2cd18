"""Which steps does the flow take, and which of them are worth another try?"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import task_run as this_task_run
from prefect.states import Cancelled

from flows.artifacts import publish_progress, show_decision, show_film, show_report
from flows.settings import Workplace
from gan.cli.progress import show_download, show_progress
from gan.cli.signals import stop_on_signals
from gan.config import TrainConfig
from gan.data.dataset import Dataset, load_dataset, validate_dataset
from gan.data.download import download_dataset
from gan.data.shared import download_from_store, upload_to_store
from gan.device import choose_device
from gan.errors import (
    CheckpointError,
    ConfigMismatchError,
    DataError,
    DeviceError,
    DownloadError,
    GanError,
    RunError,
    StorageError,
    TrainingCollapsedError,
    TrainingDivergedError,
)
from gan.evaluation.evaluator import Evaluator
from gan.registry.champion import me
from gan.registry.promotion import Challenger, comparer, measure, promote
from gan.report import page as report
from gan.runs import layout
from gan.runs.run_dir import RunDir
from gan.runs.runner import Run, open_run
from gan.storage.address import link_to, open_store
from gan.sync.lease import hold
from gan.sync.publish import publish
from gan.sync.resume import fetch_run
from gan.sync.stored_run import StoredRun
from gan.sync.uploader import Uploader, uploading

FLUSH_SECONDS = 60.0  # at the end of a training; publish_run sends what is still missing then
FLUSH_STOPPED_SECONDS = 5.0  # of a training that a signal has ended: who sent it will not wait long

ILL = (TrainingDivergedError, TrainingCollapsedError)
PERMANENT = (DataError, ConfigMismatchError, DeviceError, RunError, CheckpointError, *ILL)

log = logging.getLogger("gan.tasks")


class Stopped(Exception):
    """A run that a signal has ended; the message says where, and how to go on."""

    def __init__(self, number: int, where: str, workplace: Workplace) -> None:
        self.where = f"stopped by {Signals(number).name} {where}"
        self.exit_code = 128 + number
        super().__init__(f"{self.where}; go on with: {workplace.command}")


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
    """Make sure that the four files are in the data directory; good ones cost no request.

    A store elsewhere is the first mirror, and gets the files that it lacks: the machines of a cluster download once.
    """
    store = open_store(workplace.store) if workplace.is_remote and workplace.pinned else None
    if store:
        download_from_store(store, workplace.data_dir)
    with show_download() as progress:
        download_dataset(workplace.data_dir, workplace.mirrors, pinned=workplace.pinned, progress=progress)
    if store:
        upload_to_store(store, workplace.data_dir)


@task(cache_policy=NO_CACHE)
def validate_mnist(workplace: Workplace) -> None:
    """Read every byte of the four files and check all that is known of them."""
    validate_dataset(workplace.data_dir, pinned=workplace.pinned)


@task(cache_policy=NO_CACHE, retries=3, retry_delay_seconds=[2, 10, 30], retry_condition_fn=worth_retrying)
def train_gan(config: TrainConfig, workplace: Workplace) -> State[Any] | None:
    """Train the run to its end, going on where it was; return a Cancelled state when a signal stops it."""
    data = load_dataset(workplace.data_dir, pinned=workplace.pinned)
    from_scratch = workplace.from_scratch and this_task_run.run_count <= 1  # a second try goes on, too
    with _opened(config, workplace, data, from_scratch) as (run, uploader), stop_on_signals() as stop:

        def note() -> str:
            return str(uploader.backlog) if uploader else ""

        with show_progress(run, note) as shown, publish_progress(run, note):
            try:
                for _ in run.train(lambda: stop() or (uploader is not None and uploader.lease_lost)):
                    if uploader:
                        uploader.wake()
                    shown()
            except ILL:
                if uploader:
                    _flush(uploader, FLUSH_SECONDS)  # metrics.jsonl says of what it has ended
                raise
        if uploader:
            _flush(uploader, FLUSH_SECONDS if stop.signal is None else FLUSH_STOPPED_SECONDS)
    if stop.signal is None:
        return None
    stopped = Stopped(stop.signal, f"at step {run.state.step:,} of {run.num_steps:,}", workplace)
    return Cancelled(message=str(stopped), data=stopped)


@contextmanager
def _opened(
    config: TrainConfig, workplace: Workplace, data: Dataset, from_scratch: bool
) -> Iterator[tuple[Run, Uploader | None]]:
    """Open the run; where the store is elsewhere, take its lease, get what it has more, and send what comes."""
    run_path = workplace.run_path
    opened = open_run(
        run_path, config, data, resume=True, from_scratch=from_scratch, default_seed=workplace.default_seed
    )
    if not workplace.is_remote:
        with opened as run:
            yield run, None
        return
    stored = _stored_run(workplace)
    with hold(stored) as lease:
        fetch_run(stored, run_path, from_scratch=from_scratch)
        with opened as run, uploading(run_path, lease) as uploader:
            yield run, uploader


def _flush(uploader: Uploader, seconds: float) -> None:
    """Wait for what is not sent yet; say so where that does not help. Raises RunError when the lease is lost."""
    try:
        uploader.flush(seconds)
    except StorageError as error:
        log.warning("not everything is in the store yet, the run directory has it: %s", error)


@task(cache_policy=NO_CACHE)
def render_report(workplace: Workplace) -> None:
    """Make the film and the report, unless a manifest vouches for those that are there; show the film."""
    run_dir = RunDir(workplace.run_path)
    if not run_dir.manifest_path.exists():
        report.render(run_dir)
    show_film(run_dir, None if workplace.is_remote else run_dir.report_path.resolve())


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_condition_fn=worth_retrying)
def publish_run(workplace: Workplace) -> str:
    """Put the run into the store and return its address there.

    Raises:
        StorageError: with the command that publishes the run, which is complete on disk.
    """
    try:
        stored = _stored_run(workplace)
        publish(workplace.run_path, stored)
    except StorageError as error:
        raise StorageError(
            f"{error}\nThe run is complete in {workplace.run_path}; publish it with: {workplace.command}"
        ) from error
    address = f"{stored.address}/"
    if workplace.is_remote:
        show_report(address, link_to(address, layout.REPORT))
    return address


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_condition_fn=worth_retrying)
def evaluate_gan(workplace: Workplace) -> Challenger | None:
    """Measure the published run; None, with a word, where the judge does not know the data set."""
    if not workplace.pinned:
        log.info("not evaluated: the judge knows MNIST, and --no-pinned-hash lets in other data")
        return None
    with _is_published(workplace):
        return measure(StoredRun.at(workplace.run_path), _evaluator(workplace))


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_condition_fn=worth_retrying)
def promote_champion(workplace: Workplace, challenger: Challenger) -> None:
    """Make the run the store's champion if it is better by more than the noise; show why, or why not."""
    with _is_published(workplace):
        store = open_store(workplace.store)
        compare_with = comparer(store, challenger, _evaluator(workplace))
        decision = promote(store, challenger, compare_with, f"gan-train, {me()}")
    log.info("%s", decision)
    show_decision(decision)


def _stored_run(workplace: Workplace) -> StoredRun:
    return StoredRun(open_store(workplace.store), workplace.run_id)


def _evaluator(workplace: Workplace) -> Evaluator:
    return Evaluator(load_dataset(workplace.data_dir), choose_device("auto").kind)


@contextmanager
def _is_published(workplace: Workplace) -> Iterator[None]:
    """Say, where something goes wrong from here on, that the run is published, and how to try again."""
    try:
        yield
    except GanError as error:
        where = f"runs/{workplace.run_id}/ in {workplace.store}"
        raise type(error)(
            f"{error}\nThe run is whole and published as {where}; have it measured again with: {workplace.command}"
        ) from error
