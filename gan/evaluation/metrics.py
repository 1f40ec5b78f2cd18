"""How far are two sets of images apart, told from what a judge sees in them? Pure functions of tensors."""

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor

CHUNK = 100  # rows of a distance matrix at a time: 10,000 columns of float32 are 4 MB
NUM_OTHERS = 1000  # its columns, where they are images: 3 MB of float32


class Gaussian(NamedTuple):
    """What the Fréchet distance knows of a set of features."""

    mean: Tensor  # (D,)
    covariance: Tensor  # (D, D)

    @classmethod
    def of(cls, features: Tensor) -> Self:
        """Fit features (N, D), float64."""
        return cls(features.mean(0), features.T.cov())


def gaussian_distance(one: Gaussian, other: Gaussian) -> float:
    """Return the squared Fréchet distance between two Gaussians."""
    difference = one.mean - other.mean
    values, vectors = torch.linalg.eigh(one.covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # The trace of (A B)^(1/2), by way of a matrix that is symmetric; rounding may make an eigenvalue negative.
    overlap = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp(min=0).sqrt().sum()
    return float(difference @ difference + one.covariance.trace() + other.covariance.trace() - 2 * overlap)


def mnist_score(probabilities: Tensor) -> float:
    """Return the Inception score of class probabilities (N, C): 1 (one blur) to C (all classes, each certain)."""
    mean = probabilities.mean(0)
    divergence = (torch.xlogy(probabilities, probabilities) - torch.xlogy(probabilities, mean)).sum(1)
    return float(divergence.mean().exp())


def class_shares(probabilities: Tensor) -> Tensor:
    """Return the share (C,) of N images whose likeliest class is each class."""
    return probabilities.argmax(1).bincount(minlength=probabilities.shape[1]) / len(probabilities)


def total_variation(shares: Tensor, others: Tensor) -> float:
    """Return half the summed difference of two histograms (C,): 0 equal, 1 nothing in common."""
    return float((shares - others).abs().sum() / 2)


def precision_recall(real: Tensor, fake: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Return the share of fakes among the real and of reals among the fakes, features (N, D) and (M, D).

    A point is among a set when it lies within the distance of one of its members to that member's k-th neighbour
    (Kynkaanniemi et al. 2019).
    """
    real_radii, fake_radii = _radii(real, neighbours), _radii(fake, neighbours)
    real_inside = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    fake_inside = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    of_fakes = (torch.split(each, CHUNK) for each in (fake, fake_radii, fake_inside))
    for part, radii, inside in zip(*of_fakes, strict=True):
        distances = squared_distances(part, real)  # (CHUNK, N)
        torch.any(distances <= real_radii, 1, out=inside)
        real_inside |= (distances <= radii[:, None]).any(0)
    return float(fake_inside.double().mean()), float(real_inside.double().mean())


def nearest_distances(images: Tensor, others: Tensor) -> Tensor:
    """Return the distance (N,) of each of images (N, D) to the nearest of others (M, D), which may be of uint8."""
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
    """Return the standard error of each statistic of a sample, from resamples of its `count` members.

    Args:
        statistics: computes them from the indices (count,) of the members drawn, with replacement.
    """
    drawn = [torch.randint(count, (count,), generator=random) for _ in range(resamples)]
    return torch.tensor([statistics(indices) for indices in drawn]).std(0).tolist()


def _radii(points: Tensor, neighbours: int) -> Tensor:
    """Return each point's squared distance to its k-th neighbour in its own set; itself is its zeroth."""
    radii = points.new_empty(len(points))  # first: see judge.look
    for part, of_part in zip(torch.split(points, CHUNK), torch.split(radii, CHUNK), strict=True):
        nearest = squared_distances(part, points).topk(neighbours + 1, largest=False).values
        of_part.copy_(nearest[:, -1])
    return radii
