"""What is a generator, and how do its latents decide the class of an image?"""

import torch
from torch import Tensor, nn

from gan.recipes.base import NUM_CLASSES

IMAGE_SHAPE = (1, 28, 28)
NUM_PIXELS = 28 * 28
CLASS_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)  # of 0 to 9 among the training images
CODE_LENGTH = 3.0  # of the vector that stands for a class, beside latents of length 10 or so


class Generator(nn.Module):
    """Map latents to images by the layers of a recipe.

    The first latent decides the class: each is chosen as often as MNIST has it. A class-conditional generator also
    reads the class as a one-hot vector (Mirza and Osindero 2014). Without that vector, it must pass through images
    between two classes that are neither.
    """

    layers: nn.Sequential
    conditional: bool
    edges: Tensor  # (9,), the values of the first latent at which the class changes
    codes: Tensor  # (10, 10), a row a class

    def __init__(self, *, conditional: bool) -> None:
        super().__init__()
        self.conditional = conditional
        shares = torch.tensor(CLASS_COUNTS).cumsum(0)[:-1] / sum(CLASS_COUNTS)
        self.register_buffer("edges", torch.special.ndtri(shares), persistent=False)
        self.register_buffer("codes", torch.eye(NUM_CLASSES) * CODE_LENGTH, persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Return images (B, 1, 28, 28) in [-1, 1] for latents (B, latent_dim)."""
        images: Tensor = self.layers(self.inputs(z, self.labels(z)))  # (B, 784) or (B, 1, 28, 28)
        return images.view(-1, *IMAGE_SHAPE)

    def labels(self, z: Tensor) -> Tensor:
        """Return the classes (B,) that latents (B, latent_dim) decide, which an unconditional generator ignores."""
        return torch.bucketize(z[:, 0].contiguous(), self.edges.to(z.dtype))

    def with_class(self, z: Tensor, label: int) -> Tensor:
        """Return latents (B, latent_dim) that decide for the class `label`; all but the first are unchanged.

        The first latent keeps its quantile, taken among the values that stand for the class.
        """
        below = torch.tensor([0, *CLASS_COUNTS], dtype=torch.float64, device=z.device).cumsum(0) / sum(CLASS_COUNTS)
        quantile = below[label] + (below[label + 1] - below[label]) * torch.special.ndtr(z[:, :1].double())
        return torch.cat([torch.special.ndtri(quantile).to(z.dtype), z[:, 1:]], 1)

    def inputs(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return what the layers read: here the latents, then the classes' vectors, (B, latent_dim + 10)."""
        return torch.cat([z, self.codes.to(z.dtype).index_select(0, labels)], 1)
