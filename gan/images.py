"""How do tensors become pictures: pixels, grids, PNG, the film?"""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import pad

STRIP_PIXELS = 16  # under each frame of the film: room for one line of Pillow's 11 pixel font
FILM_BYTES = 750_000  # a Markdown artifact of Prefect takes 1 MB, and a data: URI adds a third
SHADES = (16, 8, 4)  # tried in turn; pure noise, the worst case, is 0.7 MB for 93 frames of 4 greys
FRAME_MS = (100, 500)
PLAY_MS = 9_000
HOLD_MS = 3_000


def to_uint8(images: Tensor) -> Tensor:
    """Turn [-1, 1] into uint8 0..255, rounded to the nearest; what lies outside is clamped."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(pixels: Tensor) -> Tensor:
    """Turn uint8 0..255 into float32 [-1, 1], bit for bit as torchvision's ToTensor and Normalize(0.5, 0.5)."""
    return torch.div(pixels, 127.5).sub_(1)


def grid_png(images: Tensor, per_row: int = 5, padding: int = 2) -> bytes:
    """Draw images (N, 1, H, W), uint8 or in [-1, 1], row by row on black; return the bytes of an 8 bit grey PNG.

    25 images of 28x28 make 152x152 pixels. The same images give the same bytes.
    """
    assert images.ndim == 4 and images.shape[0] > 0 and images.shape[1] == 1, tuple(images.shape)
    pixels = images if images.dtype == torch.uint8 else to_uint8(images)
    return _png(Image.fromarray(_sheet(pixels.detach().cpu(), per_row, padding).numpy()))


def grid_cells(grid: bytes, side: int = 28, padding: int = 2) -> Tensor:
    """Take the images (N, 1, side, side) uint8 back out of what grid_png has drawn of them."""
    pixels = torch.from_numpy(np.array(_open_grey(grid)))
    rows = pixels[padding:, padding:].unfold(0, side, side + padding).unfold(1, side, side + padding)
    return rows.reshape(-1, 1, side, side)


def frame_png(grid: bytes) -> bytes:
    """Redraw a PNG in 16 greys of 4 bits, half the size, for pages that hold every frame of a film."""
    return _png(_in_greys(_open_grey(grid), 16), bits=4)


def film_gif(grids: Sequence[tuple[int, bytes]]) -> bytes:
    """Make an animated GIF of grids (step, PNG bytes), all of one size, in the order given; it loops for ever.

    Each frame has its step written under it; the last is held for 3 seconds. The film has 16 greys, or as many
    fewer as keep it under FILM_BYTES: 93 grids always fit.
    """
    assert grids, "a film needs one grid or more"
    frames = [_with_step(_open_grey(grid), step) for step, grid in grids]
    for shades in SHADES:
        film = _gif([_in_greys(frame, shades) for frame in frames])
        if len(film) <= FILM_BYTES:
            break
    return film


def frame_ms(num_frames: int) -> int:
    """Say how long one frame is shown: some 9 seconds for them all, within bounds that can be followed."""
    shortest, longest = FRAME_MS
    return min(longest, max(shortest, PLAY_MS // num_frames // 10 * 10))  # GIF counts in 10 ms


def _sheet(pixels: Tensor, per_row: int, padding: int) -> Tensor:
    """Lay uint8 (N, 1, H, W) out in rows of `per_row`; cells left over stay black."""
    count = pixels.shape[0]
    per_row = min(per_row, count)
    num_rows = -(-count // per_row)
    cells = pad(pixels[:, 0], (padding, 0, padding, 0, 0, num_rows * per_row - count))  # (rows * per_row, H+p, W+p)
    height, width = cells.shape[1:]
    rows = cells.reshape(num_rows, per_row, height, width).transpose(1, 2)  # (rows, H+p, per_row, W+p)
    return pad(rows.reshape(num_rows * height, per_row * width), (0, padding, 0, padding))


def _open_grey(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("L")


def _png(image: Image.Image, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **options)
    return buffer.getvalue()


def _with_step(grid: Image.Image, step: int) -> Image.Image:
    frame = Image.new("L", (grid.width, grid.height + STRIP_PIXELS))
    frame.paste(grid)
    # The bitmap font, because FreeType's versions differ in their pixels.
    ImageDraw.Draw(frame).text(
        (4, grid.height + 2), f"step {step:,}", fill=255, font=ImageFont.load_default_imagefont()
    )
    return frame


def _in_greys(image: Image.Image, shades: int) -> Image.Image:
    """Round an 8 bit grey image to evenly spaced shades, undithered: dither is noise, and noise is bytes."""
    top = shades - 1
    levels = image.point([(value * top + 127) // 255 for value in range(256)])
    palette = Image.frombytes("P", image.size, levels.tobytes())
    palette.putpalette([grey for level in range(shades) for grey in 3 * [level * 255 // top]])
    return palette


def _gif(frames: Sequence[Image.Image]) -> bytes:
    """Encode frames of one palette, with and without Pillow's transparent deltas, and return the smaller file."""
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
