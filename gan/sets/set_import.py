"""How does a source become a data set?

The images are read one by one, and their canonical pixels are kept in a file, not in memory. Then they are split,
written in order and hashed. The folder gets its name when all of it is on the disk.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray

from gan.errors import DataError, StorageError
from gan.files import atomic_write, storage_error
from gan.sets.card import DataCard, Example
from gan.sets.catalog import check_name, new_folder, publish
from gan.sets.duplicates import Images, find_duplicates, look_of
from gan.sets.set_manifest import MANIFEST, SPLITS, Facts, FileOfSet, SetManifest, SizeBefore
from gan.sets.shards import SetHash, check_identity, write_split
from gan.sets.sources.array_file import ArrayFile
from gan.sets.sources.base import Form, Picture, Source, Split, printable
from gan.sets.sources.canonical import FILTER
from gan.sets.sources.idx_folder import IdxFolder, is_idx_folder
from gan.sets.sources.image_folder import ImageFolder
from gan.sets.splits import Order, given_order, order_by_content

MAX_SIZES = 20  # that are listed
PROGRESS_EVERY = 100  # images
ROOM = 1 << 20  # bytes, for all but pixels
Progress = Callable[[str, int, int | None], None]  # what is done, how much of it, of how much


class Imported(NamedTuple):
    """A set after its import."""

    folder: Path
    manifest: SetManifest
    is_new: bool  # False: the same set was there


@dataclass
class Gathered:
    """The images that were read, by their index; their pixels are in a file."""

    form: Form
    path: Path
    classes: tuple[str, ...]
    hashes: list[bytes] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    small: bytearray = field(default_factory=bytearray)  # 256 bytes for each image
    labels: list[int] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)

    def add(self, picture: Picture, raw: bytes) -> None:
        self.hashes.append(hashlib.sha256(raw).digest())
        look = look_of(picture.pixels)
        self.bits.append(look.bits)
        self.small += look.small
        self.labels.append(picture.label)
        self.splits.append(picture.split)
        self.names.append(picture.name)
        self.sizes[picture.size] += 1
        self.changes.update(picture.changes)

    def images(self, order: NDArray[np.int64]) -> Images:
        """Return what is known of the images of a split."""
        chosen = order.tolist()
        small = np.frombuffer(self.small, np.uint8).reshape(len(self.bits), -1)[order]
        hashes, labels, names = ([each[i] for i in chosen] for each in (self.hashes, self.labels, self.names))
        return Images(hashes, np.array(self.bits, np.uint64)[order], small, labels, names)


def open_source(path: Path) -> Source:
    """Return the images of a folder of images, a folder of idx files, or an .npz file.

    Raises:
        DataError: there is none of them, or it is damaged.
    """
    if path.is_dir():
        return IdxFolder(path) if is_idx_folder(path) else ImageFolder(path)
    if path.suffix.lower() == ".npz" and path.is_file():
        return ArrayFile(path)
    found = "no such file or folder" if not path.exists() else "it is neither"
    raise DataError(f"{printable(str(path))}: expected a folder, or a file .npz with the array `images`; {found}.")


def import_set(
    source: Source,
    sets_dir: Path,
    name: str,
    form: Form,
    *,
    test_share: float = 0.1,
    facts: Facts | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Import a source under a name; the same content again is the same set, and only `facts` that are given change.

    Raises:
        DataError: the source is damaged, or has too few images; nothing is written.
        StorageError: the disk has too little room.
    """
    check_name(name)
    facts = facts or Facts()
    with new_folder(sets_dir) as place:
        _check_room(source, form, place)
        gathered = _read_all(source, form, place / "pixels.raw", progress or _no_progress)
        order = _order(gathered, test_share)
        manifest = _write_pixels(place, name, gathered, order, None if any(gathered.splits) else test_share)
        left_out = dict(sorted(source.left_out.counts.items()))
        manifest = manifest.model_copy(update={"facts": facts, "left_out": left_out})
        target = sets_dir / name / manifest.sha256
        if target.exists():
            return _already_there(target, facts)
        card = DataCard(
            set=manifest,
            duplicates=find_duplicates(gathered.images(order.train), gathered.images(order.test)),
            left_out=[Example(name=each, reason=reason) for each, reason in source.left_out.examples],
        )
        card.write(place)
        atomic_write(place / MANIFEST, manifest.to_bytes())
        return Imported(publish(place, sets_dir, manifest), manifest, True)


