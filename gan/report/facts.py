"""What does a report show, and from which files of a run is it read?"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gan.config import RunConfig
from gan.data.data_note import DataNote
from gan.errors import RunError
from gan.health import HealthEvent
from gan.report.curves import LossCurves
from gan.report.film import Frame
from gan.runs.derived import REMEDY, read_losses
from gan.runs.journal import Journal
from gan.runs.manifest import Best
from gan.runs.provenance import Provenance, note_in
from gan.runs.repair import check_report_files
from gan.runs.run_dir import RunDir, SnapshotMetrics

MAX_FRAMES = 200  # with more, the film and the page, which holds each frame, are too large to send
DAMAGED_PNG = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True)
class RunFacts:
    """What a report shows of a run."""

    config: RunConfig
    provenance: Provenance
    note: DataNote | None  # of the imported data set
    name: str
    metrics: list[SnapshotMetrics]  # one per snapshot
    best: Best | None
    events: list[HealthEvent]
    curves: LossCurves
    frames: list[Frame]  # of the film; the last is the run's last grid
    num_grids: int
    reals: bytes  # PNG
    neighbours: bytes | None  # PNG; None before the end of the training


def read_facts(run: RunDir) -> RunFacts:
    """Read everything that a report shows. Raises RunError, with the file's name, if one is missing or damaged."""
    check_report_files(run.path)
    config = run.read_config()
    grids = run.grids()
    if not grids:
        raise RunError(
            f"{run.grids_dir}: no grid yet, so there is nothing to report; the first is drawn at step "
            f"{min(config.snapshot_steps, config.num_steps):,}. Resume the training: "
            f"gan train --run-dir {run.path} --resume"
        )
    metrics = run.read_metrics()
    if not metrics:
        raise RunError(f"{run.metrics_path}: missing or empty, although there are {len(grids)} grids. {REMEDY}")
    provenance = run.read_provenance()
    picked = np.linspace(0, len(grids) - 1, min(len(grids), MAX_FRAMES)).round().astype(int)
    return RunFacts(
        config=config,
        provenance=provenance,
        note=note_in(provenance, config.data, str(run.path)),
        name=run.read_name(),
        metrics=metrics,
        best=run.best_checkpoint(metrics),
        events=run.read_events(),
        curves=_read_curves(run),
        frames=_read_frames([grids[index] for index in picked]),
        num_grids=len(grids),
        reals=_read_png(run.reals_path)[0],
        neighbours=_read_png(run.neighbours_path)[0] if run.neighbours_path.exists() else None,
    )


def _read_curves(run: RunDir) -> LossCurves:
    """Return the losses as curves. A run in training has them in its journal. Raises RunError if they are damaged."""
    history = Journal(run.path).newest()
    losses = history.losses if history else read_losses(run.losses_path)
    return LossCurves.of(*losses.T)


def _read_frames(grids: list[tuple[int, Path]]) -> list[Frame]:
    """Read grids as frames. Raises RunError if they are not all of one size."""
    frames: list[Frame] = []
    sizes = set()
    for step, path in grids:
        png, size = _read_png(path)
        frames.append(Frame(step, png))
        sizes.add(size)
        if len(sizes) > 1:
            raise RunError(f"{path}: {size[0]}x{size[1]} pixels, unlike the grids before it. {REMEDY}")
    return frames


def _read_png(path: Path) -> tuple[bytes, tuple[int, int]]:
    """Return a PNG's bytes and size. Raises RunError if it cannot be decoded to its end."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()
            return data, image.size
    except FileNotFoundError:
        raise RunError(f"{path}: missing. {REMEDY}") from None
    except DAMAGED_PNG as error:
        raise RunError(f"{path}: not a complete PNG ({error}). {REMEDY}") from error
