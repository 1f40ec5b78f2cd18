"""How far apart are two sets of images, by a classifier's outputs for them?

Pure functions of tensors.
"""

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor

CHUNK = 100  # rows of a distance matrix at a time: with 10,000 columns of float32 these are 4 MB
NUM_OTHERS = 1000  # images at a time, as its columns: 3 MB of float32

KERNEL_BLOCK = 250  # images in a block of the kernel distance
NEIGHBOURS = 3  # of a point, for precision and recall


class Gaussian(NamedTuple):
    """A normal distribution fitted to a set of features, as the Fréchet distance needs it."""

    mean: Tensor  # (D,)
    covariance: Tensor  # (D, D)

    @classmethod
    def of(cls, features: Tensor) -> Self:
        """Fit features (N, D), float64."""
        return cls(features.mean(0), features.T.cov())


class PrecisionRecall(NamedTuple):
    """How much two sets of features overlap."""

    precision: float  # share of the generated images that lie among the real ones
    recall: float  # share of the real images that lie among the generated ones


def gaussian_distance(one: Gaussian, other: Gaussian) -> float:
    """Return the squared Fréchet distance between two Gaussians."""
    difference = one.mean - other.mean
    values, vectors = torch.linalg.eigh(one.covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # The trace of (A B)^(1/2) is that of (A^(1/2) B A^(1/2))^(1/2), which is symmetric. Rounding may make an eigenvalue
    # slightly negative.
    overlap = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp(min=0).sqrt().sum()
    return float(difference @ difference + one.covariance.trace() + other.covariance.trace() - 2 * overlap)


def kernel_distance(real: Tensor, fake: Tensor, rng: torch.Generator) -> tuple[float, float]:
    """Return the squared kernel distance (KID) of features (N, D) and (M, D), and its standard error by blocks.

    It is unbiased for any number of images, unlike the Fréchet distance (Binkowski et al. 2018). The kernel is
    (x y / D + 1)^3. Both sets are shuffled and cut into blocks; the distance is the mean over them.
    """
    count = min(len(real), len(fake))
    num_blocks = max(count // KERNEL_BLOCK, 2)
    of_real, of_fake = (
        torch.tensor_split(each[torch.randperm(len(each), generator=rng)[:count]], num_blocks) for each in (real, fake)
    )
    found = torch.tensor([_block_distance(*blocks) for blocks in zip(of_real, of_fake, strict=True)])
    return float(found.mean()), float(found.std() / num_blocks**0.5)


def _block_distance(real: Tensor, fake: Tensor) -> float:
    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return (one @ other.T / one.shape[1] + 1) ** 3

    def mean_of_pairs(points: Tensor) -> Tensor:  # of different points
        values = kernel(points, points)
        return (values.sum() - values.trace()) / (len(points) * (len(points) - 1))

    return float(mean_of_pairs(real) + mean_of_pairs(fake) - 2 * kernel(real, fake).mean())


def mnist_score(probabilities: Tensor) -> float:
    """Return the Inception score of class probabilities (N, C): from 1 (all alike) to C (all classes, each certain)."""
    mean = probabilities.mean(0)
    divergence = (torch.xlogy(probabilities, probabilities) - torch.xlogy(probabilities, mean)).sum(1)
    return float(divergence.mean().exp())


def class_shares(probabilities: Tensor) -> Tensor:
    """Return the share (C,) of each class among N images, each counted for its most probable class."""
    return probabilities.argmax(1).bincount(minlength=probabilities.shape[1]) / len(probabilities)


def total_variation(shares: Tensor, others: Tensor) -> float:
    """Return the total variation of two histograms (C,): 0 if they are equal, 1 if they do not overlap."""
    return float((shares - others).abs().sum() / 2)


def precision_recall(real: Tensor, fake: Tensor, neighbours: int = NEIGHBOURS) -> PrecisionRecall:
    """Return precision and recall of features (N, D) of real images and (M, D) of fakes (Kynkaanniemi et al. 2019).

    Each member of a set has a radius: its distance to its k-th nearest neighbour in the set. A point lies among the
    set if it is within the radius of at least one member.
    """
    real_radii, fake_radii = _radii(real, neighbours), _radii(fake, neighbours)
    real_inside = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    fake_inside = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    of_fakes = (torch.split(each, CHUNK) for each in (fake, fake_radii, fake_inside))
    for part, radii, inside in zip(*of_fakes, strict=True):
        distances = squared_distances(part, real)  # (CHUNK, N)
        torch.any(distances <= real_radii, 1, out=inside)
        real_inside |= (distances <= radii[:, None]).any(0)
    return PrecisionRecall(float(fake_inside.double().mean()), float(real_inside.double().mean()))


def nearest_distances(images: Tensor, others: Tensor) -> Tensor:
    """Return the distance (N,) of each of images (N, D) to the nearest of others (M, D). The others may be uint8."""
    nearest = images.new_full((len(images),), torch.inf)
    for part in torch.split(others, NUM_OTHERS):
        nearest = nearest.minimum(squared_distances(images, part.to(images.dtype)).amin(1))
    return nearest.sqrt()


def squared_distances(points: Tensor, others: Tensor) -> Tensor:
    """Return the squared distances (N, M) of points (N, D) to others (M, D), by one matrix product."""
    distances = torch.addmm(others.square().sum(1), points, others.T, alpha=-2)
    return distances.add_(points.square().sum(1, keepdim=True)).clamp_(min=0)


def bootstrap_errors(
    statistics: Callable[[Tensor], tuple[float, ...]], count: int, resamples: int, random: torch.Generator
) -> list[float]:
    """Return the standard error of each statistic of a sample with `count` members, by bootstrap.

    Args:
        statistics: computes the statistics from the indices (count,) of the members drawn, with replacement.
    """
    drawn = [torch.randint(count, (count,), generator=random) for _ in range(resamples)]
    return torch.tensor([statistics(indices) for indices in drawn]).std(0).tolist()


def _radii(points: Tensor, neighbours: int) -> Tensor:
    """Return each point's squared distance to its k-th nearest neighbour in its own set. Its 0th is itself."""
    radii = points.new_empty(len(points))  # allocated first, as in classify()
    for part, of_part in zip(torch.split(points, CHUNK), torch.split(radii, CHUNK), strict=True):
        nearest = squared_distances(part, points).topk(neighbours + 1, largest=False).values
        of_part.copy_(nearest[:, -1])
    return radii
