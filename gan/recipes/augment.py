"""How are the images that D sees shifted at random, fakes and reals alike, so that it cannot learn the reals by heart?

What both kinds undergo, G need not imitate (Zhao et al. 2020, DiffAugment).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 28
NUM_PIXELS = SIDE * SIDE
BACKGROUND = -1.0  # black


class Shifts:
    """Shift images (N, 784) by up to `reach` pixels each way, and gradients by pixel back."""

    def __init__(self, reach: int, device: torch.device) -> None:
        self.sources = sources(reach).to(device)

    def draw(self, count: int, random: torch.Generator) -> Tensor:
        """Draw the number (count,) of each image's shift."""
        return torch.randint(len(self.sources), (count,), generator=random, device=self.sources.device)

    def there(self, images: Tensor, chosen: Tensor) -> Tensor:
        """Return images (N, 784), each shifted by the one chosen (N,); black comes in."""
        return self._taken(images, chosen, BACKGROUND)

    def back(self, deltas: Tensor, chosen: Tensor) -> Tensor:
        """Return gradients (N, 784) by the pixels of shifted images as those by the images' own; 0 comes in."""
        return self._taken(deltas, len(self.sources) - 1 - chosen, 0.0)

    def _taken(self, images: Tensor, chosen: Tensor, outside: float) -> Tensor:
        framed = F.pad(images, (0, 1), value=outside)  # what lies outside is pixel 784
        return framed.gather(1, self.sources.index_select(0, chosen))


def sources(reach: int) -> Tensor:
    """Return where each pixel comes from, (shifts, 784) int64, 784 being outside; shifts i and -1 - i are opposite."""
    steps = torch.arange(-reach, reach + 1)
    places = torch.arange(SIDE) + steps[:, None]  # (shifts of one axis, 28)
    inside = (places >= 0) & (places < SIDE)
    source = places[:, None, :, None] * SIDE + places[None, :, None, :]
    both = inside[:, None, :, None] & inside[None, :, None, :]
    return torch.where(both, source, NUM_PIXELS).reshape(-1, NUM_PIXELS)
