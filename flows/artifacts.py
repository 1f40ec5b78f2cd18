"""What does Prefect's UI show of a run: its progress, newest grid, health events, film and comparison?"""

import base64
import contextvars
import json
import logging
import re
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import Artifact, MarkdownArtifact, ProgressArtifact, TableArtifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run as this_flow_run

from flows.prefect_compat import create_artifact
from gan.data.data_note import DataNote
from gan.evaluation.results import QuickEvaluation
from gan.registry.promotion import Decision
from gan.runs.run_dir import RunDir, SnapshotMetrics
from gan.training.runner import Run

UPDATE_SECONDS = 2.0
LAST_UPDATE_SECONDS = 5.0
# What has a meaning in Markdown and HTML, also as a part of an address that the UI would turn into a link. The ids of
# runs of older versions, and paths, can have all of it.
MARKUP = re.compile(
    r"[\\`*\[\]<>|&~#!@$]|^[-+]|(?<![^\W_])_|_(?![^\W_])|(?<=http):|(?<=https):|(?<=ftp):|(?<=www)\.", re.IGNORECASE
)
MAX_FILM_BYTES = 1_000_000  # before base64; a larger artifact makes the UI slow

PROGRESS_KEY = "gan-train-progress"
SAMPLES_KEY = "gan-train-samples"
FILM_KEY = "gan-train-film"
REPORT_KEY = "gan-train-report"
CHAMPION_KEY = "gan-train-champion"
HEALTH_KEY = "gan-train-health"
LARGE = "../../artifacts/artifact/{id}"  # from a run's page and from an artifact's, in both of Prefect's UIs
PREFECTS_NAME = re.compile(r"[A-Za-z]+\d*-[A-Za-z]+")  # as the server and both UIs make them up: brave-tiger

log = logging.getLogger(__name__)


@contextmanager
def publish_progress(run: Run, backlog: Callable[[], str] = str) -> Iterator[None]:
    """Name the flow run, and update its artifacts while this block trains: progress, newest grid, health events.

    `backlog` returns what is still to be uploaded, in words, or nothing. A thread reads `run.state.step` every 2 s and
    sends the artifacts, so training never waits for the API. The last update may take 5 s.
    """
    done = threading.Event()
    context = contextvars.copy_context()  # it has the task run and the API's address
    thread = threading.Thread(
        target=context.run, args=(_update_until, done, run, backlog), name="artifacts", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(LAST_UPDATE_SECONDS)


def name_for(given: str, run_dir: RunDir) -> str:
    """Return the name of the flow run of a run: what it trains. A name that somebody has typed stays."""
    if given == run_dir.read_provenance().run_id:
        return f"{run_dir.read_name()} ({given})"
    return run_dir.read_name() if PREFECTS_NAME.fullmatch(given) else given


def _show_name(run_dir: RunDir) -> None:
    given = this_flow_run.name or ""
    name = name_for(given, run_dir)
    if name == given:
        return
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(this_flow_run.id), name=name)
    except (httpx.HTTPError, PrefectException) as error:
        log.debug("the flow run is not named: %s", error)


def show_film(run_dir: RunDir, report: Path | None) -> None:
    """Show the film and the evaluation of a run, or its last grid if the film is too large.

    `report` is the path of the report, if it is on this machine.
    """
    film = run_dir.film_path.read_bytes()
    step, last_grid = run_dir.grids()[-1]
    if len(film) <= MAX_FILM_BYTES:
        picture = _picture(f"{step:,} steps", "gif", film)
    else:
        picture = _picture(f"step {step:,}", "png", last_grid.read_bytes())
    link = f"[Report]({report.as_uri()}): {_code(report)}" if report else ""
    poster = f"![last grid](data:image/png;base64,{_base64(last_grid.read_bytes())})"  # small: the film is below it
    description = f"[Film of the grids up to step {step:,}]({LARGE}) {poster}"
    _Live(FILM_KEY).show(_paragraphs(picture, evaluation_table(run_dir), link), description)


def show_report(address: str, link: str) -> None:
    """Show a link to the report of a run in a bucket. It opens without credentials for a week."""
    command = _code(f"gan report --link {shlex.quote(address)}")
    _Live(REPORT_KEY).show(
        f"[Report of {_text(address)}]({link})\n\nThe link works for seven days; {command} makes another.",
        "The link to the report. It works for seven days.",
    )


def show_decision(decision: Decision, names: Mapping[str, str]) -> None:
    """Show the decision, the names of both runs, and the figures of both beside those of real images.

    Each data set has an artifact of its own, which says whose images it is about.
    """
    lines = [str(decision), *decision.columns(names)]
    if note := decision.data:
        lines += [f"data: {note.address}", *(f"{name}: {text}" for name, text in note.rights.items())]
    _Live(champion_key(decision.data)).show(decision.rows(), _paragraphs(*map(_text, lines)))


def champion_key(data: DataNote | None) -> str:
    """Return the key of the artifact for the champion of a data set. Prefect allows a-z, 0-9 and hyphens in it."""
    if data is None:
        return CHAMPION_KEY
    name = re.sub("[^a-z0-9]+", "-", data.name.lower()).strip("-")
    return f"{CHAMPION_KEY}-{name}-{data.sha256[:8]}"


