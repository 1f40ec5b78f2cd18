"""How do the grids of a run become a film?"""

import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from gan.images import encode_png, open_png

STRIP_PIXELS = 16  # height of the strip under each frame: one line of Pillow's 11 pixel font
FILM_BYTES = 750_000  # a Markdown artifact of Prefect holds 1 MB, and a data: URI is a third larger than its content
SHADES = (16, 8, 4)  # tried in this order. Noise, the worst case, takes 0.7 MB for 93 frames of 4 greys
COLOURS = (128, 64, 16, 4)
PALETTE_FRAMES = 8  # from which the colours of a film are chosen
MAX_WIDTH = 192  # of a frame; a wider grid is halved until it fits
FRAME_MS = (100, 500)
PLAY_MS = 9_000
HOLD_MS = 3_000


class Frame(NamedTuple):
    """A grid of a film."""

    step: int
    png: bytes


def frame_png(grid: bytes) -> bytes:
    """Redraw a PNG for a page that holds every frame: in 16 greys of 4 bits, half the size, or in 128 colours."""
    image = _narrow(open_png(grid))
    if image.mode == "L":
        return encode_png(_in_greys(image, 16), bits=4)
    return encode_png(_in_colours(image, _palette([image], COLOURS[0])))


def film_gif(frames: Sequence[Frame]) -> bytes:
    """Return an animated GIF of grids, all of one size, in the given order. It repeats forever.

    Each frame shows its step in a strip under the grid. The last one is shown for 3 seconds. The film has 16 greys or
    128 colours. If it would be larger than FILM_BYTES, it has fewer, and then every second frame. 93 grids of 28x28 in
    grey always fit.
    """
    assert frames, "a film needs at least one grid"
    images = [_with_step(_narrow(open_png(frame.png)), frame.step) for frame in frames]
    while True:
        for drawn in _drawn_in_fewer_and_fewer(images):
            film = _gif(drawn)
            if len(film) <= FILM_BYTES:
                return film
        if len(images) == 1:
            return film
        images = [*images[:-1:2], images[-1]] if len(images) > 2 else images[-1:]


def _drawn_in_fewer_and_fewer(images: list[Image.Image]) -> Iterator[list[Image.Image]]:
    """Yield the frames in their best quality, then in ever fewer shades or colours."""
    if images[0].mode == "L":
        for shades in SHADES:
            yield [_in_greys(image, shades) for image in images]
        return
    chosen = images[:: -(-len(images) // PALETTE_FRAMES)]
    for count in COLOURS:
        palette = _palette([*chosen, images[-1]], count)
        yield [_in_colours(image, palette) for image in images]


def frame_ms(num_frames: int) -> int:
    """Return how long one frame is shown: all frames take about 9 seconds, within bounds that the eye can follow."""
    shortest, longest = FRAME_MS
    return min(longest, max(shortest, PLAY_MS // num_frames // 10 * 10))  # GIF counts in units of 10 ms


def _with_step(grid: Image.Image, step: int) -> Image.Image:
    frame = Image.new(grid.mode, (grid.width, grid.height + STRIP_PIXELS))
    frame.paste(grid)
    # A bitmap font, because different versions of FreeType draw different pixels.
    ImageDraw.Draw(frame).text(
        (4, grid.height + 2), f"step {step:,}", fill="white", font=ImageFont.load_default_imagefont()
    )
    return frame


def _in_greys(image: Image.Image, shades: int) -> Image.Image:
    """Round an 8 bit grey image to evenly spaced shades. No dithering: noise does not compress."""
    top = shades - 1
    levels = image.point([(value * top + 127) // 255 for value in range(256)])
    palette = Image.frombytes("P", image.size, levels.tobytes())
    palette.putpalette([grey for level in range(shades) for grey in 3 * [level * 255 // top]])
    return palette


def _in_colours(image: Image.Image, palette: Image.Image) -> Image.Image:
    """Round an RGB image to the colours of a palette. No dithering, as above."""
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


def _palette(images: list[Image.Image], count: int) -> Image.Image:
    """Return an image with a palette of `count` colours that suit these images of one size."""
    width, height = images[0].size
    sheet = Image.new("RGB", (width, height * len(images)))
    for number, image in enumerate(images):
        sheet.paste(image, (0, number * height))
    return sheet.quantize(count, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def _narrow(grid: Image.Image) -> Image.Image:
    """Halve a grid until it is MAX_WIDTH wide at most."""
    while grid.width > MAX_WIDTH:
        grid = grid.reduce(2)
    return grid


def _gif(frames: Sequence[Image.Image]) -> bytes:
    """Encode frames of one palette with and without Pillow's transparent deltas. Returns the smaller file."""
    durations = [frame_ms(len(frames))] * (len(frames) - 1) + [HOLD_MS]
    films = []
    for optimize in (True, False):
        buffer = io.BytesIO()
        frames[0].save(
            buffer,
            "GIF",
            save_all=True,
            append_images=frames[1:],
            duration=durations,
            loop=0,
            optimize=optimize,
        )
        films.append(buffer.getvalue())
    return min(films, key=len)
