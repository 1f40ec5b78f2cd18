"""How is the judge of a data set made and frozen?

With labels it is a classifier by the recipe of MNIST's judge: 10 epochs of AdamW on images that are rotated, scaled and
translated a little. Without labels it is a fixed random network, and nothing is trained. Floors, the figures of real
training images, are frozen with either, so that they need not be computed again.
"""

import logging
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from gan.data.dataset import Dataset
from gan.errors import DataError
from gan.evaluation.classifier import NUM_FEATURES, Classifier, FeatureNetwork, classify
from gan.evaluation.evaluator import NUM_QUICK, NUM_SAMPLES, Evaluator
from gan.evaluation.judge import CARD, REFERENCE_NAME, WEIGHTS_NAME, Judge, JudgeCard, load_judge
from gan.evaluation.random_features import random_features
from gan.evaluation.reference import Reference
from gan.files import atomic_write, make_folder, sha256_bytes
from gan.images import from_uint8, with_channels
from gan.seeds import derive_seed, make_rng

SEED = 0
EPOCHS = 10
BATCH_SIZE = 100
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
DROPOUT = 0.3
# Bounds of the augmentation. It draws each value uniformly between minus the bound and the bound.
ROTATION = math.radians(10)
SCALING = 0.1
TRANSLATION_PIXELS = 2.0
# MNIST's weights were made with these names. Other names give other seeds, and so other weights.
WEIGHTS_PURPOSE, AUGMENTATION_PURPOSE = "judge weights", "judge augmentation"
# A judge counts classes by its own answers. If a fifth of them is wrong, a class that is lost may seem to be there, and
# a share may be off by as much. Fashion-MNIST, whose classes are hard to tell apart, has 0.93.
LEAST_ACCURACY = 0.8
LEAST_TEST_IMAGES = 1_000  # 128 features need some times as many images for their covariance
LEAST_OF_A_CLASS = 10  # test images
# Without labels: twice the features, or a covariance has hardly more images than numbers. benchmarks/judge_ordering.py
# shows on 379 test images that distances still order.
LEAST_UNLABELLED = 2 * NUM_FEATURES

log = logging.getLogger(__name__)


def train_judge(data: Dataset, folder: Path, num_epochs: int = EPOCHS) -> JudgeCard:
    """Make the judge of a data set and write it into a new folder. Return its card.

    Raises:
        DataError: there are too few images, or the classifier knows too few of them; nothing is written.
        StorageError: the disk is full or refuses the write.
    """
    if not data.classes:
        _check_unlabelled(data)
        return _freeze(random_features(with_channels(data.train_images)), data, None, folder)
    _check_test_images(data)
    images, test_images = with_channels(data.train_images), with_channels(data.test_images)
    num_classes = len(data.class_counts)
    labels = torch.from_numpy(data.train_labels).long()
    classifier = new_classifier(images, num_classes)

    def report(epoch: int, seconds: float) -> None:
        log.info("epoch %d of %d: %.2f %% of the test images are classified correctly, %.0f s",
                 epoch, num_epochs, 100 * accuracy(classifier, test_images, data.test_labels), seconds)  # fmt: skip

    train(classifier, images, labels, num_epochs, report)
    found = accuracy(classifier, test_images, data.test_labels)
    if found < LEAST_ACCURACY:
        raise DataError(
            f"the classifier knows {found:.1%} of the test images, and a judge must know {LEAST_ACCURACY:.0%}: its "
            "class shares would be off by the rest. Look at the labels of the data set, or give it more images."
        )
    return _freeze(classifier, data, found, folder)


def new_classifier(images: Tensor, num_classes: int) -> Classifier:
    """Return a classifier of images (N, C, side, side), with the weights of its seed."""
    torch.manual_seed(derive_seed(SEED, WEIGHTS_PURPOSE))
    classifier = Classifier(images.shape[-1], images.shape[1], num_classes)
    return classifier.to(memory_format=torch.channels_last)  # a quarter faster on a CPU