def _update_until(done: threading.Event, run: Run, backlog: Callable[[], str]) -> None:
    _show_name(run.run_dir)
    progress, samples, health = _Live(PROGRESS_KEY), _Live(SAMPLES_KEY), _Live(HEALTH_KEY)
    while True:
        last = done.is_set()
        line = ", ".join(filter(None, (_progress_line(run), backlog())))
        progress.show(min(100.0, 100 * run.state.step / run.num_steps), line)
        if metrics := run.metrics:
            with suppress(FileNotFoundError):  # the monitor has just rolled the run back and deleted the grid
                samples.show(_samples(run.run_dir, metrics), _samples_card(run.run_dir, metrics.step))
        if events := run.state.health.events:
            health.show("\n".join(f"- {event}" for event in events), f"Health: {events[-1]}")
        if last:
            return
        done.wait(UPDATE_SECONDS)


def _progress_line(run: Run) -> str:
    line = f"step {run.state.step:,} of {run.num_steps:,}"
    metrics = run.metrics
    if metrics is None:
        return line
    minutes = metrics.minutes_for(run.num_steps - run.state.step)
    return f"{line}, {metrics.steps_per_second:,.0f} steps/s, {minutes:.0f} min left"


def _samples(run_dir: RunDir, metrics: SnapshotMetrics) -> str:
    return _paragraphs(
        _picture(f"step {metrics.step:,}", "png", run_dir.grid_path(metrics.step).read_bytes()),
        "| step | g_loss | d_loss | steps/s |\n|---:|---:|---:|---:|\n"
        f"| {metrics.step:,} | {metrics.g_loss:.4f} | {metrics.d_loss:.4f} | {metrics.steps_per_second:,.1f} |",
        evaluation_table(run_dir),
    )


def _samples_card(run_dir: RunDir, step: int) -> str:
    picture = _picture("newest grid", "png", run_dir.grid_path(step).read_bytes())
    return _paragraphs(f"[25 samples at step {step:,}]({LARGE})", picture)


def evaluation_table(run_dir: RunDir) -> str:
    """Return a Markdown table of a run's last and best evaluations, or an empty text if there is none."""
    metrics = run_dir.read_metrics()
    evaluated = [(each.step, each.evaluation) for each in metrics if each.evaluation]
    if not evaluated:
        return ""
    best = run_dir.best_checkpoint(metrics)
    shown_steps = {evaluated[-1][0]}
    if best:
        shown_steps.add(best.step)
    rows = [
        f"| {step:,} | {found.distance:.2f} | {found.distance_floor:.2f} | {_classes(found)} |"
        for step, found in evaluated
        if step in shown_steps
    ]
    return "\n".join(["| step | Fréchet distance | of real images | classes |", "|---:|---:|---:|---:|", *rows])


def _classes(found: QuickEvaluation) -> str:
    return f"{found.classes_covered} of {len(found.class_shares)}" if found.class_shares else "no labels"


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(filter(None, texts))


def _text(text: object) -> str:
    """Return Markdown that shows a text as it is."""
    return MARKUP.sub(lambda found: f"\\{found[0]}", str(text))


def _code(text: object) -> str:
    """Return Markdown that shows a text as code, with more backticks around it than it has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", str(text))), default=0))
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"{fence}{text}{fence}"


def _picture(title: str, kind: str, data: bytes) -> str:
    """Return a picture as wide as its column. Markdown's own form shows it in its size of 152 pixels."""
    return f'<img alt="{title}" width="100%" src="data:image/{kind};base64,{_base64(data)}">'


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class _Live:
    """One artifact of the current flow run. It is created once, also where the flow run is resumed later."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.id: UUID | None = None
        self.shown: Any = None

    def show(self, data: float | str | list[dict[str, str]], description: str | None = None) -> None:
        """Send new content. An API that does not answer, or refuses, is ignored until the next update."""
        if (data, description) == self.shown:
            return
        try:
            with get_client(sync_client=True) as client:
                self.id = self.id or self._existing(client) or create_artifact(self._new(data, description))
                text = description and description.replace("{id}", str(self.id))
                content = json.dumps(data) if isinstance(data, list) else data  # as TableArtifact does
                client.update_artifact(self.id, ArtifactUpdate(data=content, description=text))
            self.shown = (data, description)
        except (httpx.HTTPError, PrefectException) as error:
            log.debug("artifact %s is not updated: %s", self.key, error)

    def _existing(self, client: SyncPrefectClient) -> UUID | None:
        """Return the artifact that an earlier attempt of this flow run has made."""
        if this_flow_run.id is None:
            return None
        of_run = ArtifactFilterFlowRunId(any_=[UUID(this_flow_run.id)])
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=of_run, key=ArtifactFilterKey(any_=[self.key]))
        )
        return found[0].id if found else None

    def _new(self, data: float | str | list[dict[str, str]], description: str | None) -> Artifact:
        if isinstance(data, list):
            return TableArtifact(key=self.key, table=data, description=description)
        if isinstance(data, float):
            return ProgressArtifact(key=self.key, progress=data, description=description)
        return MarkdownArtifact(key=self.key, markdown=data, description=description)
