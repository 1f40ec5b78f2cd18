"""How are the images that the discriminator sees translated at random?

Real and fake images are translated alike, so that the discriminator cannot memorise the real ones, and the generator
does not learn to translate (Zhao et al. 2020, DiffAugment).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 28
NUM_PIXELS = SIDE * SIDE
BACKGROUND = -1.0  # black


class Translation:
    """Translate images (N, 784) by up to `max_pixels` in each direction, and take gradients by pixel back."""

    def __init__(self, max_pixels: int, device: torch.device) -> None:
        self.sources = source_pixels(max_pixels).to(device)

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Draw which translation (count,) each image gets."""
        return torch.randint(len(self.sources), (count,), generator=rng, device=self.sources.device)

    def apply(self, images: Tensor, chosen: Tensor) -> Tensor:
        """Return images (N, 784), each translated as `chosen` (N,) says. New pixels are black."""
        return self._gather(images, chosen, BACKGROUND)

    def backward(self, grads: Tensor, chosen: Tensor) -> Tensor:
        """Return the gradients (N, 784) by the pixels of the images, given those by the translated images' pixels.

        Each is translated in the opposite direction. New entries are 0.
        """
        return self._gather(grads, len(self.sources) - 1 - chosen, 0.0)

    def _gather(self, images: Tensor, chosen: Tensor, outside: float) -> Tensor:
        framed = F.pad(images, (0, 1), value=outside)  # pixel 784 stands for all outside of the image
        return framed.gather(1, self.sources.index_select(0, chosen))


def source_pixels(max_pixels: int) -> Tensor:
    """Return the pixel that each pixel is taken from, (translations, 784) int64; 784 is outside of the image.

    Translations i and -1 - i are opposite.
    """
    offsets = torch.arange(-max_pixels, max_pixels + 1)
    positions = torch.arange(SIDE) + offsets[:, None]  # (translations along one axis, 28)
    is_inside = (positions >= 0) & (positions < SIDE)
    pixels = positions[:, None, :, None] * SIDE + positions[None, :, None, :]  # (rows down, columns right, 28, 28)
    both_inside = is_inside[:, None, :, None] & is_inside[None, :, None, :]
    return torch.where(both_inside, pixels, NUM_PIXELS).reshape(-1, NUM_PIXELS)
