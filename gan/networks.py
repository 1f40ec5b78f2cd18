"""Which networks play: generator and discriminator?"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.config import TrainConfig

IMAGE_SHAPE = (1, 28, 28)
NUM_PIXELS = 28 * 28
HIDDEN_D = (512, 256, 128)  # widths of the linear D's hidden layers
WIDTH = 32  # channels of the convolutional networks at 14x14; twice as many at 7x7
HIDDEN_CONV = 256  # width of their linear layer that sees, or decides on, the whole image
DIGIT_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)  # of 0 to 9 among the training images
NUM_DIGITS = len(DIGIT_COUNTS)
DIGIT_LENGTH = 3.0  # of the vector that tells G the digit, beside latents of about 10


class Generator(nn.Module):
    """Map latents to images by the layers of a recipe."""

    layers: nn.Sequential

    def forward(self, z: Tensor) -> Tensor:
        """Return images (B, 1, 28, 28) in [-1, 1] for latents (B, latent_dim)."""
        images: Tensor = self.layers(z)  # (B, 784) or (B, 1, 28, 28)
        return images.view(-1, *IMAGE_SHAPE)

    def digits(self, z: Tensor) -> Tensor:
        """Return the digits (B,) that latents ask for: 0, where the networks are not told."""
        return torch.zeros(len(z), dtype=torch.int64, device=z.device)


class MlpGenerator(Generator):
    """Five linear layers, the middle three batch-normalised."""

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


class ConvGenerator(Generator):
    """Two linear layers to 7x7, a convolution, then two transposed ones that double the side (Radford et al. 2016).

    The first latent asks for a digit, as often as there are such images, and the digit goes in beside the latents
    (Mirza and Osindero 2014): without it G must pass, somewhere between its digits, through what is none. No layer
    before a norm has a bias: the norm would take it out again.
    """

    edges: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        shares = torch.tensor(DIGIT_COUNTS).cumsum(0)[:-1] / sum(DIGIT_COUNTS)
        self.register_buffer("edges", torch.special.ndtri(shares), persistent=False)  # (9,)
        self.layers = nn.Sequential(
            nn.Linear(latent_dim + NUM_DIGITS, HIDDEN_CONV, bias=False),
            nn.BatchNorm1d(HIDDEN_CONV),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN_CONV, 2 * WIDTH * 7 * 7, bias=False),
            nn.Unflatten(1, (2 * WIDTH, 7, 7)),  # (B, 64, 7, 7)
            nn.BatchNorm2d(2 * WIDTH),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * WIDTH),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, stride=2, padding=1, bias=False),  # (B, 32, 14, 14)
            nn.BatchNorm2d(WIDTH),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(WIDTH, 1, 4, stride=2, padding=1),  # (B, 1, 28, 28)
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return images (B, 1, 28, 28) in [-1, 1] of the digits that latents (B, latent_dim) ask for."""
        told = F.one_hot(self.digits(z), NUM_DIGITS).to(z.dtype) * DIGIT_LENGTH
        return super().forward(torch.cat([z, told], 1))

    def digits(self, z: Tensor) -> Tensor:
        """Return the digits (B,) that latents (B, latent_dim) ask for."""
        return torch.bucketize(z[:, 0].contiguous(), self.edges.to(z.dtype))


class MlpDiscriminator(nn.Module):
    """Four linear layers, rectified with `slope` between them.

    Dropout is the engine's, which alone trains it; its own forward only looks.
    """

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise((NUM_PIXELS, *HIDDEN_D, 1)))
        self.slope = slope

    def forward(self, images: Tensor, digits: Tensor) -> Tensor:
        """Return the logits (B,), before a rectified head, of images (B, 1, 28, 28), whatever the digits."""
        hidden = images.flatten(1)  # (B, 784)
        *layers, head = self.layers
        for layer in layers:
            hidden = F.leaky_relu(layer(hidden), self.slope)
        logits: Tensor = head(hidden)
        return logits.squeeze(1)


class ConvDiscriminator(nn.Module):
    """Two convolutions that halve the side, a linear layer that sees the whole image, a head for each digit.

    So D asks whether an image is a real one of its digit (as Mescheder et al. 2018 have it). No batch norm, since R1
    looks at each image alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, WIDTH, 4, stride=2, padding=1),  # (B, 32, 14, 14)
            nn.LeakyReLU(0.2),
            nn.Conv2d(WIDTH, 2 * WIDTH, 4, stride=2, padding=1),  # (B, 64, 7, 7)
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * WIDTH * 7 * 7, HIDDEN_CONV),
            nn.LeakyReLU(0.2),
        )
        self.head = nn.Linear(HIDDEN_CONV, NUM_DIGITS)

    def forward(self, images: Tensor, digits: Tensor) -> Tensor:
        """Return the logits (B,) of images (B, 1, 28, 28) as what they are to be, digits (B,)."""
        return self.judge(self.layers(images), digits)

    def judge(self, hidden: Tensor, digits: Tensor) -> Tensor:
        """Return the logits (B,), given what the layers before the head found (B, HIDDEN_CONV)."""
        logits: Tensor = self.head(hidden)  # (B, 10)
        return logits.gather(1, digits.unsqueeze(1)).squeeze(1)


Discriminator = MlpDiscriminator | ConvDiscriminator


def make_networks(config: TrainConfig) -> tuple[Generator, Discriminator]:
    """Build the recipe's networks on the CPU, weights from torch's global random stream.

    `published` has the tutorial's slip of a BatchNorm whose eps is 0.8.
    """
    if config.recipe == "dcgan":
        return ConvGenerator(config.latent_dim), ConvDiscriminator()
    if config.recipe == "published":
        return MlpGenerator(config.latent_dim, bn_eps=0.8), MlpDiscriminator(slope=0.0)
    return MlpGenerator(config.latent_dim, bn_eps=1e-5), MlpDiscriminator(slope=0.2)


def dropout_masks(num_images: int, rate: float, random: torch.Generator, like: Tensor) -> list[Tensor]:
    """Draw D's dropout masks for a batch; none, and no random number used, at rate 0.

    The rate is taken to the nearest 2**-16: four entries come from one draw of 64 bits, which is ten times as
    quick as bernoulli_.
    """
    if rate == 0:
        return []
    shape = (num_images, sum(HIDDEN_D))
    dropped = round(rate * 2**16)
    draws = torch.empty(shape[0] * shape[1] // 4, dtype=torch.int64, device=like.device)
    bits = draws.random_(-(2**63), None, generator=random).view(torch.int16).view(shape)
    masks = torch.ge(bits, dropped - 2**15, out=torch.empty(shape, dtype=like.dtype, device=like.device))
    return list(torch.split(masks.mul_(2**16 / (2**16 - dropped)), list(HIDDEN_D), dim=1))
