"""How do tensors become pixels, grids and PNG files?"""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad


def to_uint8(images: Tensor) -> Tensor:
    """Convert values in [-1, 1] to uint8 0..255, rounded to the nearest. Values outside are clamped."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(pixels: Tensor) -> Tensor:
    """Convert uint8 0..255 to float32 in [-1, 1], with the bits of torchvision's ToTensor and Normalize(0.5, 0.5)."""
    return torch.div(pixels, 127.5).sub_(1)


def grid_png(images: Tensor, per_row: int = 5, padding: int = 2) -> bytes:
    """Draw images (N, 1, H, W), uint8 or in [-1, 1], in rows on black. Returns the bytes of an 8 bit grey PNG.

    25 images of 28x28 give 152x152 pixels. The same images give the same bytes.
    """
    assert images.ndim == 4 and images.shape[0] > 0 and images.shape[1] == 1, tuple(images.shape)
    pixels = images if images.dtype == torch.uint8 else to_uint8(images)
    return encode_png(Image.fromarray(_sheet(pixels.detach().cpu(), per_row, padding).numpy()))


def grid_cells(grid: bytes, side: int = 28, padding: int = 2) -> Tensor:
    """Return the images (N, 1, side, side) uint8 of a PNG that grid_png has drawn."""
    pixels = torch.from_numpy(np.array(open_grey(grid)))
    rows = pixels[padding:, padding:].unfold(0, side, side + padding).unfold(1, side, side + padding)
    return rows.reshape(-1, 1, side, side)


def _sheet(pixels: Tensor, per_row: int, padding: int) -> Tensor:
    """Arrange uint8 images (N, 1, H, W) in rows of `per_row`. Unused cells stay black."""
    count = pixels.shape[0]
    per_row = min(per_row, count)
    num_rows = -(-count // per_row)
    cells = pad(pixels[:, 0], (padding, 0, padding, 0, 0, num_rows * per_row - count))  # (rows * per_row, H+p, W+p)
    height, width = cells.shape[1:]
    rows = cells.reshape(num_rows, per_row, height, width).transpose(1, 2)  # (rows, H+p, per_row, W+p)
    return pad(rows.reshape(num_rows * height, per_row * width), (0, padding, 0, padding))


def open_grey(png: bytes) -> Image.Image:
    """Decode a PNG as an 8 bit grey image."""
    return Image.open(io.BytesIO(png)).convert("L")


def encode_png(image: Image.Image, **options: int) -> bytes:
    """Encode an image as PNG; `options` are Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **options)
    return buffer.getvalue()
