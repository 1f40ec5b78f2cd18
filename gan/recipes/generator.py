"""What is a generator, and how do its latents decide the class of an image?"""

import torch
from torch import Tensor, nn

from gan.recipes.base import NUM_CLASSES

IMAGE_SHAPE = (1, 28, 28)
NUM_PIXELS = 28 * 28
CLASS_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)  # of 0 to 9 in MNIST's training images
CODE_LENGTH = 3.0  # of the vector that stands for a class, beside latents of length 10 or so


class Generator(nn.Module):
    """Map latents to images by the layers of a recipe.

    The first latent decides the class: each is chosen as often as the training images have it, MNIST's unless
    `use_class_counts` says otherwise. A class-conditional generator also reads the class as a one-hot vector (Mirza and
    Osindero 2014). Without that vector, it must pass through images between two classes that are neither.
    """

    layers: nn.Sequential
    conditional: bool
    class_counts: Tensor  # (num_classes,) int64, of each class among the training images
    edges: Tensor  # (num_classes - 1,), the values of the first latent at which the class changes
    codes: Tensor  # (num_classes, num_classes), a row a class

    def __init__(
        self, *, conditional: bool, num_classes: int = NUM_CLASSES, image_shape: tuple[int, int, int] = IMAGE_SHAPE
    ) -> None:
        super().__init__()
        self.conditional = conditional
        self.image_shape = image_shape
        counts = default_counts(num_classes)
        self.register_buffer("class_counts", counts, persistent=False)
        self.register_buffer("edges", _edges(counts), persistent=False)
        self.register_buffer("codes", torch.eye(num_classes) * CODE_LENGTH, persistent=False)

    def use_class_counts(self, counts: Tensor) -> None:
        """Choose each class as often as `counts` (num_classes,) int64 say; never one with a count of 0."""
        self.class_counts.copy_(counts)
        self.edges.copy_(_edges(counts))

    def forward(self, z: Tensor) -> Tensor:
        """Return images (B, C, side, side) in [-1, 1] for latents (B, latent_dim)."""
        images: Tensor = self.layers(self.inputs(z, self.labels(z)))  # (B, C * side * side) or (B, C, side, side)
        return images.view(-1, *self.image_shape)

    def labels(self, z: Tensor) -> Tensor:
        """Return the classes (B,) that latents (B, latent_dim) decide, which an unconditional generator ignores."""
        return torch.bucketize(z[:, 0].contiguous(), self.edges.to(z.dtype))

    def with_class(self, z: Tensor, label: int) -> Tensor:
        """Return latents (B, latent_dim) that decide for the class `label`; all but the first are unchanged.

        The first latent keeps its quantile, taken among the values that stand for the class.
        """
        counts = self.class_counts.tolist()
        below = torch.tensor([0, *counts], dtype=torch.float64, device=z.device).cumsum(0) / sum(counts)
        quantile = below[label] + (below[label + 1] - below[label]) * torch.special.ndtr(z[:, :1].double())
        inf = z.new_tensor([torch.inf])
        edges = torch.cat([-inf, self.edges.to(z.dtype), inf])
        first = torch.special.ndtri(quantile).to(z.dtype)
        # Rounding may have moved it to the edge, which belongs to the class below.
        first = first.clamp(torch.nextafter(edges[label], inf[0]), edges[label + 1])
        return torch.cat([first, z[:, 1:]], 1)

    def inputs(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return what the layers read: here the latents, then the classes' vectors, (B, latent_dim + num_classes)."""
        return torch.cat([z, self.codes.to(z.dtype).index_select(0, labels)], 1)


def default_counts(num_classes: int) -> Tensor:
    """Return how many training images each class has, as long as nobody says otherwise: ten classes are MNIST's."""
    return torch.tensor(CLASS_COUNTS) if num_classes == NUM_CLASSES else torch.ones(num_classes, dtype=torch.int64)


def _edges(counts: Tensor) -> Tensor:
    """Return (C - 1,): the values that divide a standard normal variable into shares like `counts` (C,) int64."""
    edges: Tensor = torch.special.ndtri(counts.cumsum(0)[:-1] / counts.sum())
    return edges
