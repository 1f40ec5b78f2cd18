"""How do the grids of a run become a film?"""

import io
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from gan.images import encode_png, open_grey

STRIP_PIXELS = 16  # height of the strip under each frame: one line of Pillow's 11 pixel font
FILM_BYTES = 750_000  # a Markdown artifact of Prefect holds 1 MB, and a data: URI is a third larger than its content
SHADES = (16, 8, 4)  # tried in this order. Noise, the worst case, takes 0.7 MB for 93 frames of 4 greys
FRAME_MS = (100, 500)
PLAY_MS = 9_000
HOLD_MS = 3_000


class Frame(NamedTuple):
    """A grid of a film."""

    step: int
    png: bytes


def frame_png(grid: bytes) -> bytes:
    """Redraw a PNG in 16 greys of 4 bits, half the size, for a page that holds every frame of a film."""
    return encode_png(_in_greys(open_grey(grid), 16), bits=4)


def film_gif(frames: Sequence[Frame]) -> bytes:
    """Return an animated GIF of grids, all of one size, in the given order. It repeats forever.

    Each frame shows its step in a strip under the grid. The last one is shown for 3 seconds. The film has 16 greys, or
    fewer if it would be larger than FILM_BYTES. 93 grids always fit.
    """
    assert frames, "a film needs at least one grid"
    images = [_with_step(open_grey(frame.png), frame.step) for frame in frames]
    for shades in SHADES:
        film = _gif([_in_greys(image, shades) for image in images])
        if len(film) <= FILM_BYTES:
            break
    return film


def frame_ms(num_frames: int) -> int:
    """Return how long one frame is shown: all frames take about 9 seconds, within bounds that the eye can follow."""
    shortest, longest = FRAME_MS
    return min(longest, max(shortest, PLAY_MS // num_frames // 10 * 10))  # GIF counts in units of 10 ms


def _with_step(grid: Image.Image, step: int) -> Image.Image:
    frame = Image.new("L", (grid.width, grid.height + STRIP_PIXELS))
    frame.paste(grid)
    # A bitmap font, because different versions of FreeType draw different pixels.
    ImageDraw.Draw(frame).text(
        (4, grid.height + 2), f"step {step:,}", fill=255, font=ImageFont.load_default_imagefont()
    )
    return frame


def _in_greys(image: Image.Image, shades: int) -> Image.Image:
    """Round an 8 bit grey image to evenly spaced shades. No dithering: noise does not compress."""
    top = shades - 1
    levels = image.point([(value * top + 127) // 255 for value in range(256)])
    palette = Image.frombytes("P", image.size, levels.tobytes())
    palette.putpalette([grey for level in range(shades) for grey in 3 * [level * 255 // top]])
    return palette


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
