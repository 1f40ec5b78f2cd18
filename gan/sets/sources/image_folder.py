"""Which PNG and JPEG files does a folder hold, and which of them can be read?"""

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from gan.errors import DataError
from gan.sets.sources.base import MAX_CLASSES, MAX_PIXELS, Form, LeftOut, Picture, printable
from gan.sets.sources.canonical import canonical
from gan.sets.sources.png_chunks import without_ballast

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_FILE_BYTES = 128 << 20


class Entry(NamedTuple):
    """A file to read: its path below the folder, and the class that its sub-folder stands for."""

    path: str
    label: int


class UnusableError(Exception):
    """A file that is left out for a reason that this module has found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class ImageFolder:
    """The PNG and JPEG files of a folder. A sub-folder is a class, with all that is below it.

    Links are not followed. Names that begin with a dot are passed over.
    """

    def __init__(self, root: Path) -> None:
        """List the files. Raises DataError if there is no image among them, or a folder cannot be read."""
        self.root = root
        self.left_out = LeftOut()
        names = sorted(self._files(), key=os.fsencode)
        found = {_class_of(name) for name in names} - {""}
        folders = sorted(found, key=_class_order)
        if len(folders) > MAX_CLASSES:
            raise DataError(f"{_shown(root)}: found {len(folders):,} classes, expected at most {MAX_CLASSES:,}.")
        labels = {name: label for label, name in enumerate(folders)}
        self.classes = tuple(printable(name) for name in folders)
        self.entries = [Entry(name, labels.get(_class_of(name), 0)) for name in names if self._is_wanted(name)]
        self.num_items = len(self.entries)
        if not self.entries:
            raise DataError(
                f"{_shown(root)}: found no PNG or JPEG file{self._reasons()}. Expected images, or one folder of "
                "images for each class."
            )

    def read(self, form: Form) -> Iterator[Picture | None]:
        """Yield each image in the order of the names. A file that cannot be used is left out and named."""
        for entry in self.entries:
            yield self._read(entry, form)

    def _read(self, entry: Entry, form: Form) -> Picture | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd metadata; the size is checked
                return _decode(self.root, entry, form)
        except UnusableError as error:
            self.left_out.add(entry.path, error.reason, error.detail)
        except UnidentifiedImageError:
            self.left_out.add(entry.path, "unreadable", "no PNG or JPEG, or a damaged one")
        except Image.DecompressionBombError:
            self.left_out.add(entry.path, "too many pixels")
        except Exception as error:  # noqa: BLE001 - a decoder may raise anything on a damaged file
            self.left_out.add(entry.path, "unreadable", str(error) or type(error).__name__)
        return None

    def _files(self) -> Iterator[str]:
        """Yield the path below the root of each file that may be an image, and count the rest."""

        def fail(error: OSError) -> None:
            raise DataError(f"{_shown(error.filename)} cannot be read ({error.strerror}). Check its permissions.")

        for parent, folders, files in os.walk(self.root, onerror=fail):
            below = Path(parent).relative_to(self.root)
            folders[:] = [name for name in folders if self._takes(below / name, is_folder=True)]
            yield from (str(below / name) for name in files if self._takes(below / name, is_folder=False))

    def _takes(self, below: Path, *, is_folder: bool) -> bool:
        """Return whether a file or folder is looked at, and count it if not."""
        reason = _reason_against(self.root / below, is_folder)
        if reason:
            self.left_out.add(str(below), reason)
        return not reason

    def _is_wanted(self, name: str) -> bool:
        """Return whether a file is used: beside folders of classes, it belongs to none of them."""
        if self.classes and not _class_of(name):
            self.left_out.add(name, "beside the class folders")
            return False
        return True

    def _reasons(self) -> str:
        words = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.left_out.counts.items()))
        return f" ({words})" if words else ""


def _decode(root: Path, entry: Entry, form: Form) -> Picture:
    """Read a file. Raises UnusableError, or whatever Pillow raises."""
    path = root / entry.path
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UnusableError("file too large", f"more than {MAX_FILE_BYTES >> 20} MiB")
    with Image.open(io.BytesIO(without_ballast(path.read_bytes())), formats=("PNG", "JPEG")) as image:
        size = image.size
        if image.width * image.height > MAX_PIXELS:  # nothing is decoded yet
            raise UnusableError("too many pixels", f"{size[0]:,}x{size[1]:,}, expected at most {MAX_PIXELS:,}")
        pixels, changes = canonical(image, form)
    return Picture(printable(entry.path), pixels, entry.label, None, size, changes)


def _reason_against(path: Path, is_folder: bool) -> str:
    """Return why a file or folder is left out, or an empty text."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink():
        return "link"
    if is_folder:
        return ""
    if not path.is_file():
        return "no regular file"
    return "" if path.suffix.lower() in SUFFIXES else "not PNG or JPEG"


def _class_of(name: str) -> str:
    """Return the sub-folder that a path begins with, or an empty text."""
    first, _, rest = name.partition("/")
    return first if rest else ""


def _class_order(name: str) -> tuple[int, bytes]:
    """Sort the folders 2 and 10 as numbers; others follow, by their bytes."""
    is_number = name.isascii() and name.isdecimal() and len(name) < 19
    return int(name) if is_number else 1 << 64, os.fsencode(name)


def _shown(path: Path | str) -> str:
    return printable(str(path))
