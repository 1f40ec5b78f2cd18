"""How does a run directory become a film and a page?

Everything is taken from the run's own files, and the same files give the same bytes: manifest.json vouches for
the report as for the rest. The page's look and behaviour are in templates/report.html.
"""

import base64
import hashlib
import io
import json
import logging
import re
import shlex
import zipfile
import zlib
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gan.config import TrainConfig
from gan.errors import RunError
from gan.files import atomic_write
from gan.health import HealthEvent
from gan.images import HOLD_MS, film_gif, frame_ms, frame_png
from gan.report.curves import LossCurves
from gan.report.quality import neighbours_section, quality_section
from gan.runs.best import Best
from gan.runs.provenance import Provenance
from gan.runs.run_dir import RunDir, SnapshotMetrics

MAX_FRAMES = 200  # more would make the film, and the page that holds each frame, too heavy to send
TEMPLATE = Path(__file__).with_name("templates") / "report.html"
REMEDY = "Take it from a copy of the run (a store it was published to has one), or train the run again."
DAMAGED_NPZ = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
DAMAGED_PNG = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFacts:
    """Hold what a page tells of a run."""

    config: TrainConfig
    provenance: Provenance
    metrics: list[SnapshotMetrics]  # of each snapshot
    best: Best | None
    events: list[HealthEvent]
    curves: LossCurves
    frames: list[tuple[int, bytes]]  # (step, PNG) of the film; the last is the run's last grid
    num_grids: int
    reals: bytes  # PNG
    neighbours: bytes | None  # PNG; None before the end of the training


