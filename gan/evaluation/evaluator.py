"""How good are a generator's samples, compared with real images?"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gan.config import MNIST_SHAPE
from gan.data.dataset import Dataset
from gan.errors import DataError
from gan.evaluation import metrics
from gan.evaluation.classifier import Classifier, ClassifierOutputs, classify
from gan.evaluation.judge import Judge, judge_of, load_classifier, mnist_judge
from gan.evaluation.metrics import PrecisionRecall
from gan.evaluation.reference import Nearest, Reference, SetMetrics
from gan.evaluation.results import Evaluation, Metric, QuickEvaluation, least_share
from gan.images import with_channels
from gan.seeds import make_rng

NUM_SAMPLES = 10_000
NUM_QUICK = 2_000
NUM_MEMORISED = 2_000  # samples, and test images, that are searched for among all training images
MANY_IMAGES = 5_000  # with fewer test images, the Fréchet distance is mostly their own noise
RESAMPLES = 50
CLOSE_SHARE = 0.01  # a sample counts as memorised if it is closer to a training image than 99 % of the test images
MIN_IMAGES = metrics.NEIGHBOURS + 1  # fewer test images have no covariance or no such neighbours
KNOWN_ACCURACY = 0.9  # of the classifier on the images of a data set that it knows
NUM_CHECKED = 1_000  # training images, at even distances


class Evaluator:
    """Measure samples of a generator against a data set. Missing reference values are computed once, when needed."""

    def __init__(self, data: Dataset, device: str = "cpu", judge: Judge | None = None) -> None:
        """Take a judge, or the one beside the data set, or MNIST's, and compute the reference of data that it knows.

        Raises:
            DataError: MNIST's judge does not know these images, because they are not digits; or the test images are too
                few.
        """
        self.device = device
        judge = judge or judge_of(data, device)
        self.judge = judge or mnist_judge(device)
        self.classifier = self.judge.classifier
        self.train_images, self.test_images = with_channels(data.train_images), with_channels(data.test_images)
        self._training_outputs: dict[int, ClassifierOutputs] = {}
        self.reference = self.judge.reference
        if judge or data.is_mnist:
            return
        if data.shape != MNIST_SHAPE:
            raise DataError(
                "samples of this data set cannot be evaluated: it has no judge yet, and MNIST's knows only digits. "
                "`gan judge train` makes one."
            )
        if len(self.test_images) < MIN_IMAGES:
            raise DataError(
                f"samples of this data set cannot be evaluated: it needs {MIN_IMAGES} test images or more, and "
                f"has {len(self.test_images)}"
            )
        self.reference = Reference.of(self.test)
        accuracy = np.mean(self.test.probabilities.argmax(1).numpy() == data.test_labels)
        if accuracy < KNOWN_ACCURACY:
            raise DataError(
                "samples of this data set cannot be evaluated: the judge knows only MNIST's digits, and classifies "
                f"{accuracy:.1%} of these test images correctly"
            )

    @cached_property
    def test(self) -> ClassifierOutputs:
        """The classifier's outputs for the test images."""
        return classify(self.classifier, self.test_images)

    def evaluate_quick(self, images: Tensor) -> QuickEvaluation:
        """Measure only the distance and the class histogram of samples (N, C, side, side) uint8."""
        outputs = classify(self.classifier, images)
        measured = self._set_metrics(outputs)
        shares = class_shares(outputs)
        return QuickEvaluation(
            judge=self.judge.sha256,
            features=self.judge.features,
            num_samples=len(images),
            distance=measured.distance,
            distance_floor=self.floor(len(images)).distance,
            histogram_distance=measured.histogram_distance,
            classes_covered=num_covered(shares),
            class_shares=shares,
        )

    def evaluate(self, images: Tensor, outputs: ClassifierOutputs | None = None) -> Evaluation:
        """Measure every metric of samples (N, C, side, side) uint8.

        Args:
            outputs: the classifier's outputs for `images`, if the caller has them.
        """
        outputs = outputs or classify(self.classifier, images)
        found = self._set_metric_triples(outputs)
        precision, recall = self._precision_recall_metrics(outputs)
        memorised, neighbour_ratio = self._memorisation(images)
        shares = class_shares(outputs)
        return Evaluation(
            judge=self.judge.sha256,
            features=self.judge.features,
            num_samples=len(images),
            distance=found["distance"],
            kernel_distance=self._kernel_metric(outputs),
            score=found.get("score"),
            histogram_distance=found.get("histogram_distance"),
            precision=precision,
            recall=recall,
            memorised=memorised,
            neighbour_ratio=neighbour_ratio,
            classes_covered=num_covered(shares),
            class_shares=shares,
        )

    def _kernel_metric(self, outputs: ClassifierOutputs) -> Metric | None:
        """Return the kernel distance, where the test images are few; its floor is that of real training images."""
        if len(self.test_images) >= MANY_IMAGES:
            return None
        real, floor = self.test.features, self._classify_training(len(outputs.features)).features
        value, error = metrics.kernel_distance(real, outputs.features, make_rng(0, "kernel"))
        return Metric(value=value, error=error, floor=metrics.kernel_distance(real, floor, make_rng(0, "kernel"))[0])

    def floor(self, count: int) -> SetMetrics:
        """Return the metrics of `count` training images, or of all: no generator can be expected to do better."""
        floors = self.reference.floors
        if count not in floors:
            count = min(count, len(self.train_images))
        if count not in floors:
            floors[count] = self._set_metrics(self._classify_training(count))
        return floors[count]

    def precision_recall_floor(self, count: int) -> PrecisionRecall:
        """Return precision and recall of `count` training images, or of all."""
        floors = self.reference.precision_recall_floors
        if count not in floors:
            count = min(count, len(self.train_images))
        if count not in floors:
            floors[count] = self._precision_recall(self._classify_training(count))
        return floors[count]

    @cached_property
    def nearest(self) -> Nearest:
        """The test images' distances to the nearest training image."""
        if self.reference.nearest:
            return self.reference.nearest
        distances = self._nearest_distances(self.test_images)
        return Nearest(float(distances.quantile(CLOSE_SHARE)), float(distances.median()))

    def _set_metric_triples(self, outputs: ClassifierOutputs) -> dict[str, Metric]:
        """Return each of the set metrics that there are, with its error and its floor."""
        found = (self._set_metrics(outputs), self._set_errors(outputs), self.floor(len(outputs.features)))
        triples = zip(*(each.measured for each in found), strict=True)
        return {
            name: Metric(value=value, error=error, floor=floor)
            for name, (value, error, floor) in zip(SetMetrics._fields, triples, strict=False)
        }

    def _set_metrics(self, outputs: ClassifierOutputs) -> SetMetrics:
        distance = metrics.gaussian_distance(metrics.Gaussian.of(outputs.features), self.reference.features)
        if not outputs.has_classes:
            return SetMetrics(distance)
        return SetMetrics(
            distance,
            metrics.mnist_score(outputs.probabilities),
            metrics.total_variation(metrics.class_shares(outputs.probabilities), self.reference.class_shares),
        )

    def _set_errors(self, outputs: ClassifierOutputs) -> SetMetrics:
        """Return the standard error of each of the set metrics."""

        def statistics(indices: Tensor) -> tuple[float, ...]:
            chosen = ClassifierOutputs(outputs.features[indices], outputs.probabilities[indices])
            return self._set_metrics(chosen).measured

        rng = make_rng(0, "bootstrap")
        return SetMetrics(*metrics.bootstrap_errors(statistics, len(outputs.features), RESAMPLES, rng))

    def _precision_recall_metrics(self, outputs: ClassifierOutputs) -> tuple[Metric, Metric]:
        count = len(outputs.features)
        found, floor = self._precision_recall(outputs), self.precision_recall_floor(count)
        # Each is the share of `count` samples or of the test images: its error is that of a binomial share.
        return (
            Metric(value=found.precision, error=_share_error(found.precision, count), floor=floor.precision),
            Metric(value=found.recall, error=_share_error(found.recall, len(self.test_images)), floor=floor.recall),
        )

    def _precision_recall(self, outputs: ClassifierOutputs) -> PrecisionRecall:
        real, fake = (each.features.float().to(self.device) for each in (self.test, outputs))
        return metrics.precision_recall(real, fake)

    def _memorisation(self, images: Tensor) -> tuple[Metric, Metric]:
        """Compare the samples' distances to the nearest training image, in pixels, with those of the test images."""
        distances, nearest = self._nearest_distances(images), self.nearest

        def statistics(indices: Tensor) -> tuple[float, ...]:
            chosen = distances[indices]
            return float((chosen < nearest.close).float().mean()), float(chosen.median() / nearest.median)

        memorised, ratio = statistics(torch.arange(len(distances)))
        rng = make_rng(0, "bootstrap")
        memorised_error, ratio_error = metrics.bootstrap_errors(statistics, len(distances), RESAMPLES, rng)
        return (
            Metric(value=memorised, error=memorised_error, floor=CLOSE_SHARE),
            Metric(value=ratio, error=ratio_error, floor=1.0),
        )

    def _nearest_distances(self, images: Tensor) -> Tensor:
        """Return the distances (NUM_MEMORISED,) of the first images to the nearest training image, in pixels."""
        train, first = (each.to(self.device).flatten(1) for each in (self.train_images, images[:NUM_MEMORISED]))
        return metrics.nearest_distances(first.float(), train).cpu()

    def _classify_training(self, count: int) -> ClassifierOutputs:
        """Return the classifier's outputs for `count` training images, chosen at random."""
        if count not in self._training_outputs:
            chosen = torch.randperm(len(self.train_images), generator=make_rng(0, "floor"))[:count]
            self._training_outputs[count] = classify(self.classifier, self.train_images[chosen])
        return self._training_outputs[count]


