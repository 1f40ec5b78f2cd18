"""How does a test get a challenger with given figures, without measuring samples?"""

import hashlib

import torch

from gan.evaluation.classifier import NUM_CLASSES, NUM_FEATURES, ClassifierOutputs
from gan.evaluation.comparison import ERROR_RATE
from gan.evaluation.judge import WEIGHTS_SHA256
from gan.evaluation.results import Comparison, Evaluation, Metric
from gan.registry.champion import Change
from gan.registry.promotion import Challenger, ChampionComparison, Compare

NOTHING_SEEN = ClassifierOutputs(torch.empty(0, NUM_FEATURES), torch.empty(0, NUM_CLASSES))
NOISE = 0.5


def challenger_at(run_id: str, distance: float) -> Challenger:
    """Return a run of 2000 steps that was found to be at a distance."""
    return Challenger(run_id, 2000, hashlib.sha256(run_id.encode()).hexdigest(), evaluation(distance), NOTHING_SEEN)


def evaluation(distance: float) -> Evaluation:
    """Return an evaluation of samples at a distance."""
    metric = Metric(value=0.9, error=0.01, floor=0.95)
    names = ("score", "precision", "recall", "histogram_distance", "memorised", "neighbour_ratio")
    return Evaluation(
        judge=WEIGHTS_SHA256,
        num_samples=10_000,
        distance=Metric(value=distance, error=NOISE, floor=1.4),
        classes_covered=10,
        class_shares=[0.1] * 10,
        **dict.fromkeys(names, metric),
    )


def by_figures(run: Challenger) -> Compare:
    """Return a function that compares a challenger with a champion by the figures that both have."""

    def compare_with(champion: Change) -> ChampionComparison:
        ours, theirs = run.evaluation.distance.value, champion.evaluation.distance.value
        comparison = Comparison(
            judge=WEIGHTS_SHA256, num_samples=10_000, challenger_distance=ours, champion_distance=theirs, error=NOISE,
            bound=ours - theirs + 2 * NOISE, error_rate=ERROR_RATE, challenger_classes=10,
            champion_classes=10,
        )  # fmt: skip
        return ChampionComparison(comparison=comparison, champion=champion.evaluation)

    return compare_with