def render(run: RunDir) -> None:
    """Write report/training.gif and report/index.html from the run's other files; finished or not, one grid is enough.

    Where a manifest vouches for the report already, it stays as it is.

    Raises:
        RunError: a file that the report needs is missing or damaged, or there is no grid yet; nothing is written.
        StorageError: the disk refuses.
    """
    if run.manifest_path.exists():
        return
    facts = read_facts(run)
    film, page = film_gif(facts.frames), html_page(facts).encode()
    atomic_write(run.film_path, film)
    atomic_write(run.report_path, page)
    log.info("report: %s (%d kB), film of %d frames (%d kB)", run.report_path, len(page) // 1000,
             len(facts.frames), len(film) // 1000)  # fmt: skip


def read_facts(run: RunDir) -> RunFacts:
    """Read all that a report needs. Raises RunError, naming the file, when one is missing or damaged."""
    config = run.read_config()
    grids = run.grids()
    if not grids:
        raise RunError(
            f"{run.grids_dir}: no grid yet, so there is nothing to report; the first is drawn at step "
            f"{min(config.snapshot_steps, config.num_steps or 1):,}. Train on: gan train --run-dir {run.path} --resume"
        )
    metrics = run.read_metrics()
    if not metrics:
        raise RunError(f"{run.metrics_path}: missing or empty, and there are {len(grids)} grids. {REMEDY}")
    picked = np.linspace(0, len(grids) - 1, min(len(grids), MAX_FRAMES)).round().astype(int)
    return RunFacts(
        config=config,
        provenance=run.read_provenance(),
        metrics=metrics,
        best=run.best_checkpoint(metrics),
        events=run.read_events(),
        curves=_read_curves(run.losses_path),
        frames=_read_frames([grids[index] for index in picked]),
        num_grids=len(grids),
        reals=_read_png(run.reals_path)[0],
        neighbours=_read_png(run.neighbours_path)[0] if run.neighbours_path.exists() else None,
    )


def html_page(facts: RunFacts) -> str:
    """Fill the template; every value is escaped, and the page allows its own script and style only, by their hash."""
    template = TEMPLATE.read_text(encoding="utf-8")
    values = _texts(facts) | _pictures(facts) | _tables(facts) | _sections(facts)
    for tag in ("script", "style"):
        values[f"{tag}_hash"] = _csp_hash(template, tag)
    # One pass: a value that itself looks like {{a_placeholder}} is left as it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def _texts(facts: RunFacts) -> dict[str, str]:
    config, made, steps, last = facts.config, facts.provenance, facts.curves.num_steps, facts.metrics[-1]
    run_id = shlex.quote(made.run_id)
    texts = {
        "run_id": made.run_id,
        "steps": f"{steps:,}",
        "state": "" if steps == config.num_steps else f"unfinished: {steps:,} of {config.num_steps:,} steps",
        "recipe": config.recipe,
        "seed": str(config.seed),
        "device": made.device,
        "duration": _duration(last.seconds),
        "throughput": f"{last.step / last.seconds:,.1f} steps/s" if last.seconds else "not measured",
        "begun": _time(made.created),
        "last_snapshot": _time(last.time),
        "git_commit": made.git_commit or "not recorded",
        "last_grid": f"{facts.frames[-1][0]:,}",
        "lede": _lede(facts),
        "command_resume": f"gan train --run-dir {run_id} --resume",
        "command_flow": f"gan-train --run-id {run_id}",
        "command_sample": f"gan sample {run_id} --out samples.png",
        "command_verify": f"gan verify {run_id}",
    }
    return {name: escape(text) for name, text in texts.items()}


def _lede(facts: RunFacts) -> str:
    shown, drawn = len(facts.frames), facts.num_grids
    source = "the first 25 fakes of a batch" if facts.config.recipe == "published" else "the same 25 points of noise"
    if drawn == 1:
        return f"One grid, at step {facts.frames[0][0]:,}: {source}."
    picked = f"{shown} of {drawn:,} grids" if shown < drawn else f"{drawn} grids"
    return f"{picked}, drawn every {facts.config.snapshot_steps:,} steps: {source} each time."


def _pictures(facts: RunFacts) -> dict[str, str]:
    data = {
        "steps": [step for step, _ in facts.frames],
        "frames": [_base64(frame_png(png)) for _, png in facts.frames],
        "frame_ms": frame_ms(len(facts.frames)),
        "hold_ms": HOLD_MS,
        "losses": facts.curves.readings(),
    }
    return {
        "data": json_in_html(data),
        "final_png": _base64(facts.frames[-1][1]),
        "reals_png": _base64(facts.reals),
        "plot": facts.curves.svg_plot(),
        "x_labels": facts.curves.svg_x_labels(),
        "y_labels": facts.curves.svg_y_labels(),
        "last_frame": str(len(facts.frames) - 1),
        "last_step": str(facts.curves.num_steps),
    }


def _tables(facts: RunFacts) -> dict[str, str]:
    fields = TrainConfig.model_fields.items()
    config = [(name, getattr(facts.config, name), field.description) for name, field in fields]
    return {
        "config_rows": _rows(config),
        "health_rows": _health_rows(facts.events),
        "data_rows": _rows(facts.provenance.data.items()),
        "version_rows": _rows(facts.provenance.versions.items()),
    }


def _sections(facts: RunFacts) -> dict[str, str]:
    """Write those that a run may have or not."""
    num_steps, x_labels = facts.curves.num_steps, facts.curves.svg_x_labels()
    return {
        "quality": quality_section(facts.metrics, facts.best, num_steps, x_labels),
        "neighbours": neighbours_section(facts.neighbours, facts.frames[-1][0]),
    }


def _health_rows(events: list[HealthEvent]) -> str:
    if not events:
        return _rows([("nothing found", "No snapshot of this training was dead, collapsed or not finite.")])
    return _rows((f"step {event.step:,}", str(event).partition(": ")[2]) for event in events)


def json_in_html(value: Any) -> str:
    """Write JSON that can stand in a script element: no `</script>` or `<!--` in a string can end or change it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _rows(rows: Any) -> str:
    """Write table rows; the first cell of each is its heading."""
    return "\n".join(
        f'<tr><th scope="row">{escape(str(head))}</th>'
        + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
        + "</tr>"
        for head, *cells in rows
    )


def _csp_hash(template: str, tag: str) -> str:
    """Return the Content-Security-Policy source of the template's one bare <script> or <style> element."""
    match = re.search(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
    assert match is not None and "{{" not in match[1], f"{TEMPLATE}: {tag} must be bare and constant"
    return f"'sha256-{_base64(hashlib.sha256(match[1].encode()).digest())}'"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def _time(iso: str) -> str:
    return re.sub(r"\.\d+", "", iso).replace("T", " ").replace("+00:00", " UTC")


def _read_curves(path: Path) -> LossCurves:
    """Read losses.npz as curves. Raises RunError unless it holds one finite g_loss and d_loss for each step."""
    try:
        # Not by its path: numpy leaves a file that is no zip open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            g_losses, d_losses = arrays["g_loss"], arrays["d_loss"]
    except FileNotFoundError:
        raise RunError(f"{path}: missing. {REMEDY}") from None
    except DAMAGED_NPZ as error:
        raise RunError(f"{path}: damaged ({error}). {REMEDY}") from error
    if g_losses.ndim != 1 or g_losses.shape != d_losses.shape or not g_losses.size:
        shapes = f"g_loss {g_losses.shape} and d_loss {d_losses.shape}"
        raise RunError(f"{path}: expected two series of one length, found {shapes}. {REMEDY}")
    bad = ~(np.isfinite(g_losses) & np.isfinite(d_losses))
    if bad.any():
        raise RunError(f"{path}: the losses of step {int(bad.argmax()) + 1} are not finite. {REMEDY}")
    return LossCurves.of(g_losses, d_losses)


def _read_frames(grids: list[tuple[int, Path]]) -> list[tuple[int, bytes]]:
    frames, sizes = [], set()
    for step, path in grids:
        png, size = _read_png(path)
        frames.append((step, png))
        sizes.add(size)
        if len(sizes) > 1:
            raise RunError(f"{path}: {size[0]}x{size[1]} pixels, unlike the grids before it. {REMEDY}")
    return frames


def _read_png(path: Path) -> tuple[bytes, tuple[int, int]]:
    """Return a PNG's bytes and size after decoding it whole. Raises RunError when that cannot be done."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()
            return data, image.size
    except FileNotFoundError:
        raise RunError(f"{path}: missing. {REMEDY}") from None
    except DAMAGED_PNG as error:
        raise RunError(f"{path}: not a whole PNG ({error}). {REMEDY}") from error
