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


def with_channels(images: np.ndarray) -> Tensor:
    """Return images (N, C, H, W) of a data set's array: grey ones are (N, H, W) there, coloured ones (N, 3, H, W)."""
    tensor = torch.from_numpy(images)
    return tensor.unsqueeze(1) if tensor.ndim == 3 else tensor


def grid_png(images: Tensor, per_row: int = 5, padding: int = 2) -> bytes:
    """Draw images (N, C, H, W), uint8 or in [-1, 1], in rows on black. Returns the bytes of an 8 bit PNG.

    It is grey for C = 1, and RGB for C = 3. 25 images of 28x28 give 152x152 pixels. The same images give the same
    bytes.
    """
    assert images.ndim == 4 and images.shape[0] > 0 and images.shape[1] in (1, 3), tuple(images.shape)
    pixels = images if images.dtype == torch.uint8 else to_uint8(images)
    sheet = _sheet(pixels.detach().cpu(), per_row, padding)
    return encode_png(Image.fromarray(sheet[0].numpy() if len(sheet) == 1 else sheet.permute(1, 2, 0).numpy()))


def grid_cells(grid: bytes, side: int, padding: int = 2) -> Tensor:
    """Return the images (N, C, side, side) uint8 of a PNG that grid_png has drawn."""
    sheet = np.atleast_3d(np.array(open_png(grid)))  # (H, W, C)
    rows = torch.from_numpy(sheet)[padding:, padding:]
    cells = rows.unfold(0, side, side + padding).unfold(1, side, side + padding)  # (rows, per_row, C, side, side)
    return cells.reshape(-1, *cells.shape[2:])


def _sheet(pixels: Tensor, per_row: int, padding: int) -> Tensor:
    """Arrange uint8 images (N, C, H, W) in rows of `per_row`: (C, H, W). Unused cells stay black."""
    count, channels = pixels.shape[:2]
    per_row = min(per_row, count)
    num_rows = -(-count // per_row)
    cells = pad(pixels, (padding, 0, padding, 0, 0, 0, 0, num_rows * per_row - count))  # (rows * per_row, C, H+p, W+p)
    height, width = cells.shape[2:]
    rows = cells.reshape(num_rows, per_row, channels, height, width).permute(2, 0, 3, 1, 4)
    return pad(rows.reshape(channels, num_rows * height, per_row * width), (0, padding, 0, padding))


def open_png(png: bytes) -> Image.Image:
    """Decode a PNG as an 8 bit image: in RGB if it is coloured, else in grey."""
    image = Image.open(io.BytesIO(png))
    return image.convert("RGB" if image.mode == "RGB" else "L")


def encode_png(image: Image.Image, **options: int) -> bytes:
    """Encode an image as PNG; `options` are Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **options)
    return buffer.getvalue()
