"""What does the judge see in MNIST's test images? Frozen with it, so that a training need not look at them again."""

import hashlib
from pathlib import Path
from typing import NamedTuple, Self

import safetensors.torch
import torch
from torch import Tensor

from gan.errors import ChecksumError
from gan.judge import Seen
from gan.metrics import Gaussian, class_shares
from gan.mnist import FILES, Mnist

PATH = Path(__file__).with_name("judge_reference.safetensors")  # made by benchmarks/freeze_reference.py
SHA256 = "e6272f2b550f8b1a507e630f09338416bc74174149baa33b441f471162c57c79"


class Reference(NamedTuple):
    """What samples are measured against: the test images of a data set, as the judge sees them."""

    features: Gaussian
    class_shares: Tensor  # (10,)
    floors: dict[int, float]  # distance of so many training images, where it is known

    @classmethod
    def of(cls, seen: Seen) -> Self:
        """Reduce what the judge sees in test images; no floor is known yet."""
        return cls(Gaussian.of(seen.features), class_shares(seen.probabilities), {})

    def encode(self) -> bytes:
        """Return the content of the file at PATH."""
        tensors = {
            "mean": self.features.mean,
            "covariance": self.features.covariance,
            "class_shares": self.class_shares,
            "floor_counts": torch.tensor(list(self.floors)),
            "floor_distances": torch.tensor(list(self.floors.values()), dtype=torch.float64),
        }
        return safetensors.torch.save(tensors)


def is_mnist(data: Mnist) -> bool:
    """Tell whether each of the four files is MNIST's own."""
    return all(data.sha256.get(file.name) == file.sha256 for file in FILES)


def load_reference() -> Reference:
    """Return MNIST's.

    Raises:
        ChecksumError: the file in the package is not the one that this version is made for.
    """
    data = PATH.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise ChecksumError(f"{PATH}: SHA-256 is {found}, expected {SHA256}; install gan-train anew")
    tensors = safetensors.torch.load(data)
    floors = zip(tensors["floor_counts"].tolist(), tensors["floor_distances"].tolist(), strict=True)
    return Reference(Gaussian(tensors["mean"], tensors["covariance"]), tensors["class_shares"], dict(floors))