def train(
    classifier: Classifier, images: Tensor, labels: Tensor, num_epochs: int, report: Callable[[int, float], None]
) -> None:
    """Train a classifier on images (N, C, side, side) uint8 and labels (N,) int64.

    After each epoch `report` gets its number, from 1, and its seconds.
    """
    optimizer = torch.optim.AdamW(classifier.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = num_epochs * math.ceil(len(images) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    rng = make_rng(SEED, AUGMENTATION_PURPOSE)
    for epoch in range(1, num_epochs + 1):
        began = time.perf_counter()
        classifier.train()
        for chosen in torch.split(torch.randperm(len(images), generator=rng), BATCH_SIZE):
            features = classifier.features(augment(from_uint8(images[chosen]), rng))
            loss = F.cross_entropy(classifier.to_logits(F.dropout(features, DROPOUT)), labels[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        classifier.eval()
        report(epoch, time.perf_counter() - began)


def augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Rotate, scale and translate each image (B, C, side, side) a little. New pixels are black."""
    angle, scale, right, down = (torch.rand(4, len(images), generator=rng) * 2 - 1).unbind()
    angle, scale = angle * ROTATION, 1 + scale * SCALING
    cos, sin = angle.cos() * scale, angle.sin() * scale
    largest = 2 * TRANSLATION_PIXELS / images.shape[-1]  # translation, in units of half an image
    matrices = torch.stack([cos, -sin, right * largest, sin, cos, down * largest], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    changed = F.grid_sample(images + 1, grid, align_corners=False) - 1
    return changed.contiguous(memory_format=torch.channels_last)


def accuracy(classifier: Classifier, images: Tensor, labels: np.ndarray) -> float:
    """Return the share of images (N, C, side, side) uint8 that a classifier in eval mode classifies correctly."""
    found = classify(classifier, images).probabilities.argmax(1).numpy()
    return float(np.mean(found == labels))


def _check_test_images(data: Dataset) -> None:
    """Raise DataError where too few test images would make figures that are mostly noise."""
    counts = np.bincount(data.test_labels, minlength=len(data.class_counts))
    least = int(counts[data.class_counts > 0].min())
    if len(data.test_labels) < LEAST_TEST_IMAGES or least < LEAST_OF_A_CLASS:
        raise DataError(
            f"the data set has {len(data.test_labels):,} test images, and {least} of its rarest class. A judge needs "
            f"{LEAST_TEST_IMAGES:,}, and {LEAST_OF_A_CLASS} of each class: import it with a larger --test-share."
        )


def _check_unlabelled(data: Dataset) -> None:
    """Raise DataError where the training or the test images are too few for a covariance."""
    least = min(len(data.train_images), len(data.test_images))
    if least < LEAST_UNLABELLED:
        raise DataError(
            f"the data set has {len(data.train_images):,} training and {len(data.test_images):,} test images. Without "
            f"labels, a judge needs {LEAST_UNLABELLED} of each: import it with another --test-share, or more images."
        )


def _freeze(classifier: FeatureNetwork, data: Dataset, found: float | None, folder: Path) -> JudgeCard:
    """Compute the floors, and write weights, reference and card into a folder, all of them or none.

    Args:
        found: the accuracy of a classifier; None for a network without classes.
    """
    weights = safetensors.torch.save({name: each.contiguous() for name, each in classifier.state_dict().items()})
    sha256 = sha256_bytes(weights)
    images = with_channels(data.test_images)
    reference = Reference.of(classify(classifier, images))
    judge = Judge(sha256, classifier, reference)
    evaluator = Evaluator(data, judge=judge)
    counts = sorted({min(count, len(data.train_images)) for count in (NUM_QUICK, NUM_SAMPLES)})
    for count in counts:
        evaluator.floor(count)
    evaluator.precision_recall_floor(counts[-1])
    content = reference._replace(nearest=evaluator.nearest).encode()
    card = JudgeCard(
        data=data.sha256,
        features=judge.features,
        side=images.shape[-1],
        channels=images.shape[1],
        num_classes=data.shape.num_classes,
        num_train=len(data.train_images),
        num_test=len(images),
        accuracy=found,
        floor_counts=counts,
        weights_sha256=sha256,
        reference_sha256=sha256_bytes(content),
        torch=torch.__version__,
    )
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".judge-") as temporary:
        files = {WEIGHTS_NAME: weights, REFERENCE_NAME: content, CARD: card.model_dump_json(indent=2).encode()}
        for name, data_of_file in files.items():
            atomic_write(Path(temporary, "judge", name), data_of_file)
        load_judge(Path(temporary, "judge"))
        shutil.rmtree(folder, ignore_errors=True)
        Path(temporary, "judge").rename(folder)
    return card
