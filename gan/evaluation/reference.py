"""What are samples compared with? With values of a data set's real images, computed once and stored with its judge."""

from pathlib import Path
from typing import NamedTuple, Self

import safetensors.torch
import torch
from torch import Tensor

from gan.evaluation.classifier import ClassifierOutputs
from gan.evaluation.metrics import Gaussian, PrecisionRecall, class_shares

PATH = Path(__file__).with_name("reference.safetensors")  # made by benchmarks/compute_reference.py
SHA256 = "cb9170d68297644f5a09bc06addeab0e43219005527442875f41254e5055388f"


class SetMetrics(NamedTuple):
    """The metrics of a set of images that depend only on the classifier's outputs for them.

    Without classes there is only the distance.
    """

    distance: float  # squared Fréchet distance to the test images; lower is better
    score: float | None = None  # 1 to 10; higher is better
    histogram_distance: float | None = None  # 0 to 1, total variation of the classes' shares; lower is better

    @property
    def measured(self) -> tuple[float, ...]:
        """Return the metrics that there are."""
        return tuple(value for value in self if value is not None)


class Nearest(NamedTuple):
    """The distances of the test images to the nearest training image, in pixels."""

    close: float  # their 1st percentile
    median: float


class Reference(NamedTuple):
    """The values of a data set's real images that samples are compared with.

    Floors are the metrics of N real training images, by N: no generator can be expected to do better.
    """

    features: Gaussian  # of the test images
    class_shares: Tensor  # (num_classes,), of the test images; (0,) without classes
    floors: dict[int, SetMetrics]
    precision_recall_floors: dict[int, PrecisionRecall]
    nearest: Nearest | None  # None: not computed yet

    @classmethod
    def of(cls, test: ClassifierOutputs) -> Self:
        """Return the reference for the outputs of a data set's test images, without floors and `nearest`."""
        shares = class_shares(test.probabilities) if test.has_classes else torch.empty(0)
        return cls(Gaussian.of(test.features), shares, {}, {}, None)

    def encode(self) -> bytes:
        """Return the content of a reference's file; `decode` reads it."""
        tensors = {
            "mean": self.features.mean,
            "covariance": self.features.covariance,
            "class_shares": self.class_shares,
            "floor_counts": torch.tensor([*self.floors]),
            "floors": torch.tensor([each.measured for each in self.floors.values()], dtype=torch.float64),
            "precision_recall_counts": torch.tensor([*self.precision_recall_floors]),
            "precision_recall_floors": torch.tensor([*self.precision_recall_floors.values()], dtype=torch.float64),
            "nearest": torch.tensor(self.nearest or (), dtype=torch.float64),
        }
        return safetensors.torch.save(tensors)


def decode(content: bytes) -> Reference:
    """Return the reference that `Reference.encode` has encoded."""
    tensors = safetensors.torch.load(content)
    floors = zip(tensors["floor_counts"].tolist(), tensors["floors"].tolist(), strict=True)
    precision_recall_floors = zip(
        tensors["precision_recall_counts"].tolist(), tensors["precision_recall_floors"].tolist(), strict=True
    )
    return Reference(
        Gaussian(tensors["mean"], tensors["covariance"]),
        tensors["class_shares"],
        {count: SetMetrics(*values) for count, values in floors},
        {count: PrecisionRecall(*values) for count, values in precision_recall_floors},
        Nearest(*nearest) if (nearest := tensors["nearest"].tolist()) else None,
    )
