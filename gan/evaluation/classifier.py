"""Which frozen network classifies the digits, and which features does it give?"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan.errors import ChecksumError
from gan.images import from_uint8

WEIGHTS = Path(__file__).with_name("classifier.safetensors")  # made by benchmarks/train_classifier.py
WEIGHTS_SHA256 = "4c057df609c72c3a7420d583d7c7f13416c2d079b5529e37379b7e3ca54497f5"
NUM_CLASSES = 10
NUM_FEATURES = 128
# Images a pass: 10 MB a layer. Larger passes save no time. Above 32 MB glibc maps each block anew, which takes twice
# the time.
CHUNK = 100


class Classifier(nn.Module):
    """Classify digits: four convolutions, then 128 features, then the logits of the ten classes."""

    def __init__(self) -> None:
        super().__init__()

        def block(num_in: int, num_out: int) -> list[nn.Module]:
            convolution = nn.Conv2d(num_in, num_out, 3, padding=1, bias=False)
            return [convolution, nn.BatchNorm2d(num_out), nn.ReLU(inplace=True)]

        self.convolutions = nn.Sequential(
            *block(1, 32),
            nn.MaxPool2d(2),  # (B, 32, 14, 14)
            *block(32, 48),
            *block(48, 64),
            nn.MaxPool2d(2),  # (B, 64, 7, 7)
            *block(64, 96),
            nn.MaxPool2d(2),  # (B, 96, 3, 3)
            nn.Flatten(),
        )
        self.to_features = nn.Linear(96 * 3 * 3, NUM_FEATURES)
        self.to_logits = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def features(self, images: Tensor) -> Tensor:
        """Return features (B, 128), all >= 0, of images (B, 1, 28, 28) in [-1, 1]."""
        return F.relu(self.to_features(self.convolutions(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 10) of images (B, 1, 28, 28) in [-1, 1]."""
        logits: Tensor = self.to_logits(self.features(images))
        return logits


class ClassifierOutputs(NamedTuple):
    """What the classifier returns for N images, on the CPU in float64."""

    features: Tensor  # (N, 128)
    probabilities: Tensor  # (N, 10)


def load_classifier(device: torch.device | str = "cpu") -> Classifier:
    """Return the frozen classifier in eval mode.

    Raises:
        ChecksumError: the weights file in the package is not the one that this version was made with.
    """
    data = WEIGHTS.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != WEIGHTS_SHA256:
        raise ChecksumError(f"{WEIGHTS}: SHA-256 is {found}, expected {WEIGHTS_SHA256}; install gan-train again")
    with torch.device("meta"):  # draws no weights, so the caller's random state does not change
        classifier = Classifier()
    classifier.load_state_dict(safetensors.torch.load(data), assign=True)
    return classifier.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)


@torch.no_grad()
def classify(classifier: Classifier, images: Tensor) -> ClassifierOutputs:
    """Return the features and class probabilities of images (N, 1, 28, 28) uint8."""
    device = classifier.to_logits.weight.device
    # The result is allocated first. Small tensors allocated between large blocks would keep the allocator from using
    # these blocks again.
    features = torch.empty(len(images), NUM_FEATURES, device=device)
    for part, out in zip(torch.split(images, CHUNK), torch.split(features, CHUNK), strict=True):
        out.copy_(classifier.features(from_uint8(part.to(device))))
    probabilities = classifier.to_logits(features).double().softmax(1)
    return ClassifierOutputs(features.double().cpu(), probabilities.cpu())
