"""What are samples of MNIST measured against? Frozen with the judge, so that nobody need look at real images again."""

import hashlib
from pathlib import Path
from typing import NamedTuple, Self

import safetensors.torch
import torch
from torch import Tensor

from gan.data.download import FILES, Mnist
from gan.errors import ChecksumError
from gan.evaluation.classifier import ClassifierOutputs
from gan.evaluation.metrics import Gaussian, class_shares

PATH = Path(__file__).with_name("reference.safetensors")  # made by benchmarks/freeze_reference.py
SHA256 = "cb9170d68297644f5a09bc06addeab0e43219005527442875f41254e5055388f"


class Reference(NamedTuple):
    """What samples are measured against: the test images of a data set, as the judge sees them.

    And what real images are measured as, where it is known: a count of training images leads to their figures.
    """

    features: Gaussian
    class_shares: Tensor  # (10,)
    floors: dict[int, tuple[float, ...]]  # distance, score, histogram distance
    precision_recall_floors: dict[int, tuple[float, ...]]  # precision, recall
    nearest: tuple[float, ...] | None  # test images' distances to the nearest training image: 1st percentile, median

    @classmethod
    def of(cls, seen: ClassifierOutputs) -> Self:
        """Reduce what the judge sees in test images; what real images are measured as is not known yet."""
        return cls(Gaussian.of(seen.features), class_shares(seen.probabilities), {}, {}, None)

    def encode(self) -> bytes:
        """Return the content of the file at PATH."""
        tensors = {
            "mean": self.features.mean,
            "covariance": self.features.covariance,
            "class_shares": self.class_shares,
            "floor_counts": torch.tensor([*self.floors]),
            "floors": torch.tensor([*self.floors.values()], dtype=torch.float64),
            "precision_recall_counts": torch.tensor([*self.precision_recall_floors]),
            "precision_recall_floors": torch.tensor([*self.precision_recall_floors.values()], dtype=torch.float64),
            "nearest": torch.tensor(self.nearest or (), dtype=torch.float64),
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

    def floors(counts: str, figures: str) -> dict[int, tuple[float, ...]]:
        return dict(zip(tensors[counts].tolist(), map(tuple, tensors[figures].tolist()), strict=True))

    return Reference(
        Gaussian(tensors["mean"], tensors["covariance"]),
        tensors["class_shares"],
        floors("floor_counts", "floors"),
        floors("precision_recall_counts", "precision_recall_floors"),
        tuple(tensors["nearest"].tolist()),
    )
