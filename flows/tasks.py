"""Which tasks does the flow have, beside those of the data?"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from signal import Signals
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import deployment
from prefect.runtime import task_run as this_task_run
from prefect.states import Cancelled

from flows.artifacts import publish_progress, show_decision, show_film, show_report
from flows.data_tasks import load_data, set_of
from flows.retries import UNHEALTHY, without_secrets, worth_retrying
from flows.run_metrics import write_metrics
from flows.settings import Settings
from gan.cli.progress import show_progress
from gan.cli.signals import stop_on_signals
from gan.config import TrainConfig
from gan.data.dataset import Dataset
from gan.device import choose_device
from gan.errors import (
    DataError,
    GanError,
    StorageError,
)
from gan.evaluation.evaluator import Evaluator
from gan.recipes.resolve import check
from gan.registry.champion import me
from gan.registry.judging import evaluator_of, no_judge
from gan.registry.promotion import Challenger, comparer, measure, promote
from gan.report import page as report
from gan.runs import layout
from gan.runs.config_file import check_recipe, data_of
from gan.runs.provenance import check_is_of_mnist
from gan.runs.run_dir import RunDir
from gan.sets.loading import with_set
from gan.storage.address import link_to, open_store
from gan.storage.local import LocalStore
from gan.sync.cache import initial_copy
from gan.sync.claims import delete_claims
from gan.sync.lease import Lease, hold
from gan.sync.listing import stored_name
from gan.sync.publish import publish, seal
from gan.sync.resume import fetch_run
from gan.sync.stored_run import StoredRun, check_id
from gan.sync.uploader import Uploader, uploading
from gan.training.runner import Run, open_run

FLUSH_SECONDS = 60.0  # at the end of a training; publish_run then sends what is still missing
FLUSH_STOPPED_SECONDS = 5.0  # after a signal, because a process manager kills soon after it

log = logging.getLogger(__name__)


class Stopped(Exception):
    """A signal has stopped the run. The message says at which step, and how to resume."""

    def __init__(self, number: int, where: str, settings: Settings) -> None:
        self.where = f"stopped by {Signals(number).name} {where}"
        self.exit_code = 128 + number
        super().__init__(f"{self.where}; resume with: {settings.command}")


@task(cache_policy=NO_CACHE, retries=3, retry_delay_seconds=[2, 10, 30], retry_condition_fn=worth_retrying)
@without_secrets
def hold_run(settings: Settings, held: ExitStack) -> Lease | None:
    """Keep other processes out of the run until `held` is closed. For a bucket, take and return its lease."""
    with ExitStack() as stack:
        lease = stack.enter_context(hold(_stored_run(settings))) if settings.is_remote else None
        stack.enter_context(RunDir(settings.run_path).held())
        held.push(stack.pop_all())
    return lease


@task(cache_policy=NO_CACHE, retries=3, retry_delay_seconds=[2, 10, 30], retry_condition_fn=worth_retrying)
@without_secrets
def train_gan(config: TrainConfig, settings: Settings, lease: Lease | None) -> State[Any] | None:
    """Train the run to its end, or resume it. Returns a Cancelled state if a signal stops it."""
    data = load_data(config, settings)
    config = with_set(config, data)
    from_scratch = settings.from_scratch and this_task_run.run_count <= 1  # a second attempt resumes
    with _opened(config, settings, data, lease, from_scratch) as (run, uploader), stop_on_signals() as stop:

        def backlog() -> str:
            return str(uploader.backlog) if uploader else ""

        with (
            show_progress(run, backlog) as snapshot_done,
            publish_progress(run, backlog),
            write_metrics(run, uploader),
        ):
            try:
                for _ in run.train(lambda: stop() or (uploader is not None and uploader.lease_lost)):
                    if uploader:
                        uploader.wake()
                    snapshot_done()
            except UNHEALTHY:
                if uploader:
                    _flush(uploader, FLUSH_SECONDS)  # metrics.jsonl has the diagnosis
                raise
        if uploader:
            _flush(uploader, FLUSH_SECONDS if stop.signal is None else FLUSH_STOPPED_SECONDS)
    if stop.signal is None:
        return None
    stopped = Stopped(stop.signal, f"at step {run.state.step:,} of {run.num_steps:,}", settings)
    return Cancelled(message=str(stopped), data=stopped)


@contextmanager
def _opened(
    config: TrainConfig, settings: Settings, data: Dataset, lease: Lease | None, from_scratch: bool
) -> Iterator[tuple[Run, Uploader | None]]:
    """Open the run. For a bucket: fetch newer files, and upload files while the run trains."""
    run_path = settings.run_path
    if lease:
        fetch_run(lease, run_path, from_scratch=from_scratch)
    with open_run(
        run_path,
        config,
        data,
        resume=True,
        from_scratch=from_scratch,
        default_seed=settings.default_seed,
        is_held=True,
        init_path=initial_copy(config.init_from, run_path),
    ) as run:
        if lease is None:
            yield run, None
            return
        if from_scratch:
            lease.begin_anew()
        with uploading(run_path, lease) as uploader:
            yield run, uploader


def _flush(uploader: Uploader, seconds: float) -> None:
    """Wait until everything is uploaded, or log a warning. Raises RunError when the lease is lost."""
    try:
        uploader.flush(seconds)
    except StorageError as error:
        log.warning("some files are not in the store yet; the run directory has all of them: %s", error)


@task(cache_policy=NO_CACHE, retries=0)
@without_secrets
def render_report(settings: Settings) -> None:
    """Make the film and the report unless the run has a manifest, and show the film in Prefect's UI."""
    run_dir = RunDir(settings.run_path)
    if not run_dir.manifest_path.exists():
        report.render(run_dir)
    show_film(run_dir, None if settings.is_remote else run_dir.report_path.resolve())


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_condition_fn=worth_retrying)
@without_secrets
def publish_run(settings: Settings, lease: Lease | None) -> str:
    """Put the run into the store and return its address there.

    Raises:
        StorageError: the run is complete on disk; the message has the command that publishes it.
    """
    try:
        if lease:
            publish(settings.run_path, lease)
        else:
            seal(settings.run_path, settings.run_id)
    except StorageError as error:
        raise StorageError(
            f"{error}\nThe run is complete in {settings.run_path}; publish it with: {settings.command}"
        ) from error
    _delete_claims(settings)
    address = f"{_stored_run(settings).address}/"
    if settings.is_remote:
        _show_link(address)
    return address


