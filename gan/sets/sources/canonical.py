"""How does any picture become pixels of one side and one number of channels?

The order: rotate as EXIF says, crop the square at the centre, convert to 8 bits of sRGB, lay over the background,
convert to grey, resize. Whatever is no pixel is dropped.
"""

import functools
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from gan.sets.sources.base import Form

FILTER = "bicubic"  # of Pillow, which widens it for a smaller image, so that nothing aliases
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
KINDS = {"P": "palette", "PA": "palette", "CMYK": "CMYK"}
GREY_MODES = ("1", "L", "LA", "La")


def canonical(image: Image.Image, form: Form) -> tuple[NDArray[np.uint8], frozenset[str]]:
    """Decode a picture that Pillow has opened. Return its pixels, of Form.shape, and what was converted.

    Raises whatever Pillow raises where the picture is damaged.
    """
    changes = {"16-bit"} if _has_16_bits(image) else set()
    if getattr(image, "is_animated", False):
        changes.add("animated")
    image.load()
    turned = _rotate(image, changes)
    rgb = _flatten(_crop(turned), form.background, changes)
    pixels = rgb.convert("L") if form.channels == 1 else rgb
    if pixels.size != (form.side, form.side):
        pixels = pixels.resize((form.side, form.side), Image.Resampling.BICUBIC)
    array = np.asarray(pixels)  # (side, side), or (side, side, 3)
    return np.ascontiguousarray(array if form.channels == 1 else array.transpose(2, 0, 1)), frozenset(changes)


def _has_16_bits(image: Image.Image) -> bool:
    """Return whether a file has 16 bits a channel. Pillow reads the upper eight of a picture in colour."""
    tiles: list[Any] = getattr(image, "tile", [])
    return image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in tiles)


def _rotate(image: Image.Image, changes: set[str]) -> Image.Image:
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - of damaged metadata; the pixels are good
        turn = None
    if turn is None:
        return image
    changes.add("rotated")
    return image.transpose(turn)


def _crop(image: Image.Image) -> Image.Image:
    """Return the largest square at the centre. A side that is odd by one pixel loses it at the right or bottom."""
    side = min(image.size)
    if image.width == image.height:
        return image
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _flatten(image: Image.Image, background: tuple[int, int, int], changes: set[str]) -> Image.Image:
    """Convert to 8 bits of sRGB without transparency."""
    if "16-bit" in changes:
        image = _upper_bits(image)
    if image.mode in KINDS:
        changes.add(KINDS[image.mode])
    if image.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in image.info:
        return _to_srgb(image, image.mode, changes)
    changes.add("transparent")
    rgba = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(_to_srgb(rgba.convert("RGB"), image.mode, changes), mask=rgba.getchannel("A"))
    return canvas


def _upper_bits(image: Image.Image) -> Image.Image:
    """Return the upper 8 of 16 bits, as Pillow does for colour; also of the colour that is transparent."""
    if image.mode.startswith("I"):
        grey = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
        grey.info = dict(image.info)
        image = grey
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        image.info["transparency"] = clear >> 8
    elif isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    return image


def _to_srgb(image: Image.Image, mode: str, changes: set[str]) -> Image.Image:
    """Convert colours by the profile in the file. A profile that is damaged, or of another kind, is ignored.

    Args:
        mode: Pillow's mode of the picture in the file.
    """
    raw = image.info.get("icc_profile")
    if not raw:
        return image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
        space = profile.profile.xcolor_space.strip()
        found = "CMYK" if mode == "CMYK" else "GRAY" if mode in GREY_MODES else "RGB"
        if space == found or (space, found) == ("RGB", "GRAY"):
            source = image.convert({"CMYK": "CMYK", "GRAY": "L", "RGB": "RGB"}[space])
            converted = ImageCms.profileToProfile(source, profile, _srgb(), outputMode="RGB")
            changes.add("colour profile")
            return converted or source
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        pass
    changes.add("colour profile ignored")
    return image.convert("RGB")


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