def _check_room(source: Source, form: Form, place: Path) -> None:
    """Raise StorageError where the disk cannot hold the pixels twice: as they are read, and in order."""
    pixels = source.num_items * form.num_bytes
    disk = os.statvfs(place)
    free = disk.f_bavail * disk.f_frsize
    if 2 * pixels + ROOM > free:
        raise StorageError(
            f"{printable(str(place.parent))}: {source.num_items:,} images of {form.num_bytes:,} bytes are {pixels:,} "
            f"bytes of pixels, and the import needs twice as much; {free:,} are free. Make room, choose a smaller "
            "--side, or name a folder on another disk with --sets-dir."
        )


def _read_all(source: Source, form: Form, path: Path, progress: Progress) -> Gathered:
    """Read every image, and write its pixels into a file. Raises DataError where none can be used."""
    gathered = Gathered(form, path, source.classes)
    try:
        with path.open("wb") as file:
            for done, picture in enumerate(source.read(form), 1):
                if done % PROGRESS_EVERY == 0 or done == source.num_items:
                    progress("images", done, source.num_items)
                if picture is not None:
                    raw = picture.pixels.tobytes()
                    file.write(raw)
                    gathered.add(picture, raw)
    except OSError as error:
        raise storage_error(path, source.num_items * form.num_bytes, error) from error
    if not gathered.hashes:
        listed = "".join(f"\n  {name}: {reason}" for name, reason in source.left_out.examples[:10])
        raise DataError(f"none of the {source.num_items:,} images can be used:{listed}")
    _drop_empty_classes(gathered)
    return gathered


def _drop_empty_classes(gathered: Gathered) -> None:
    """Keep the classes that have images, and number the labels by them."""
    used = sorted(set(gathered.labels))
    number = {label: place for place, label in enumerate(used)}
    gathered.labels = [number[label] for label in gathered.labels]
    gathered.classes = tuple(gathered.classes[label] for label in used) if gathered.classes else ()


def _order(gathered: Gathered, test_share: float) -> Order:
    if any(gathered.splits):
        return given_order(gathered.splits)
    return order_by_content(gathered.hashes, np.array(gathered.labels, np.int64), test_share)


def _write_pixels(place: Path, name: str, gathered: Gathered, order: Order, test_share: float | None) -> SetManifest:
    """Write both splits in their order, and return what set.json says of them."""
    form, labels = gathered.form, np.array(gathered.labels, np.int64)
    files, sha256 = _write_splits(place, gathered, labels, order)
    num_labels = max(1, len(gathered.classes))
    return SetManifest(
        name=name,
        sha256=sha256,
        side=form.side,
        channels=1 if form.channels == 1 else 3,
        classes=list(gathered.classes),
        counts={
            split: np.bincount(labels[part], minlength=num_labels).tolist()
            for split, part in zip(SPLITS, order, strict=True)
        },
        files=files,
        test_share=test_share,
        background=bytes(form.background).hex(),
        filter=FILTER,
        pillow=PIL.__version__,
        sizes_before=[
            SizeBefore(width=width, height=height, count=count)
            for (width, height), count in gathered.sizes.most_common(MAX_SIZES)
        ],
        num_sizes_before=len(gathered.sizes),
        converted=dict(sorted(gathered.changes.items())),
    )


def _write_splits(
    place: Path, gathered: Gathered, labels: NDArray[np.int64], order: Order
) -> tuple[dict[str, FileOfSet], str]:
    """Write the files of both splits; return them, and the SHA-256 of the set."""
    pixels = np.memmap(gathered.path, np.uint8, "r", shape=(len(labels), *gathered.form.shape))
    digest = SetHash(gathered.form, gathered.classes, {"train": len(order.train), "test": len(order.test)})
    files: dict[str, FileOfSet] = {}
    for split, part in zip(SPLITS, order, strict=True):
        files |= write_split(place, split, gathered.form, labels, lambda indices: pixels[indices], part, digest)
    gathered.path.unlink()
    return files, digest.sha256


def _already_there(folder: Path, facts: Facts) -> Imported:
    """Check a set that is there, and change what is said of it, where something is given."""
    found = SetManifest.read(folder)
    check_identity(folder, found)
    given = {name: value for name, value in facts.model_dump().items() if value}
    manifest = found.model_copy(update={"facts": found.facts.model_copy(update=given)})
    if manifest != found:
        # The card first: after a kill in between, the next import finds the old manifest and does both again.
        DataCard.read(folder).model_copy(update={"set": manifest}).write(folder)
        atomic_write(folder / MANIFEST, manifest.to_bytes())
    return Imported(folder, manifest, False)


def _no_progress(what: str, done: int, total: int | None) -> None:
    """Show nothing."""
