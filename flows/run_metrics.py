"""How does the worker of a run learn what Prometheus asks for? The process that trains writes it to a file."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flows.worker_metrics import FOLDER
from gan.runs import layout
from gan.sync.uploader import Backlog, Uploader
from gan.training.runner import Run

UPDATE_SECONDS = 2.0


@contextmanager
def write_metrics(run: Run, uploader: Uploader | None) -> Iterator[None]:
    """Write the figures of a run every 2 s while this block trains, if a worker with GAN_METRICS_ADDRESS runs it."""
    folder = os.environ.get(FOLDER)
    if not folder:
        yield
        return
    path, done = Path(folder) / f"{os.getpid()}.json", threading.Event()
    thread = threading.Thread(target=_write_until, args=(done, path, run, uploader), name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        path.unlink(missing_ok=True)


def _write_until(done: threading.Event, path: Path, run: Run, uploader: Uploader | None) -> None:
    while not done.is_set():
        figures = _figures(run, uploader.backlog if uploader else Backlog())
        part = path.with_suffix(".part")
        with suppress(OSError):  # a full disk: training goes on, and says so itself if it must
            part.write_text(json.dumps(figures))
            part.replace(path)  # no fsync: nobody needs the figures after a power cut
        done.wait(UPDATE_SECONDS)


def _figures(run: Run, backlog: Backlog) -> dict[str, Any]:
    """Return the figures of a run. `checkpoint` is the time of the last one, from which the reader makes its age."""
    found: dict[str, Any] = {
        "run": run.run_dir.path.name,
        "steps": run.state.step,
        "steps_planned": run.num_steps,
        "upload_backlog_files": backlog.num_files,
        "upload_backlog_bytes": backlog.num_bytes,
        "upload_backlog_seconds": round(backlog.seconds, 1),
    }
    if run.metrics:
        found["steps_per_second"] = round(run.metrics.steps_per_second, 2)
    with suppress(IndexError, FileNotFoundError):  # there is none yet, or it is deleted at this moment
        step = layout.checkpoint_steps_in(run.run_dir.path)[0]
        found["checkpoint"] = (run.run_dir.path / layout.checkpoint(step)).stat().st_mtime
    return found
