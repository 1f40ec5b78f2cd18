"""How good are a generator's samples, beside real images?"""

from functools import cached_property
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from gan.data.download import Mnist
from gan.errors import DataError
from gan.evaluation import metrics
from gan.evaluation.classifier import WEIGHTS_SHA256, ClassifierOutputs, classify, load_classifier
from gan.evaluation.reference import Reference, is_mnist, load_reference
from gan.seeds import make_rng

NUM_SAMPLES = 10_000
NUM_QUICK = 2_000
NUM_MEMORISED = 2_000  # samples, and test images, looked up among all training images
RESAMPLES = 50
COVERED_SHARE = 0.01  # a class with fewer of the samples counts as lost
CLOSE_SHARE = 0.01  # a sample nearer to a training image than this share of the test images is called close
KNOWN_ACCURACY = 0.9


class Metric(BaseModel):
    """One number: its standard error by bootstrap, and the same number for real training images."""

    model_config = ConfigDict(frozen=True)

    value: float
    error: float
    floor: float


class Evaluation(BaseModel):
    """What `gan evaluate` says of a generator; every number is against MNIST's test images."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    judge: str  # SHA-256 of its weights: numbers of two judges are never to be compared
    num_samples: int
    distance: Metric  # squared Fréchet distance of features; lower is better
    score: Metric  # 1 to 10; higher is better
    precision: Metric  # share of samples that look real
    recall: Metric  # share of test images that the samples could have been
    histogram_distance: Metric  # total variation of the classes' shares
    memorised: Metric  # share of samples nearer to a training image than 99 % of the test images are
    neighbour_ratio: Metric  # median distance to the nearest training image, over that of test images
    classes_covered: int  # of 10, those with over 1 % of the samples
    class_shares: list[float]

    def __str__(self) -> str:
        rows = [f"{'':20}{'samples':>9}  {'+-':>6}  {'real images':>11}"]
        for name in type(self).model_fields:
            if isinstance(metric := getattr(self, name), Metric):
                label = name.replace("_", " ")
                rows.append(f"{label:20}{metric.value:9.3f}  {metric.error:6.3f}  {metric.floor:11.3f}")
        shares = "  ".join(f"{digit}: {share:.1%}" for digit, share in enumerate(self.class_shares))
        return "\n".join([*rows, f"classes covered: {self.classes_covered} of 10", shares])


class QuickEvaluation(BaseModel):
    """What is measured while training goes on; its distance is higher than Evaluation's, being of fewer samples."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    judge: str
    num_samples: int
    distance: float
    distance_floor: float
    histogram_distance: float
    classes_covered: int
    class_shares: list[float]


