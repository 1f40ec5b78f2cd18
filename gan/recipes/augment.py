"""How are the images that the discriminator sees translated at random?

Real and fake images are translated alike, so that the discriminator cannot memorise the real ones, and the generator
does not learn to translate (Zhao et al. 2020, DiffAugment).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

BLACK = (-1.0,)


class Translation:
    """Translate images (N, C * side * side) by up to `max_pixels` in each direction, and take gradients back."""

    def __init__(
        self, max_pixels: int, device: torch.device, side: int = 28, background: Sequence[float] = BLACK
    ) -> None:
        """Prepare all translations. `background` has the value of new pixels for each of the C channels."""
        self.sources = source_pixels(max_pixels, side, len(background)).to(device)
        self.background = background

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Draw which translation (count,) each image gets."""
        return torch.randint(len(self.sources), (count,), generator=rng, device=self.sources.device)

    def apply(self, images: Tensor, chosen: Tensor) -> Tensor:
        """Return images (N, C * side * side), each translated as `chosen` (N,) says. New pixels are background."""
        return self._gather(images, chosen, self.background)

    def backward(self, grads: Tensor, chosen: Tensor) -> Tensor:
        """Return the gradients by the pixels of the images, given those by the pixels of the translated ones.

        Both are (N, C * side * side). Each is translated in the opposite direction. New entries are 0.
        """
        return self._gather(grads, len(self.sources) - 1 - chosen, [0.0] * len(self.background))

    def _gather(self, images: Tensor, chosen: Tensor, outside: Sequence[float]) -> Tensor:
        first, *others = outside
        framed = F.pad(images, (0, len(outside)), value=first)  # the last C entries stand for all outside of the image
        for channel, value in enumerate(others, 1):
            framed[:, images.shape[1] + channel] = value
        return framed.gather(1, self.sources.index_select(0, chosen))


def source_pixels(max_pixels: int, side: int, channels: int) -> Tensor:
    """Return the entry that each entry of an image is taken from, (translations, channels * side * side) int64.

    From channels * side * side on, the entries are outside of the image, one for each channel. Translations i and
    -1 - i are opposite.
    """
    offsets = torch.arange(-max_pixels, max_pixels + 1)
    positions = torch.arange(side) + offsets[:, None]  # (translations along one axis, side)
    is_inside = (positions >= 0) & (positions < side)
    pixels = positions[:, None, :, None] * side + positions[None, :, None, :]  # (rows down, columns right, side, side)
    both_inside = is_inside[:, None, :, None] & is_inside[None, :, None, :]
    num_pixels = side * side
    of_channel = [
        torch.where(both_inside, pixels + channel * num_pixels, channels * num_pixels + channel).reshape(-1, num_pixels)
        for channel in range(channels)
    ]
    return torch.cat(of_channel, 1)
