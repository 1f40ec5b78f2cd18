"""Which network classifies the images of a data set, and which features does it give?"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.images import from_uint8

NUM_CLASSES = 10  # of MNIST
NUM_FEATURES = 128
MAX_SIDE = 32
# Images a pass: 10 MB a layer. Larger passes save no time. Above 32 MB glibc maps each block anew, which takes twice
# the time.
CHUNK = 100


class FeatureNetwork(nn.Module, ABC):
    """A network that judges images by features; gan.evaluation.random_features has the one without classes."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Return features (B, 128) of images (B, C, side, side) in [-1, 1]."""

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Return logits (B, num_classes) of features (B, 128)."""


class Classifier(FeatureNetwork):
    """Classify images: four convolutions, then 128 features, then the logits of the classes.

    Images of more than 32x32 are first averaged to 32x32.
    """

    def __init__(self, side: int = 28, channels: int = 1, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()

        def block(num_in: int, num_out: int) -> list[nn.Module]:
            convolution = nn.Conv2d(num_in, num_out, 3, padding=1, bias=False)
            return [convolution, nn.BatchNorm2d(num_out), nn.ReLU(inplace=True)]

        self.shrink = side // MAX_SIDE if side > MAX_SIDE else 1
        last_side = side // self.shrink // 8  # after three poolings
        self.convolutions = nn.Sequential(
            *block(channels, 32),
            nn.MaxPool2d(2),  # (B, 32, 14, 14) of 28x28
            *block(32, 48),
            *block(48, 64),
            nn.MaxPool2d(2),  # (B, 64, 7, 7)
            *block(64, 96),
            nn.MaxPool2d(2),  # (B, 96, 3, 3)
            nn.Flatten(),
        )
        self.to_features = nn.Linear(96 * last_side**2, NUM_FEATURES)
        self.to_logits = nn.Linear(NUM_FEATURES, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Return features (B, 128), all >= 0, of images (B, C, side, side) in [-1, 1]."""
        if self.shrink > 1:
            images = F.avg_pool2d(images, self.shrink)
        return F.relu(self.to_features(self.convolutions(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes) of images (B, C, side, side) in [-1, 1]."""
        return self.logits(self.features(images))

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (B, num_classes) of features (B, 128)."""
        logits: Tensor = self.to_logits(features)
        return logits


class ClassifierOutputs(NamedTuple):
    """What a network returns for N images, on the CPU in float64."""

    features: Tensor  # (N, 128)
    probabilities: Tensor  # (N, num_classes); (N, 0) of a network that knows no classes

    @property
    def has_classes(self) -> bool:
        """Return whether the network knows classes."""
        return self.probabilities.shape[1] > 0


def chunk_for(side: int) -> int:
    """Return how many images of this side make a pass: fewer large ones, so that a layer takes as much memory."""
    return max(1, min(CHUNK, CHUNK * MAX_SIDE**2 // side**2))


@torch.no_grad()
def classify(classifier: FeatureNetwork, images: Tensor) -> ClassifierOutputs:
    """Return the features and class probabilities of images (N, C, side, side) uint8."""
    device = next(classifier.parameters()).device
    # The result is allocated first. Small tensors allocated between large blocks would keep the allocator from using
    # these blocks again.
    features = torch.empty(len(images), NUM_FEATURES, device=device)
    chunk = chunk_for(images.shape[-1])
    for part, out in zip(torch.split(images, chunk), torch.split(features, chunk), strict=True):
        out.copy_(classifier.features(from_uint8(part.to(device))))
    probabilities = classifier.logits(features).double().softmax(1)
    return ClassifierOutputs(features.double().cpu(), probabilities.cpu())
