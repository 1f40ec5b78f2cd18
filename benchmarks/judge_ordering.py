"""Does the distance of a set's judge grow with each kind of degradation? Make the judge first: `gan judge train`.

Training images are degraded in four ways, each in five levels, for several seeds. Spearman's rank correlation between
level and distance must reach 0.9 for each kind and seed. As a control the same network is permuted: its outputs for the
images of the five levels are pooled and dealt out again at random, so that an image has the features of another one. A
correlation that comes from the way of measuring would stay. Permuting the weights is no control here: it makes one
random network of another.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gan.evaluation import metrics
from gan.evaluation.classifier import classify
from gan.evaluation.evaluator import NUM_QUICK, Evaluator
from gan.seeds import make_rng
from gan.sets.loading import load_set

DEVIATIONS = (8, 16, 32, 48, 64)  # of normal noise on each pixel, 0..255
SIGMAS = (0.4, 0.6, 0.8, 1.1, 1.5)  # of a Gaussian blur, in pixels
DROPPED = (2, 5, 9, 13, 17)  # of NUM_CLUSTERS clusters, in an order that the seed decides
COPIES = (2, 4, 8, 16, 32)  # of each image, so that the distinct ones become fewer
LEVELS: dict[str, Sequence[float]] = {
    "noise": DEVIATIONS, "blur": SIGMAS, "dropped modes": DROPPED, "copies": COPIES,
}  # fmt: skip
NUM_CLUSTERS = 20
NUM_POOL = 10_000  # training images that are clustered, at most
CLUSTER_SIDE = 8  # images are averaged to it before they are clustered
ROUNDS = 20  # of k-means
DEMAND = 0.9
NUM_DEALS = 10  # of the control: one order in 24 has a correlation of 0.9 by chance


class Ordering(NamedTuple):
    """How one seed's five levels of a degradation were ordered."""

    distances: list[float]
    correlation: float  # of the Fréchet distance
    kernel_correlation: float
    control_correlation: float  # of the Fréchet distance by the permuted network, mean of NUM_DEALS
    floor: float  # distance of as many training images as they are


