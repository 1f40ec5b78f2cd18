"""How does the card of a data set look as a page?"""

import base64
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gan.sets.duplicates import Duplicates
from gan.sets.set_manifest import SPLITS, SetManifest

TEMPLATES = Path(__file__).with_name("templates")
MAX_CLASSES_SHOWN = 200


def html_page(
    manifest: SetManifest, duplicates: Duplicates, left_out: Sequence[tuple[str, str]], sheet: bytes | None
) -> str:
    """Return a page that needs no other file. Every value is escaped; no script runs in it.

    Args:
        sheet: a PNG of images; None where none may be shown.
    """
    style = (TEMPLATES / "card.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        _environment()
        .get_template("card.html")
        .render(
            style=Markup(style),
            style_hash=Markup(f"'sha256-{digest}'"),
            set=manifest,
            duplicates=duplicates,
            left_out=left_out,
            sheet=None if sheet is None else base64.b64encode(sheet).decode(),
            num_shown=min(100, manifest.num_images("train")),
            rows=_rows(manifest),
            num_rows_hidden=max(0, len(manifest.classes) - MAX_CLASSES_SHOWN),
        )
    )


def _rows(manifest: SetManifest) -> list[tuple[str, int, int]]:
    """Return name and counts of each class."""
    train, test = (manifest.counts[split] for split in SPLITS)
    rows = list(zip(manifest.classes or ["all, without labels"], train, test, strict=True))
    return rows[:MAX_CLASSES_SHOWN]


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = "{:,}".format
    return environment
