"""Do the metrics give the numbers that their definitions give?"""

import pytest
import torch
from torch import Tensor

from gan.evaluation import metrics


def cloud(count: int, mean: float = 0.0, scale: float = 1.0, seed: int = 0) -> Tensor:
    return torch.randn(count, 4, generator=torch.manual_seed(seed), dtype=torch.float64) * scale + mean


def corners(width: float, height: float) -> Tensor:
    """Four points with variances w^2 * 4/3 and h^2 * 4/3, uncorrelated."""
    return torch.tensor([[x, y] for x in (-width, width) for y in (-height, height)], dtype=torch.float64)


def frechet_distance(one: Tensor, other: Tensor) -> float:
    return metrics.gaussian_distance(metrics.Gaussian.of(one), metrics.Gaussian.of(other))


@pytest.mark.parametrize(
    ("other", "distance"),
    [
        (corners(1, 1), 0),
        (corners(1, 1) + 3, 18),  # means 3 apart on both axes
        (corners(2, 1), 4 / 3),  # standard deviations apart by sqrt(4/3) on one axis
        (corners(2, 3) + 1, 2 + (1 + 4) * 4 / 3),
    ],
)
def test_the_distance_of_known_gaussians(other: Tensor, distance: float) -> None:
    assert frechet_distance(corners(1, 1), other) == pytest.approx(distance, abs=1e-9)
    assert frechet_distance(other, corners(1, 1)) == pytest.approx(distance, abs=1e-9)


def test_the_distance_takes_correlation_and_features_that_are_always_zero() -> None:
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    turned, flat = corners(3, 1) @ turn.T, torch.zeros(4, 1, dtype=torch.float64)
    a, b = corners(3, 1).T.cov(), turned.T.cov()
    # The trace of the root of a 2 x 2 matrix in closed form.
    root_trace = (torch.trace(a @ b) + 2 * torch.linalg.det(a @ b).sqrt()).sqrt()
    distance = float(a.trace() + b.trace() - 2 * root_trace)
    assert frechet_distance(torch.cat([corners(3, 1), flat], 1), torch.cat([turned, flat], 1)) == pytest.approx(
        distance, abs=1e-6
    )


@pytest.mark.parametrize(
    ("probabilities", "score"),
    [
        (torch.eye(10), 10),  # every class, each certain
        (torch.full((10, 10), 0.1), 1),  # one blur
        (torch.eye(10)[:5], 5),  # five classes
        (torch.eye(10)[[0, 0, 0]], 1),  # one class
    ],
)
def test_the_score_counts_certain_classes(probabilities: Tensor, score: float) -> None:
    assert metrics.mnist_score(probabilities.double()) == pytest.approx(score)


def test_a_histogram_and_its_distance() -> None:
    shares = metrics.class_shares(torch.eye(4)[[0, 0, 1, 3]])
    assert shares.tolist() == [0.5, 0.25, 0, 0.25]
    assert metrics.total_variation(shares, torch.tensor([0.25, 0.25, 0.25, 0.25])) == 0.25


def test_precision_and_recall_of_equal_far_and_collapsed_clouds() -> None:
    real = cloud(1500).float()
    assert metrics.precision_recall(real, real) == (1, 1)
    assert metrics.precision_recall(real, real + 100) == (0, 0)
    precision, recall = metrics.precision_recall(real, cloud(1500, scale=0.1, seed=1).float())
    assert precision > 0.99 and recall < 0.05


def test_nearest_distances_span_chunks() -> None:
    others = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    points = torch.tensor([[3.0, 4.0], [10.0, 2.0]]).repeat(metrics.CHUNK, 1)
    assert metrics.nearest_distances(points, others).tolist() == [5.0, 2.0] * metrics.CHUNK


def test_the_bootstrap_finds_the_standard_error_of_a_mean() -> None:
    values = cloud(2500, scale=5.0)[:, 0]
    errors = metrics.bootstrap_errors(
        lambda indices: (float(values[indices].mean()), 1.0), len(values), 400, torch.manual_seed(0)
    )
    assert errors == [pytest.approx(5 / 50, rel=0.1), 0]


def test_the_kernel_distance_is_unbiased_and_grows_with_the_difference() -> None:
    rng = torch.Generator().manual_seed(0)
    real = cloud(1000, seed=1)
    same, error = metrics.kernel_distance(real, cloud(1000, seed=2), rng)
    assert abs(same) < 4 * error
    near, far = (metrics.kernel_distance(real, cloud(1000, mean, seed=2), rng)[0] for mean in (0.5, 1.0))
    assert 4 * error < near < far


def test_the_kernel_distance_of_two_points_by_hand() -> None:
    real, fake = torch.tensor([[1.0], [1.0], [1.0], [1.0]]), torch.tensor([[0.0], [0.0], [0.0], [0.0]])
    value, error = metrics.kernel_distance(real.double(), fake.double(), torch.Generator())
    assert (value, error) == (8 + 1 - 2, 0)  # (1 * 1 + 1)^3, (0 * 0 + 1)^3, (1 * 0 + 1)^3