def degraded(kind: str, images: Tensor, count: int, seed: int) -> list[Tensor]:
    """Return five sets of training images (N, C, side, side) uint8, of `count` images or fewer, ever more degraded."""
    rng = make_rng(seed, f"degradation by {kind}")
    pool = images[torch.randperm(len(images), generator=rng)[:NUM_POOL]]
    if kind == "dropped modes":
        return _without_modes(pool, count, rng)
    chosen = pool[:count]
    if kind == "noise":
        noise = torch.randn(chosen.shape, generator=rng)
        return [_pixels(chosen + deviation * noise) for deviation in DEVIATIONS]
    if kind == "blur":
        return [_blurred(chosen, sigma) for sigma in SIGMAS]
    return [chosen[: len(chosen) // copies].repeat(copies, 1, 1, 1) for copies in COPIES]


def _without_modes(pool: Tensor, count: int, rng: torch.Generator) -> list[Tensor]:
    """Drop ever more clusters. Each level has as many images as the last one, and none of them twice.

    A pool of fewer than about 1,500 images leaves fewer images than features: then noise decides.
    """
    clusters = _clusters(pool, rng)
    order = torch.randperm(NUM_CLUSTERS, generator=rng)
    kept = [torch.isin(clusters, order[dropped:]).nonzero().flatten() for dropped in DROPPED]
    count = min(count, *map(len, kept))
    return [pool[each[torch.randperm(len(each), generator=rng)[:count]]] for each in kept]


def _clusters(images: Tensor, rng: torch.Generator) -> Tensor:
    """Return the cluster (N,) of each image, by k-means of their pixels."""
    points = F.adaptive_avg_pool2d(images.float(), CLUSTER_SIDE).flatten(1)
    centres = points[torch.randperm(len(points), generator=rng)[:NUM_CLUSTERS]]
    for _ in range(ROUNDS):
        nearest = torch.cdist(points, centres).argmin(1)
        members = F.one_hot(nearest, NUM_CLUSTERS).T.float()  # (K, N)
        sizes = members.sum(1, keepdim=True)
        centres = torch.where(sizes > 0, members @ points / sizes.clamp(min=1), centres)
    return nearest


def _blurred(images: Tensor, sigma: float) -> Tensor:
    channels, reach = images.shape[1], 5  # 3 of the largest sigma
    weights = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * sigma**2))
    row = (weights / weights.sum()).view(1, 1, 1, -1).repeat(channels, 1, 1, 1)
    padded = F.pad(images.float(), (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, row, groups=channels)
    return _pixels(F.conv2d(across, row.transpose(2, 3), groups=channels))


def _pixels(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


def measure(evaluator: Evaluator, kind: str, count: int, seed: int) -> Ordering:
    """Measure the five levels of one kind and seed, and those of the permuted network."""
    levels = degraded(kind, evaluator.train_images, count, seed)
    features = [classify(evaluator.classifier, images).features for images in levels]
    distances = [_distance(evaluator, each) for each in features]
    real = evaluator.test.features
    kernel = [metrics.kernel_distance(real, each, make_rng(0, "kernel"))[0] for each in features]
    return Ordering(
        distances,
        correlation=rank_correlation(distances),
        kernel_correlation=rank_correlation(kernel),
        control_correlation=_control_correlation(evaluator, features, make_rng(seed, f"permuted network, {kind}")),
        floor=evaluator.floor(len(levels[0])).distance,
    )


def _control_correlation(evaluator: Evaluator, features: list[Tensor], rng: torch.Generator) -> float:
    """Return the mean rank correlation of the permuted network, which deals the features (N, 128) out at random."""
    pooled, size = torch.cat(features), len(features[0])
    correlations = []
    for _ in range(NUM_DEALS):
        dealt = torch.split(pooled[torch.randperm(len(pooled), generator=rng)], size)
        correlations.append(rank_correlation([_distance(evaluator, each) for each in dealt]))
    return mean(correlations)


def _distance(evaluator: Evaluator, features: Tensor) -> float:
    return metrics.gaussian_distance(metrics.Gaussian.of(features), evaluator.reference.features)


def rank_correlation(values: Sequence[float]) -> float:
    """Return Spearman's rank correlation of different values with their places."""
    count = len(values)
    ranks = torch.tensor(values, dtype=torch.float64).argsort().argsort()
    squares = int((ranks - torch.arange(count)).square().sum())
    return 1 - 6 * squares / (count * (count**2 - 1))


def row(kind: str, found: Sequence[Ordering]) -> str:
    """Return a row of the table: means over the seeds, and the least correlations."""
    levels = ", ".join(f"{level:g}" for level in LEVELS[kind])
    distances = ", ".join(f"{mean(each):.2f}" for each in zip(*(each.distances for each in found), strict=True))
    least = min(each.correlation for each in found)
    kernel = min(each.kernel_correlation for each in found)
    control = [each.control_correlation for each in found]
    floor = mean(each.floor for each in found)
    return (
        f"| {kind}: {levels} | {floor:.2f} | {distances} | {least:.2f} | {kernel:.2f} "
        f"| {mean(control):.2f} ({min(control):.2f} to {max(control):.2f}) |"
    )


def is_ordered(found: Sequence[Ordering]) -> bool:
    """Return whether the judge orders one kind of degradation with each seed."""
    return all(each.correlation >= DEMAND for each in found)


def is_control_ordered(found: Sequence[Ordering]) -> bool:
    """Return whether the permuted network does so, even on average: then the measurement itself orders."""
    return mean(each.control_correlation for each in found) >= DEMAND


def main() -> int:
    """Print a row for each kind. The exit code is 1 unless the judge orders all of them and the control none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="An imported set that has a judge.")
    parser.add_argument("--sets-dir", type=Path, default=Path("data/sets"))
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)  # the number of threads changes bits
    evaluator = Evaluator(load_set(args.sets_dir, args.data))
    print("| degradation | real images | distance at the 5 levels | least correlation | of KID | control |")  # noqa: T201
    print("|---|---|---|---|---|---|")  # noqa: T201
    is_shown = True
    for kind in LEVELS:
        found = [measure(evaluator, kind, NUM_QUICK, seed) for seed in range(args.seeds)]
        print(row(kind, found), flush=True)  # noqa: T201
        is_shown &= is_ordered(found) and not is_control_ordered(found)
    return 0 if is_shown else 1


if __name__ == "__main__":
    raise SystemExit(main())
