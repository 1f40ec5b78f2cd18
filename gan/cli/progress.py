"""What does a person see during a download or a training?"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:  # it imports torch, for which `gan data` does not wait
    from gan.training.runner import Run

REFRESH_SECONDS = 0.5


@contextmanager
def show_progress(run: "Run", note: Callable[[], str] = str) -> Iterator[Callable[[], None]]:
    """Show the progress of a run on stderr: a live line on a terminal, else one plain line per snapshot.

    Yields a function to call after each snapshot. A thread of its own draws the live line and reads `run.state.step`,
    so training never waits for it. The text that `note` returns ends the line.
    """
    console = Console(stderr=True)
    if not _can_redraw(console):
        yield lambda: click.echo("  ".join(filter(None, (_plain_line(run), note()))), err=True)
        return
    columns = (
        TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    done = threading.Event()
    with Progress(*columns, console=console, auto_refresh=False) as bar:
        task = bar.add_task("train", total=run.num_steps, completed=run.state.step, figures="")

        def redraw() -> None:
            speed = bar.tasks[task].speed
            bar.update(task, completed=run.state.step, figures=_figures(run, speed, note()), refresh=True)

        def redraw_until_done() -> None:
            while not done.wait(REFRESH_SECONDS):
                redraw()

        thread = threading.Thread(target=redraw_until_done, name="progress", daemon=True)
        thread.start()
        try:
            yield lambda: None
        finally:
            done.set()
            thread.join()
            redraw()


@contextmanager
def show_import() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show how many images are read, on a terminal only. Yields `progress(what, done, in all)`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _show(columns) as progress:
        yield progress


@contextmanager
def show_download() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show the progress of each file, on a terminal only. Yields `progress(name, bytes so far, bytes in all)`."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with _show(columns) as progress:
        yield progress


@contextmanager
def _show(columns: tuple[ProgressColumn, ...]) -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar for each name, on a terminal only."""
    tasks: dict[str, TaskID] = {}
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not _can_redraw(console)) as bar:

        def progress(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name)
            bar.update(tasks[name], completed=done, total=total)

        yield progress


def _can_redraw(console: Console) -> bool:
    """Return whether stderr is a terminal that moves its cursor. FORCE_COLOR alone does not make a log file one."""
    return console.is_interactive and not console.is_dumb_terminal and console.file.isatty()


def _figures(run: "Run", steps_per_second: float | None, note: str) -> str:
    speed = f"{steps_per_second:.0f} steps/s" if steps_per_second else ""
    metrics = run.metrics  # another thread may take it away
    losses = f"g_loss {metrics.g_loss:.3f}  d_loss {metrics.d_loss:.3f}" if metrics else ""
    return "  ".join(filter(None, (speed, losses, distance_note(run), note)))


def _plain_line(run: "Run") -> str:
    metrics = run.metrics
    assert metrics is not None
    return (
        f"step {metrics.step}/{run.num_steps}  g_loss {metrics.g_loss:.4f}  d_loss {metrics.d_loss:.4f}  "
        f"{metrics.steps_per_second:.1f} steps/s  {metrics.minutes_for(run.num_steps - metrics.step):.1f} min left"
    ) + (f"  {distance_note(run)}" if metrics.evaluation else "")


def distance_note(run: "Run") -> str:
    """Return the distance of the last evaluation in words, or an empty text if there was none."""
    found = run.last_evaluated
    if found is None or found.evaluation is None:
        return ""
    return f"distance {found.evaluation.distance:.1f} at step {found.step}"
