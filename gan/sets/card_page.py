"""How does the card of a data set look as a page?"""

from collections.abc import Sequence
from pathlib import Path

from gan.html import Templates, csp_hash, to_base64
from gan.sets.duplicates import Duplicates
from gan.sets.set_manifest import SPLITS, SetManifest

TEMPLATES = Templates(Path(__file__).with_name("templates"))
MAX_CLASSES_SHOWN = 200


def html_page(
    manifest: SetManifest, duplicates: Duplicates, left_out: Sequence[tuple[str, str]], sheet: bytes | None
) -> str:
    """Return a page that needs no other file. Every value is escaped; no script runs in it.

    Args:
        sheet: a PNG of images; None where none may be shown.
    """
    style = TEMPLATES.source("card.css")
    return TEMPLATES.fill(
        "card.html",
        style=style,
        style_hash=csp_hash(style),
        set=manifest,
        duplicates=duplicates,
        left_out=left_out,
        sheet=None if sheet is None else to_base64(sheet),
        num_shown=min(100, manifest.num_images("train")),
        rows=_rows(manifest),
        num_rows_hidden=max(0, len(manifest.classes) - MAX_CLASSES_SHOWN),
    )


def _rows(manifest: SetManifest) -> list[tuple[str, int, int]]:
    """Return name and counts of each class."""
    train, test = (manifest.counts[split] for split in SPLITS)
    rows = list(zip(manifest.classes or ["all, without labels"], train, test, strict=True))
    return rows[:MAX_CLASSES_SHOWN]
