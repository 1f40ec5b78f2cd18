"""How does a run directory become a film and a page?

Both are made from the run's own files, and the same files give the same bytes, because manifest.json lists the report
like every other file. The look and behaviour of the page are in templates/.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any

from gan.files import atomic_write
from gan.html import csp_hash, to_base64
from gan.recipes.describe import describe
from gan.recipes.resolve import RECIPES
from gan.report.facts import RunFacts, read_facts
from gan.report.film import HOLD_MS, film_gif, frame_ms, frame_png
from gan.report.quality import TEMPLATES, neighbours_section, quality_section
from gan.runs import layout
from gan.runs.journal import Journal
from gan.runs.run_dir import RunDir

# What a grid shows. A recipe that is not built in is not imported for its report, so that is not known.
GRIDS = {"batch": "the first 25 fakes of a batch", "fixed_latents": "the same 25 points of noise"}
MAX_CLASS_NAMES = 200

log = logging.getLogger(__name__)


def render(run: RunDir) -> None:
    """Write report/training.gif and report/index.html from the run's other files. The run needs at least one grid.

    If the run has a manifest, this does nothing: the manifest already lists the report.

    Raises:
        RunError: a file that the report needs is missing or damaged, or there is no grid yet; nothing is written.
        StorageError: the disk is full, or refuses a read or the write.
    """
    if run.manifest_path.exists():
        return
    with run.disk_errors():
        facts = read_facts(run)
        film = film_gif(facts.frames)
        page = html_page(facts).encode()
        Journal(run.path).enter({layout.FILM: film, layout.REPORT: page})
    atomic_write(run.film_path, film)
    atomic_write(run.report_path, page)
    log.info("report: %s (%d kB), film of %d frames (%d kB)", run.report_path, len(page) // 1000,
             len(facts.frames), len(film) // 1000)  # fmt: skip


def html_page(facts: RunFacts) -> str:
    """Return the page. It allows only its own script and style, by their hashes."""
    style, script = TEMPLATES.source("report.css"), TEMPLATES.source("report.js")
    names = facts.note.classes if facts.note else []
    return TEMPLATES.fill(
        "report.html",
        style=style,
        style_hash=csp_hash(style),
        script=script,
        script_hash=csp_hash(script),
        facts=facts,
        config=facts.config,
        provenance=facts.provenance,
        note=facts.note,
        class_names=_class_names,
        curves=facts.curves,
        last_frame=facts.frames[-1],
        last_metrics=facts.metrics[-1],
        name=facts.name,
        device=device_words(facts.provenance.device, facts.config.num_threads),
        lede=_lede(facts),
        data=_script_data(facts),
        descriptions={name: describe(name) for name in facts.config.model_dump()},
        quality=quality_section(facts.metrics, facts.best, facts.curves.num_steps, names),
        neighbours=neighbours_section(facts.neighbours, facts.frames[-1].step),
    )


def _script_data(facts: RunFacts) -> dict[str, Any]:
    """Return what the page's script reads."""
    return {
        "steps": [frame.step for frame in facts.frames],
        "frames": [to_base64(frame_png(frame.png)) for frame in facts.frames],
        "frame_ms": frame_ms(len(facts.frames)),
        "hold_ms": HOLD_MS,
        "losses": facts.curves.readings(),
    }


def device_words(reason: str, num_threads: int) -> str:
    """Return which device trained the run, without the reason for it: GPU, NVIDIA H100, or CPU, Intel Xeon, 2 threads.

    `reason` is a sentence of gan.device: KIND, why: NAME or KIND, why; NAME.
    """
    name = re.sub(r"\((R|TM)\)", "", re.split("[:;] ", reason)[-1])
    if reason.startswith("cuda"):
        return f"GPU, {name}"
    return f"CPU, {name}, {num_threads} thread{'s' if num_threads > 1 else ''}"


def _class_names(names: Sequence[str]) -> str:
    """Return the names of the classes beside the numbers that charts have."""
    if not names:
        return "none is known"
    more = f" and {len(names) - MAX_CLASS_NAMES:,} more" if len(names) > MAX_CLASS_NAMES else ""
    return ", ".join(f"{number}: {name}" for number, name in enumerate(names[:MAX_CLASS_NAMES])) + more


def _lede(facts: RunFacts) -> str:
    """Return the sentence under the title: which grids the page shows."""
    num_shown, num_drawn = len(facts.frames), facts.num_grids
    recipe = RECIPES.get(facts.config.recipe)
    content = GRIDS[recipe.grid] if recipe else "25 samples"
    if num_drawn == 1:
        return f"One grid, at step {facts.frames[0].step:,}: {content}."
    count = f"{num_shown} of {num_drawn:,} grids" if num_shown < num_drawn else f"{num_drawn} grids"
    return f"{count}, drawn every {facts.config.snapshot_steps:,} steps: {content} each time."