def _delete_claims(settings: Settings) -> None:
    """Delete who has put the run back into the queue. It may stay: prune deletes it, too."""
    if deployment.id is not None:
        try:
            delete_claims(_stored_run(settings))
        except StorageError as error:
            log.warning("the claims of the published run stay in the store: %s", error)


def _show_link(address: str) -> None:
    """Show a link to the report of a published run, or log a warning where none can be made."""
    try:
        show_report(address, link_to(address, layout.REPORT))
    except StorageError as error:
        log.warning("the run is published, but there is no link to its report: %s", error)


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_condition_fn=worth_retrying)
@without_secrets
def evaluate_gan(config: TrainConfig, settings: Settings) -> Challenger | None:
    """Measure the published run by the judge of its data set. Returns None where that has none."""
    address = _set_of_run(config, settings)
    if not (settings.pinned or address):
        log.info("not evaluated: the judge knows only MNIST, and --no-pinned-hash accepts other data")
        return None
    with _is_published(settings):
        evaluator = _evaluator(config, settings)
        if evaluator is None:
            log.info("not compared with a champion: %s; then `%s` measures this run",
                     no_judge(str(address)), settings.command)  # fmt: skip
            return None
        run = StoredRun(LocalStore(settings.run_path.parents[1]), settings.run_id)  # the copy on this machine
        return measure(run, evaluator)


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[1, 5], retry_condition_fn=worth_retrying)
@without_secrets
def promote_champion(config: TrainConfig, settings: Settings, challenger: Challenger, lease: Lease | None) -> None:
    """Make the run the champion of its data set if it is better by more than the noise, and show the comparison."""
    with _is_published(settings):
        if lease:
            lease.check()
        store = open_store(settings.store)
        evaluator = _evaluator(config, settings)
        if evaluator is None or evaluator.judge.sha256 != challenger.evaluation.judge:
            raise DataError("the judge of the data set has changed since the run was measured")
        compare_with = comparer(store, challenger, evaluator)
        decision = promote(store, challenger, compare_with, f"gan-train, {me()}")
    log.info("%s", decision)
    runs = filter(None, (decision.run_id, decision.champion))
    show_decision(decision, {run_id: stored_name(StoredRun(store, run_id)) for run_id in runs})


def check_run(config: TrainConfig, settings: Settings) -> None:
    """Refuse, before the download, what the training would refuse.

    Raises:
        RunError: a new run cannot have its id.
        DeviceError: a new run cannot have its device on this machine.
        RecipeError: its recipe is not built in, and cannot be used.
        ConfigMismatchError: the run is of other data than MNIST, or its recipe has other code.
    """
    if not settings.run_path.exists():
        choose_device(config.device)
        if not settings.is_remote:  # a run in a bucket may have been made with other code, which is not imported
            check(config)
    check_recipe(settings.run_path)
    check_id(_stored_run(settings), settings.run_path)
    if settings.pinned and not set_of(config, settings):
        check_is_of_mnist(settings.run_path)


def _stored_run(settings: Settings) -> StoredRun:
    return StoredRun(open_store(settings.store), settings.run_id)


def _set_of_run(config: TrainConfig, settings: Settings) -> str | None:
    """Return the data set as the run names it, with its hash: by now, another one may have the same name."""
    return data_of(settings.run_path) or config.data


def _evaluator(config: TrainConfig, settings: Settings) -> Evaluator | None:
    of_run = config.model_copy(update={"data": _set_of_run(config, settings)})
    return evaluator_of(load_data(of_run, settings), choose_device("auto").kind)


@contextmanager
def _is_published(settings: Settings) -> Iterator[None]:
    """Add to an error of this block that the run is published, and how to try again."""
    try:
        yield
    except GanError as error:
        where = f"runs/{settings.run_id}/ in {settings.store}"
        raise type(error)(
            f"{error}\nThe run is complete and published as {where}; measure it again with: {settings.command}"
        ) from error
