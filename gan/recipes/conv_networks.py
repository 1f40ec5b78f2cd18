"""What are the networks of convolutions?"""

from itertools import pairwise

from torch import Tensor, nn

from gan.recipes.base import Sizes
from gan.recipes.generator import Generator
from gan.recipes.mlp_networks import ScoredByClass

WIDTH = 32  # channels at half the side of an image; twice as many at a quarter, and so on
HIDDEN = 256  # width of the linear layers that see the whole image
NUM_HALVINGS = {28: 2, 32: 2, 64: 3}  # by the side of the images: the smallest layers are 7x7 or 8x8


def widths_of(side: int) -> list[int]:
    """Return the channels at half the side, at a quarter, and so on."""
    return [WIDTH * 2**number for number in range(NUM_HALVINGS[side])]


class ConvGenerator(Generator):
    """Two linear layers to 7x7 or 8x8, a convolution, then transposed ones that double the side (Radford et al. 2016).

    A layer before a norm has no bias, because the norm would remove it.
    """

    def __init__(self, sizes: Sizes) -> None:
        shape = sizes.channels, sizes.side, sizes.side
        super().__init__(conditional=sizes.conditional, num_classes=sizes.classes, image_shape=shape)
        *others, widest = widths_of(sizes.side)
        smallest = sizes.side >> len(others) + 1
        num_inputs = sizes.latent_dim + (sizes.classes if sizes.conditional else 0)
        self.layers = nn.Sequential(
            nn.Linear(num_inputs, HIDDEN, bias=False),
            nn.BatchNorm1d(HIDDEN),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, widest * smallest * smallest, bias=False),
            nn.Unflatten(1, (widest, smallest, smallest)),  # (B, 64, 7, 7) of 28x28
            nn.BatchNorm2d(widest),
            nn.LeakyReLU(0.2),
            nn.Conv2d(widest, widest, 3, padding=1, bias=False),
            nn.BatchNorm2d(widest),
            nn.LeakyReLU(0.2),
        )
        for before, width in pairwise([widest, *reversed(others)]):
            self.layers.append(nn.ConvTranspose2d(before, width, 4, stride=2, padding=1, bias=False))
            self.layers.append(nn.BatchNorm2d(width))
            self.layers.append(nn.LeakyReLU(0.2))
        self.layers.append(nn.ConvTranspose2d(WIDTH, sizes.channels, 4, stride=2, padding=1))  # (B, C, side, side)
        self.layers.append(nn.Tanh())

    def inputs(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return what the layers read: the latents and, where the networks are class-conditional, the classes."""
        return super().inputs(z, labels) if self.conditional else z


class ConvDiscriminator(ScoredByClass):
    """Convolutions that halve the side, a linear layer that sees the whole image, and an output for each class.

    There is no batch norm, because R1 considers each image alone.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.conditional = sizes.conditional
        widths = widths_of(sizes.side)
        smallest = sizes.side >> len(widths)
        self.layers = nn.Sequential()
        for before, width in pairwise([sizes.channels, *widths]):
            self.layers.append(
                nn.Conv2d(before, width, 4, stride=2, padding=1)
            )  # (B, 32, 14, 14), (B, 64, 7, 7) of 28x28
            self.layers.append(nn.LeakyReLU(0.2))
        self.layers.append(nn.Flatten())
        self.layers.append(nn.Linear(widths[-1] * smallest * smallest, HIDDEN))
        self.layers.append(nn.LeakyReLU(0.2))
        self.head = nn.Linear(HIDDEN, sizes.classes if sizes.conditional else 1)
