"""Which networks play: generator and discriminator?"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.config import NUM_DIGITS, TrainConfig

IMAGE_SHAPE = (1, 28, 28)
NUM_PIXELS = 28 * 28
HIDDEN_D = (512, 256, 128)  # widths of the linear D's hidden layers
WIDTH = 32  # channels of the convolutional networks at 14x14; twice as many at 7x7
HIDDEN_CONV = 256  # width of their linear layer that sees, or decides on, the whole image
DIGIT_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)  # of 0 to 9 among the training images
DIGIT_LENGTH = 3.0  # of the vector that tells G the digit, beside latents of about 10
DIGIT_PIXEL = 10.0  # what tells the linear D the digit; more than 2, or G could draw it, too


class Generator(nn.Module):
    """Map latents to images by the layers of a recipe.

    The first latent asks for a digit, as often as there are such images, and G is told it as a vector of its own
    (Mirza and Osindero 2014): without it G must pass, somewhere between its digits, through what is none.
    """

    layers: nn.Sequential
    conditional: bool
    edges: Tensor
    codes: Tensor

    def __init__(self, *, conditional: bool) -> None:
        super().__init__()
        self.conditional = conditional
        shares = torch.tensor(DIGIT_COUNTS).cumsum(0)[:-1] / sum(DIGIT_COUNTS)
        self.register_buffer("edges", torch.special.ndtri(shares), persistent=False)  # (9,)
        self.register_buffer("codes", torch.eye(NUM_DIGITS) * DIGIT_LENGTH, persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Return images (B, 1, 28, 28) in [-1, 1] for latents (B, latent_dim)."""
        images: Tensor = self.layers(self.inputs(z, self.digits(z)))  # (B, 784) or (B, 1, 28, 28)
        return images.view(-1, *IMAGE_SHAPE)

    def digits(self, z: Tensor) -> Tensor:
        """Return the digits (B,) that latents (B, latent_dim) ask for; a G that is not told does not know of it."""
        return torch.bucketize(z[:, 0].contiguous(), self.edges.to(z.dtype))

    def asking(self, z: Tensor, digit: int) -> Tensor:
        """Return latents (B, latent_dim) that ask for `digit`, and are else the same."""
        below = torch.tensor([0, *DIGIT_COUNTS], dtype=torch.float64, device=z.device).cumsum(0) / sum(DIGIT_COUNTS)
        rank = below[digit] + (below[digit + 1] - below[digit]) * torch.special.ndtr(z[:, :1].double())
        return torch.cat([torch.special.ndtri(rank).to(z.dtype), z[:, 1:]], 1)

    def inputs(self, z: Tensor, digits: Tensor) -> Tensor:
        """Return what the layers read: by default the digits' vectors beside the latents, (B, latent_dim + 10)."""
        return torch.cat([z, self.codes.to(z.dtype).index_select(0, digits)], 1)


class MlpGenerator(Generator):
    """Five linear layers, the middle three batch-normalised.

    Where it is told the digit, the vector stands in place of the last ten latents: the layers keep their sizes.
    """

    def __init__(self, latent_dim: int, bn_eps: float, *, conditional: bool) -> None:
        super().__init__(conditional=conditional)

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

    def inputs(self, z: Tensor, digits: Tensor) -> Tensor:
        """Return what the layers read, (B, latent_dim)."""
        return super().inputs(z[:, :-NUM_DIGITS], digits) if self.conditional else z


class ConvGenerator(Generator):
    """Two linear layers to 7x7, a convolution, then two transposed ones that double the side (Radford et al. 2016).

    No layer before a norm has a bias: the norm would take it out again.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__(conditional=True)
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


class MlpDiscriminator(nn.Module):
    """Four linear layers, rectified with `slope` between them.

    Where it is told the digit, one of ten pixels of the frame, which are black in all reals, is lit: the layers keep
    their sizes. Dropout is the engine's, which alone trains it; its own forward only looks.
    """

    codes: Tensor

    def __init__(self, slope: float, *, conditional: bool) -> None:
        super().__init__()
        self.conditional = conditional
        self.register_buffer("codes", torch.eye(NUM_DIGITS) * DIGIT_PIXEL, persistent=False)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise((NUM_PIXELS, *HIDDEN_D, 1)))
        self.slope = slope

    def forward(self, images: Tensor, digits: Tensor) -> Tensor:
        """Return the logits (B,), before a rectified head, of images (B, 1, 28, 28) as what they are to be, (B,)."""
        hidden = images.flatten(1)  # (B, 784)
        if self.conditional:
            hidden = self.tell(hidden.clone(), digits)
        *layers, head = self.layers
        for layer in layers:
            hidden = F.leaky_relu(layer(hidden), self.slope)
        logits: Tensor = head(hidden)
        return logits.squeeze(1)

    def tell(self, images: Tensor, digits: Tensor) -> Tensor:
        """Light each image's (B, 784) pixel for its digit (B,), in place; return the images."""
        images[:, :NUM_DIGITS] += self.codes.to(images.dtype).index_select(0, digits)
        return images


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
    bn_eps, slope = (0.8, 0.0) if config.recipe == "published" else (1e-5, 0.2)
    conditional = bool(config.conditional)
    return (
        MlpGenerator(config.latent_dim, bn_eps, conditional=conditional),
        MlpDiscriminator(slope, conditional=conditional),
    )


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
