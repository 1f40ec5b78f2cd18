"""What is the recipe `projection`? A discriminator that projects on the class, with spectral norm and the hinge loss.

The projection is that of Miyato and Koyama 2018, spectral norm that of Miyato et al. 2018.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from gan.recipes.base import CustomLoss, CustomNetworks, Recipe, Sizes
from gan.recipes.dcgan import DCGAN

WIDTH = 32  # channels at half the side; twice as many at a quarter of it


class Generator(nn.Module):
    """A linear layer to a quarter of the side, then two transposed convolutions. The class is a learned vector."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.quarter = sizes.side // 4
        self.classes = nn.Embedding(sizes.classes, sizes.latent_dim)
        self.start = nn.Linear(2 * sizes.latent_dim, 2 * WIDTH * self.quarter**2)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(2 * WIDTH),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, stride=2, padding=1),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.ConvTranspose2d(WIDTH, sizes.channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        hidden = self.start(torch.cat([z, self.classes(labels).to(z.dtype)], 1))
        return self.layers(hidden.view(len(z), 2 * WIDTH, self.quarter, self.quarter))


class Discriminator(nn.Module):
    """Two strided convolutions. The logit is a linear layer's, plus the features projected on the class's vector."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.features = nn.Sequential(
            spectral_norm(nn.Conv2d(sizes.channels, WIDTH, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.1),
            spectral_norm(nn.Conv2d(WIDTH, 2 * WIDTH, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
        )
        num_features = 2 * WIDTH * (sizes.side // 4) ** 2
        self.head = spectral_norm(nn.Linear(num_features, 1))
        self.classes = spectral_norm(nn.Embedding(sizes.classes, num_features))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        features = self.features(images)  # (B, num_features)
        return self.head(features).squeeze(1) + (features * self.classes(labels)).sum(1)


HINGE = CustomLoss(
    generator=lambda fake: -fake.mean(),
    discriminator=lambda fake, real: F.relu(1 + fake).mean() + F.relu(1 - real).mean(),
)

PROJECTION = Recipe(
    name="projection",
    summary="a projection discriminator with spectral norm and the hinge loss, class-conditional",
    networks=CustomNetworks(Generator, Discriminator, supports_unconditional=False),
    engine="autograd",
    loss=HINGE,
    grid="fixed_latents",
    defaults=replace(DCGAN.defaults, learning_rate=2e-4, lr_decay_from=2e-4, lr_decay_to=2e-5, r1_gamma=0.05, beta1=0),
)
