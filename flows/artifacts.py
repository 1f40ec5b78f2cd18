"""What does Prefect's UI show of a run: how far it is, its newest grid, its film?"""

import base64
import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import Artifact, MarkdownArtifact, ProgressArtifact, TableArtifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.exceptions import PrefectException

from gan.registry.promotion import Decision
from gan.runs.run_dir import RunDir, SnapshotMetrics
from gan.runs.runner import Run

UPDATE_SECONDS = 2.0
LAST_UPDATE_SECONDS = 5.0
MAX_FILM_BYTES = 1_000_000  # of the artifact before base64; larger ones make the UI slow

PROGRESS_KEY = "gan-train-progress"
SAMPLES_KEY = "gan-train-samples"
FILM_KEY = "gan-train-film"
REPORT_KEY = "gan-train-report"
CHAMPION_KEY = "gan-train-champion"
HEALTH_KEY = "gan-train-health"

log = logging.getLogger(__name__)


@contextmanager
def publish_progress(run: Run, note: Callable[[], str] = str) -> Iterator[None]:
    """Keep artifacts of the task run up to date: the share of steps trained, with a note, and the newest grid.

    A third one lists what the referee has found, once there is something.

    A thread of its own reads `run.state.step` every 2 s and talks to the API; training never waits for it. The last
    update is given 5 s.
    """
    done = threading.Event()
    context = contextvars.copy_context()  # holds the task run and the API's address
    thread = threading.Thread(target=context.run, args=(_update_until, done, run, note), name="artifacts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(LAST_UPDATE_SECONDS)


def show_film(run_dir: RunDir, report: Path | None) -> None:
    """Show the film, or the last grid where the film is too large; how good the samples are, and where the report is.

    `report` is its path, if it is on this machine.
    """
    film = run_dir.film_path.read_bytes()
    step, last_grid = run_dir.grids()[-1]
    if len(film) <= MAX_FILM_BYTES:
        picture = _picture(f"{step:,} steps", "gif", film)
    else:
        picture = _picture(f"step {step:,}", "png", last_grid.read_bytes())
    link = f"[Report]({report.as_uri()}): `{report}`" if report else ""
    _Live(FILM_KEY).show(_paragraphs(picture, evaluation_table(run_dir), link))


def show_report(address: str, link: str) -> None:
    """Show a link to the report of a run in a bucket, which opens without credentials for a week."""
    _Live(REPORT_KEY).show(
        f"[Report of {address}]({link})\n\nThe link works for seven days; `gan report --link {address}` makes another."
    )


def show_decision(decision: Decision) -> None:
    """Show a table of the run's figures beside the champion's and those of real images, and what they decide."""
    _Live(CHAMPION_KEY).show(decision.rows(), str(decision))


def _update_until(done: threading.Event, run: Run, note: Callable[[], str]) -> None:
    progress, samples, health = _Live(PROGRESS_KEY), _Live(SAMPLES_KEY), _Live(HEALTH_KEY)
    while True:
        last = done.is_set()
        line = ", ".join(filter(None, (_progress_line(run), note())))
        progress.show(min(100.0, 100 * run.state.step / run.num_steps), line)
        if metrics := run.metrics:
            with suppress(FileNotFoundError):  # of a run that was sent back at this moment
                samples.show(_samples(run.run_dir, metrics))
        if events := run.state.health.events:
            health.show("\n".join(f"- {event}" for event in events))
        if last:
            return
        done.wait(UPDATE_SECONDS)


def _progress_line(run: Run) -> str:
    line = f"step {run.state.step:,} of {run.num_steps:,}"
    metrics = run.metrics
    if metrics is None:
        return line
    minutes = (run.num_steps - run.state.step) / metrics.steps_per_second / 60
    return f"{line}, {metrics.steps_per_second:,.0f} steps/s, {minutes:.0f} min left"


def _samples(run_dir: RunDir, metrics: SnapshotMetrics) -> str:
    return _paragraphs(
        _picture(f"step {metrics.step:,}", "png", run_dir.grid_path(metrics.step).read_bytes()),
        "| step | g_loss | d_loss | steps/s |\n|---:|---:|---:|---:|\n"
        f"| {metrics.step:,} | {metrics.g_loss:.4f} | {metrics.d_loss:.4f} | {metrics.steps_per_second:,.1f} |",
        evaluation_table(run_dir),
    )


def evaluation_table(run_dir: RunDir) -> str:
    """Return a Markdown table of a run's last evaluation, and of its best if that is another; empty without any."""
    metrics = run_dir.read_metrics()
    evaluated = [(each.step, each.evaluation) for each in metrics if each.evaluation]
    best = run_dir.best_checkpoint(metrics)
    rows = "".join(
        f"\n| {step:,} | {found.distance:.2f} | {found.distance_floor:.2f} | {found.classes_covered} of 10 |"
        for step, found in evaluated
        if step == evaluated[-1][0] or (best and step == best.step)
    )
    return rows and f"| step | Fréchet distance | of real images | classes |\n|---:|---:|---:|---:|{rows}"


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(filter(None, texts))


def _picture(title: str, kind: str, data: bytes) -> str:
    return f"![{title}](data:image/{kind};base64,{base64.b64encode(data).decode()})"


class _Live:
    """One artifact of the current task run, created when first shown and updated from then on."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.id: UUID | None = None
        self.shown: Any = None

    def show(self, data: float | str | list[dict[str, str]], description: str | None = None) -> None:
        """Send what is to be seen, unless it is there already; an API that is away or refuses is let be."""
        if (data, description) == self.shown:
            return
        try:
            if self.id is None:
                self.id = self._new(data, description).create(_sync=True).id  # type: ignore[call-arg, union-attr]
            else:
                with get_client(sync_client=True) as client:
                    client.update_artifact(self.id, ArtifactUpdate(data=data, description=description))
            self.shown = (data, description)
        except (httpx.HTTPError, PrefectException) as error:
            log.debug("artifact %s is not updated: %s", self.key, error)

    def _new(self, data: float | str | list[dict[str, str]], description: str | None) -> Artifact:
        if isinstance(data, list):
            return TableArtifact(key=self.key, table=data, description=description)
        if isinstance(data, float):
            return ProgressArtifact(key=self.key, progress=data, description=description)
        return MarkdownArtifact(key=self.key, markdown=data, description=description)