def class_shares(outputs: ClassifierOutputs) -> list[float]:
    """Return the share of each class among N images; an empty list where the network knows no classes."""
    shares: list[float] = metrics.class_shares(outputs.probabilities).tolist() if outputs.has_classes else []
    return shares


def num_covered(shares: list[float]) -> int | None:
    """Return how many classes have more than a trace of the images; None where there are no classes."""
    return sum(share > least_share(len(shares)) for share in shares) if shares else None


def known_classifier(data: Dataset, device: str) -> Classifier | None:
    """Return the classifier of a data set's judge, or MNIST's if it knows the classes. Raises ChecksumError.

    A judge without classes has none.
    """
    if judge := judge_of(data, device):
        return judge.classifier if isinstance(judge.classifier, Classifier) else None
    if data.shape != MNIST_SHAPE:
        return None
    classifier = load_classifier(device)
    chosen = slice(None, None, len(data.train_images) // NUM_CHECKED + 1)
    accuracy = 1.0 if data.is_mnist else _accuracy(classifier, data.train_images[chosen], data.train_labels[chosen])
    return classifier if accuracy >= KNOWN_ACCURACY else None


def _accuracy(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> float:
    found = classify(classifier, with_channels(images)).probabilities.argmax(1).numpy()
    return float(np.mean(found == labels))


def _share_error(share: float, count: int) -> float:
    """Return the standard error of a share of `count` members."""
    return float((share * (1 - share) / count) ** 0.5)
