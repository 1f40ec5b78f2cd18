"""Which images of a set does its card show?"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from gan.sets.set_manifest import SetManifest
from gan.sets.shards import images_at, read_labels

PER_ROW = 10
MAX_SHOWN = 100
GAP = 2  # pixels
PAPER = (128, 128, 128)  # grey, so that images show their edges on light and on dark


def contact_sheet(folder: Path, manifest: SetManifest) -> bytes:
    """Draw up to 10x10 training images, the same number of each class as far as there are, as a PNG in rows."""
    images = images_at(folder, manifest, "train", _shown(read_labels(folder, manifest, "train")))
    cell = manifest.side + GAP
    num_rows = -(-len(images) // PER_ROW)
    sheet = Image.new("RGB", (min(len(images), PER_ROW) * cell + GAP, num_rows * cell + GAP), PAPER)
    for place, pixels in enumerate(images):
        row, column = divmod(place, PER_ROW)
        image = Image.fromarray(pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        sheet.paste(image, (GAP + column * cell, GAP + row * cell))
    buffer = io.BytesIO()
    (sheet.convert("L") if manifest.channels == 1 else sheet).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _shown(labels: np.ndarray) -> list[int]:
    """Choose images: the first of each class, then the second of each, and so on; then sort them by class."""
    places = [np.flatnonzero(labels == label)[:MAX_SHOWN].tolist() for label in np.unique(labels)[:MAX_SHOWN]]
    rounds = [(turn, label) for label, found in enumerate(places) for turn in range(len(found))]
    chosen = sorted(rounds)[:MAX_SHOWN]
    return [places[label][turn] for turn, label in sorted(chosen, key=lambda each: (each[1], each[0]))]
