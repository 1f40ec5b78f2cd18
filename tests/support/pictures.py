"""Which image files do the tests of data sets import?"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from gan.sets.set_import import Imported, import_set, open_source
from gan.sets.set_manifest import Facts
from gan.sets.sources.base import Form

GREY = Form(28, 1, (0, 0, 0))
COLOUR = Form(32, 3, (255, 255, 255))


def noise(count: int, side: int = 28, seed: int = 0) -> np.ndarray:
    """Return uint8 images (N, side, side) that are all different."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), np.uint8)


def write_folder(folder: Path, classes: dict[str, int], side: int = 28) -> Path:
    """Write so many grey PNG files for each class, or for "" at the top, and return the folder."""
    for seed, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, pixels in enumerate(noise(count, side, seed)):
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def imported(path: Path, sets_dir: Path, name: str = "mine", form: Form = GREY, **facts: str | bool) -> Imported:
    """Import a source in the way of the command."""
    return import_set(open_source(path), sets_dir, name, form, facts=Facts.model_validate(facts))


def png(image: Image.Image, **options: object) -> bytes:
    """Return the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge_png(side: int) -> bytes:
    """Return a small PNG file of black pixels that unpacks to side x side bytes, as far as its header goes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def with_bomb(data: bytes, kind: bytes) -> bytes:
    """Return a PNG file with a chunk that unpacks to 100 MB, before its pixels and behind them."""
    packer = zlib.compressobj(9)
    packed = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(100)), packer.flush()])
    bomb = chunk(kind, b"name\0\0" + packed)
    end_of_header, end_of_pixels = 33, len(data) - 12
    return data[:end_of_header] + bomb + data[end_of_header:end_of_pixels] + bomb + data[end_of_pixels:]


def red_is_green() -> bytes:
    """Return a colour profile of sRGB in which red and green have changed places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swap = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}
    table = bytearray(profile)
    for number in range(struct.unpack_from(">I", profile, 128)[0]):
        place = 132 + 12 * number
        table[place : place + 4] = swap.get(profile[place : place + 4], profile[place : place + 4])
    return bytes(table)
