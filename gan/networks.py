"""Which networks play: generator and discriminator?"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.config import TrainConfig

IMAGE_SHAPE = (1, 28, 28)
NUM_PIXELS = 28 * 28
HIDDEN_D = (512, 256, 128)  # widths of D's hidden layers


class Generator(nn.Module):
    """Map latents to images: five linear layers, the middle three batch-normalised."""

    def __init__(self, latent_dim: int, bn_eps: float) -> None:
        super().__init__()

        def block(num_in: int, num_out: int) -> list[nn.Module]:
            return [nn.Linear(num_in, num_out), nn.BatchNorm1d(num_out, eps=bn_eps), nn.LeakyReLU(0.2)]

        self.layers = nn.Sequential(
            nn.Linear(latent_dim, 128),
            nn.LeakyReLU(0.2),
            *block(128, 256),
            *block(256, 512),
            *block(512, 1024),
            nn.Linear(1024, NUM_PIXELS),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return images (B, 1, 28, 28) in [-1, 1] for latents (B, latent_dim)."""
        images: Tensor = self.layers(z)  # (B, 784)
        return images.view(-1, *IMAGE_SHAPE)


class Discriminator(nn.Module):
    """Map images to logits: four linear layers."""

    def __init__(self, slope: float, relu_head: bool) -> None:
        super().__init__()
        widths = (NUM_PIXELS, *HIDDEN_D, 1)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.slope = slope
        self.relu_head = relu_head

    def forward(self, images: Tensor, dropout: Sequence[Tensor] = ()) -> Tensor:
        """Return logits (B,) for images (B, 1, 28, 28).

        `dropout` holds one mask (B, width) for each hidden layer, its kept entries 1 / (1 - rate); empty: none.
        """
        hidden = images.flatten(1)  # (B, 784)
        for index, layer in enumerate(self.layers[:-1]):
            hidden = F.leaky_relu(layer(hidden), self.slope)  # (B, width)
            if dropout:
                hidden = hidden * dropout[index]
        logits: Tensor = self.layers[-1](hidden).squeeze(1)  # (B,)
        return F.relu(logits) if self.relu_head else logits


def make_networks(config: TrainConfig) -> tuple[Generator, Discriminator]:
    """Build the recipe's networks on the CPU, weights from torch's global random stream.

    `published` has the tutorial's two slips: BatchNorm's eps is 0.8 and D's last layer is rectified too, which
    confines its output to [0.5, 1).
    """
    if config.recipe == "published":
        return Generator(config.latent_dim, bn_eps=0.8), Discriminator(slope=0.0, relu_head=True)
    return Generator(config.latent_dim, bn_eps=1e-5), Discriminator(slope=0.2, relu_head=False)


def dropout_masks(num_images: int, rate: float, random: torch.Generator, like: Tensor) -> list[Tensor]:
    """Draw D's dropout masks for a batch; none, and no random number used, at rate 0."""
    if rate == 0:
        return []
    masks = torch.empty(num_images, sum(HIDDEN_D), device=like.device, dtype=like.dtype)
    masks.bernoulli_(1 - rate, generator=random).div_(1 - rate)
    return list(torch.split(masks, list(HIDDEN_D), dim=1))
