"""Does each kind of picture become the pixels that a person sees?"""

import io

import numpy as np
import pytest
from PIL import Image

from gan.sets.sources.base import Form
from gan.sets.sources.canonical import canonical
from tests.support.pictures import COLOUR, GREY, noise, png, red_is_green

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
WHITE = Form(28, 3, (255, 255, 255))


def read(data: bytes, form: Form = WHITE) -> tuple[np.ndarray, set[str]]:
    pixels, changes = canonical(Image.open(io.BytesIO(data)), form)
    return pixels, set(changes)


def flat(mode: str, colour: object, side: int = 28) -> Image.Image:
    return Image.new(mode, (side, side), colour)  # type: ignore[arg-type]


def colour_of(pixels: np.ndarray) -> tuple[int, ...]:
    """Return the one colour of an image (3, side, side)."""
    assert (pixels == pixels[:, :1, :1]).all()
    return tuple(pixels[:, 0, 0].tolist())


def test_an_image_of_the_right_form_keeps_every_pixel() -> None:
    pixels = noise(1)[0]
    grey, changes = read(png(Image.fromarray(pixels)), GREY)
    assert (grey == pixels).all() and grey.shape == (28, 28) and changes == set()
    colours = np.stack([noise(1, 32, seed)[0] for seed in range(3)], -1)  # (32, 32, 3)
    found, _ = read(png(Image.fromarray(colours)), COLOUR)
    assert (found == colours.transpose(2, 0, 1)).all() and found.shape == (3, 32, 32)


def test_transparent_pixels_show_the_background() -> None:
    assert colour_of(read(png(flat("RGBA", (*RED, 0))))[0]) == (255, 255, 255)
    half, changes = read(png(flat("RGBA", (*RED, 128))))
    assert colour_of(half) == (255, 127, 127) and changes == {"transparent"}
    assert colour_of(read(png(flat("LA", (0, 128))))[0]) == (127, 127, 127)
    over_blue = read(png(flat("RGBA", (*RED, 0))), Form(28, 3, BLUE))[0]
    assert colour_of(over_blue) == BLUE


def test_a_palette_is_looked_up() -> None:
    image = flat("P", 3)
    image.putpalette([*RED, *GREEN, *BLUE, 10, 20, 30])
    pixels, changes = read(png(image))
    assert colour_of(pixels) == (10, 20, 30) and changes == {"palette"}
    clear, changes = read(png(image, transparency=3))
    assert colour_of(clear) == (255, 255, 255) and changes == {"palette", "transparent"}


def test_one_colour_may_be_transparent() -> None:
    assert colour_of(read(png(flat("RGB", RED), transparency=RED))[0]) == (255, 255, 255)
    assert colour_of(read(png(flat("L", 7), transparency=7))[0]) == (255, 255, 255)


def test_of_16_bits_the_upper_8_are_kept() -> None:
    deep = Image.fromarray(np.full((28, 28), 0x80FF, np.uint16))
    pixels, changes = read(png(deep))
    assert colour_of(pixels) == (0x80, 0x80, 0x80) and changes == {"16-bit"}


def test_a_black_and_white_picture_is_grey() -> None:
    assert colour_of(read(png(flat("1", 1)))[0]) == (255, 255, 255)


def test_cmyk_is_converted() -> None:
    buffer = io.BytesIO()
    flat("CMYK", (0, 255, 255, 0)).save(buffer, "JPEG", quality=100)
    pixels, changes = read(buffer.getvalue())
    assert np.abs(pixels[:, 0, 0].astype(int) - RED).max() <= 3 and changes == {"CMYK"}


def test_colours_are_converted_by_the_profile_of_the_file() -> None:
    pixels, changes = read(png(flat("RGB", RED), icc_profile=red_is_green()))
    assert np.abs(pixels[:, 0, 0].astype(int) - GREEN).max() <= 2 and changes == {"colour profile"}
    clear, changes = read(png(flat("RGBA", (*RED, 0)), icc_profile=red_is_green()))
    assert colour_of(clear) == (255, 255, 255) and changes == {"colour profile", "transparent"}


@pytest.mark.parametrize("profile", [b"no profile", red_is_green()[:200]])
def test_a_damaged_profile_is_ignored(profile: bytes) -> None:
    pixels, changes = read(png(flat("RGB", RED), icc_profile=profile))
    assert colour_of(pixels) == RED and changes == {"colour profile ignored"}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_upright(orientation: int) -> None:
    upright = Image.fromarray(noise(1)[0])
    turned = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels, changes = read(png(turned, exif=exif), GREY)
    assert (pixels == np.asarray(upright)).all()
    assert changes == ({"rotated"} if orientation > 1 else set())


def test_of_an_animation_the_first_picture_is_taken() -> None:
    frames = [flat("RGB", colour) for colour in (RED, GREEN, BLUE)]
    pixels, changes = read(png(frames[0], save_all=True, append_images=frames[1:]))
    assert colour_of(pixels) == RED and changes == {"animated"}


def test_the_square_at_the_centre_is_kept() -> None:
    wide = np.zeros((28, 84), np.uint8)
    wide[:, 28:56] = noise(1)[0]
    assert (read(png(Image.fromarray(wide)), GREY)[0] == noise(1)[0]).all()
    assert (read(png(Image.fromarray(wide.T.copy())), GREY)[0] == noise(1)[0].T).all()


def test_a_larger_picture_is_resized_without_aliasing() -> None:
    stripes = np.tile(np.array([[0, 255]], np.uint8), (280, 140))  # finer than a pixel of the result
    pixels, _ = read(png(Image.fromarray(stripes)), GREY)
    assert np.abs(pixels.astype(int) - 127).max() <= 8
    assert read(png(flat("L", 50, side=5)), GREY)[0].tolist() == [[50] * 28] * 28
