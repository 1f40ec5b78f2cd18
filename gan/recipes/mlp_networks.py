"""What are the networks of linear layers?"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.recipes.base import NUM_CLASSES, Sizes
from gan.recipes.generator import NUM_PIXELS, Generator

HIDDEN_G = (128, 256, 512, 1024)  # widths of the generator's hidden layers
HIDDEN_D = (512, 256, 128)  # widths of the discriminator's hidden layers
CODE_PIXEL = 10.0  # added to the pixel that stands for the class; more than 2, which the generator could draw itself


class MlpGenerator(Generator):
    """Five linear layers, with batch norm after the middle three.

    Where it is class-conditional, the class replaces the last ten latents: the layers keep their sizes.
    """

    def __init__(self, latent_dim: int, bn_eps: float, *, conditional: bool, num_classes: int = NUM_CLASSES) -> None:
        super().__init__(conditional=conditional, num_classes=num_classes)

        self.layers = generator_layers(latent_dim, NUM_PIXELS, bn_eps)

    def inputs(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return what the layers read, (B, latent_dim)."""
        return super().inputs(z[:, :-NUM_CLASSES], labels) if self.conditional else z


class EmbeddedMlpGenerator(Generator):
    """The same layers for images of any form. The class is an input beside the latents: it has a learnt vector.

    That vector, a column of the first layer's weights for each class, is added to what the latents give.
    """

    def __init__(self, sizes: Sizes, bn_eps: float) -> None:
        shape = sizes.channels, sizes.side, sizes.side
        super().__init__(conditional=sizes.conditional, num_classes=sizes.classes, image_shape=shape)
        num_inputs = sizes.latent_dim + (sizes.classes if sizes.conditional else 0)
        self.layers = generator_layers(num_inputs, math.prod(shape), bn_eps)

    def inputs(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return what the layers read: the latents and, where the networks are class-conditional, the classes."""
        return super().inputs(z, labels) if self.conditional else z


def generator_layers(num_inputs: int, num_pixels: int, bn_eps: float) -> nn.Sequential:
    """Return the layers of a generator, for what it reads (B, num_inputs) and for images (B, num_pixels)."""

    def block(num_in: int, num_out: int) -> list[nn.Module]:
        return [nn.Linear(num_in, num_out), nn.BatchNorm1d(num_out, eps=bn_eps), nn.LeakyReLU(0.2)]

    return nn.Sequential(
        nn.Linear(num_inputs, HIDDEN_G[0]),
        nn.LeakyReLU(0.2),
        *(layer for widths in pairwise(HIDDEN_G) for layer in block(*widths)),
        nn.Linear(HIDDEN_G[-1], num_pixels),
        nn.Tanh(),
    )


class ScoredByClass(nn.Module):
    """A discriminator with an output for each class: an image is scored by that of its class (Mescheder et al. 2018).

    Without classes there is one output.
    """

    conditional: bool
    layers: nn.Sequential
    head: nn.Linear

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the logits (B,) of images (B, C, side, side) as images of their classes (B,)."""
        return self.class_logits(self.layers(images), labels)

    def class_logits(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Return the logits (B,) for classes (B,), given the output of the layers before the head."""
        logits: Tensor = self.head(hidden)  # (B, classes)
        if not self.conditional:
            return logits.squeeze(1)
        return logits.gather(1, labels.unsqueeze(1)).squeeze(1)


class EmbeddedMlpDiscriminator(ScoredByClass):
    """The published layer sizes for images of any form, with an output for each class."""

    def __init__(self, sizes: Sizes, slope: float) -> None:
        super().__init__()
        self.conditional = sizes.conditional
        self.layers = nn.Sequential(nn.Flatten())
        for num_in, num_out in pairwise((sizes.channels * sizes.side**2, *HIDDEN_D)):
            self.layers.append(nn.Linear(num_in, num_out))
            self.layers.append(nn.LeakyReLU(slope))
        self.head = nn.Linear(HIDDEN_D[-1], sizes.classes if sizes.conditional else 1)


class MlpDiscriminator(nn.Module):
    """Four linear layers, with a LeakyReLU of `slope` between them.

    Where it is class-conditional, the class is marked in one of ten pixels of the border, which are black in all real
    images: the layers keep their sizes. `forward` has no dropout; the engine applies it in training.
    """

    codes: Tensor

    def __init__(self, slope: float, *, conditional: bool) -> None:
        super().__init__()
        self.conditional = conditional
        self.register_buffer("codes", torch.eye(NUM_CLASSES) * CODE_PIXEL, persistent=False)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise((NUM_PIXELS, *HIDDEN_D, 1)))
        self.slope = slope

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the logits (B,) of images (B, 1, 28, 28) as images of their classes (B,)."""
        hidden = images.flatten(1)  # (B, 784)
        if self.conditional:
            hidden = self.mark_class(hidden.clone(), labels)
        *layers, head = self.layers
        for layer in layers:
            hidden = F.leaky_relu(layer(hidden), self.slope)
        logits: Tensor = head(hidden)
        return logits.squeeze(1)

    def mark_class(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mark the class (B,) of each image (B, 784) in place; return the images."""
        images[:, :NUM_CLASSES] += self.codes.to(images.dtype).index_select(0, labels)
        return images


def dropout_masks(num_images: int, rate: float, rng: torch.Generator, like: Tensor) -> list[Tensor]:
    """Draw the discriminator's dropout masks for a batch, one a hidden layer; at rate 0 return none and draw nothing.

    The rate is rounded to a multiple of 2**-16: one draw of 64 bits then gives four entries, which is ten times as
    fast as bernoulli_.
    """
    if rate == 0:
        return []
    shape = (num_images, sum(HIDDEN_D))
    dropped = round(rate * 2**16)
    draws = torch.empty(shape[0] * shape[1] // 4, dtype=torch.int64, device=like.device)
    bits = draws.random_(-(2**63), None, generator=rng).view(torch.int16).view(shape)
    masks = torch.ge(bits, dropped - 2**15, out=torch.empty(shape, dtype=like.dtype, device=like.device))
    return list(torch.split(masks.mul_(2**16 / (2**16 - dropped)), list(HIDDEN_D), dim=1))