class Evaluator:
    """Measure samples against a data set; what is not known of its real images is computed once, when needed."""

    def __init__(self, data: Mnist, device: str = "cpu") -> None:
        """Take the reference that is frozen with the judge for MNIST; look at the test images of another set.

        Raises:
            DataError: the judge does not know these images: they are not MNIST's digits.
        """
        self.device = device
        self.classifier = load_classifier(device)
        self.train_images, self.test_images = _tensor(data.train_images), _tensor(data.test_images)
        self._seen: dict[int, ClassifierOutputs] = {}
        if is_mnist(data):
            self.reference = load_reference()
            return
        self.reference = Reference.of(self.test)
        accuracy = np.mean(self.test.probabilities.argmax(1).numpy() == data.test_labels)
        if accuracy < KNOWN_ACCURACY:
            raise DataError(
                f"the judge knows MNIST's digits, and names {accuracy:.1%} of these test images rightly: "
                "samples of this data set cannot be evaluated"
            )

    @cached_property
    def test(self) -> ClassifierOutputs:
        """What the judge sees in the test images."""
        return classify(self.classifier, self.test_images)

    def quick(self, images: Tensor) -> QuickEvaluation:
        """Measure samples (N, 1, 28, 28) uint8 by distance and histogram alone."""
        seen = classify(self.classifier, images)
        distance, _, histogram_distance = self._cheap(seen)
        shares = metrics.class_shares(seen.probabilities)
        return QuickEvaluation(
            judge=WEIGHTS_SHA256,
            num_samples=len(images),
            distance=distance,
            distance_floor=self.floor(len(images))[0],
            histogram_distance=histogram_distance,
            classes_covered=int((shares > COVERED_SHARE).sum()),
            class_shares=shares.tolist(),
        )

    def full(self, images: Tensor, seen: ClassifierOutputs | None = None) -> Evaluation:
        """Measure samples (N, 1, 28, 28) uint8 in every way; `seen` is what the judge sees in them, where known."""
        seen = seen or classify(self.classifier, images)
        shares = metrics.class_shares(seen.probabilities)
        cheap = [
            Metric(value=value, error=error, floor=of_real)
            for value, error, of_real in zip(
                self._cheap(seen), self._cheap_errors(seen), self.floor(len(images)), strict=True
            )
        ]
        precision, recall = self._precision_recall_metrics(seen)
        memorised, neighbour_ratio = self._memorisation(images)
        return Evaluation(
            judge=WEIGHTS_SHA256,
            num_samples=len(images),
            distance=cheap[0],
            score=cheap[1],
            histogram_distance=cheap[2],
            precision=precision,
            recall=recall,
            memorised=memorised,
            neighbour_ratio=neighbour_ratio,
            classes_covered=int((shares > COVERED_SHARE).sum()),
            class_shares=shares.tolist(),
        )

    def floor(self, count: int) -> tuple[float, ...]:
        """Return distance, score and histogram distance of as many training images.

        Below that distance no samples can be told from real ones.
        """
        if count not in self.reference.floors:
            self.reference.floors[count] = self._cheap(self._training(count))
        return self.reference.floors[count]

    def precision_recall_floor(self, count: int) -> tuple[float, ...]:
        """Return precision and recall of as many training images."""
        if count not in self.reference.precision_recall_floors:
            self.reference.precision_recall_floors[count] = self._precision_recall(self._training(count))
        return self.reference.precision_recall_floors[count]

    @cached_property
    def nearest(self) -> tuple[float, ...]:
        """Test images' distances to the nearest training image, in pixels: what 1 % of them, and a half, are below."""
        if self.reference.nearest:
            return self.reference.nearest
        found = self._nearest(self.test_images)
        return float(found.quantile(CLOSE_SHARE)), float(found.median())

    def _cheap(self, seen: ClassifierOutputs) -> tuple[float, float, float]:
        """Return distance, score, histogram distance."""
        return (
            metrics.gaussian_distance(metrics.Gaussian.of(seen.features), self.reference.features),
            metrics.mnist_score(seen.probabilities),
            metrics.total_variation(metrics.class_shares(seen.probabilities), self.reference.class_shares),
        )

    def _cheap_errors(self, seen: ClassifierOutputs) -> list[float]:
        def statistics(indices: Tensor) -> tuple[float, ...]:
            return self._cheap(ClassifierOutputs(seen.features[indices], seen.probabilities[indices]))

        return metrics.bootstrap_errors(statistics, len(seen.features), RESAMPLES, make_rng(0, "bootstrap"))

    def _precision_recall_metrics(self, seen: ClassifierOutputs) -> tuple[Metric, Metric]:
        count = len(seen.features)
        found, floors = self._precision_recall(seen), self.precision_recall_floor(count)
        precision, recall = (
            Metric(value=value, error=(value * (1 - value) / of) ** 0.5, floor=floor)
            for value, floor, of in zip(found, floors, (count, len(self.test_images)), strict=True)
        )
        return precision, recall

    def _precision_recall(self, seen: ClassifierOutputs) -> tuple[float, float]:
        """Return precision, recall."""
        real, found = (each.features.float().to(self.device) for each in (self.test, seen))
        return metrics.precision_recall(real, found)

    def _memorisation(self, images: Tensor) -> tuple[Metric, Metric]:
        """Compare distances, in pixels, to the nearest training image; the floor is that of unseen test images."""
        found, (close, middle) = self._nearest(images), self.nearest

        def statistics(indices: Tensor) -> tuple[float, ...]:
            return float((found[indices] < close).float().mean()), float(found[indices].median() / middle)

        values = statistics(torch.arange(len(found)))
        errors = metrics.bootstrap_errors(statistics, len(found), RESAMPLES, make_rng(0, "bootstrap"))
        floors = (CLOSE_SHARE, 1.0)
        memorised, ratio = (
            Metric(value=value, error=error, floor=floor)
            for value, error, floor in zip(values, errors, floors, strict=True)
        )
        return memorised, ratio

    def _nearest(self, images: Tensor) -> Tensor:
        """Return the distances (NUM_MEMORISED,) of the first images to the nearest training image, in pixels."""
        train, some = (each.to(self.device).flatten(1) for each in (self.train_images, images[:NUM_MEMORISED]))
        return metrics.nearest_distances(some.float(), train).cpu()

    def _training(self, count: int) -> ClassifierOutputs:
        """Say what the judge sees in as many training images."""
        if count not in self._seen:
            chosen = torch.randperm(len(self.train_images), generator=make_rng(0, "floor"))[:count]
            self._seen[count] = classify(self.classifier, self.train_images[chosen])
        return self._seen[count]


def _tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).unsqueeze(1)  # (N, 1, 28, 28)
