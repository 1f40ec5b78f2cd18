"""Who competes for the champion's place where no samples need be looked at?"""

import hashlib

import torch

from gan.evaluation.classifier import NUM_CLASSES, NUM_FEATURES, WEIGHTS_SHA256, ClassifierOutputs
from gan.evaluation.comparison import ERROR_RATE, Comparison
from gan.evaluation.evaluator import Evaluation, Metric
from gan.registry.champion import Change
from gan.registry.promotion import Contender, Meet, Meeting

NOTHING_SEEN = ClassifierOutputs(torch.empty(0, NUM_FEATURES), torch.empty(0, NUM_CLASSES))
NOISE = 0.5


def contender(run_id: str, distance: float) -> Contender:
    """Return a run of 2000 steps that was found to be at a distance."""
    return Contender(run_id, 2000, hashlib.sha256(run_id.encode()).hexdigest(), evaluation(distance), NOTHING_SEEN)


def evaluation(distance: float) -> Evaluation:
    """Return what is said of samples at a distance."""
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


def met(challenger: Contender) -> Meet:
    """Return what compares a contender with a champion by the figures that both have."""

    def meet(champion: Change) -> Meeting:
        ours, theirs = challenger.evaluation.distance.value, champion.evaluation.distance.value
        comparison = Comparison(
            judge=WEIGHTS_SHA256, num_samples=10_000, challenger_distance=ours, champion_distance=theirs, error=NOISE,
            bound=ours - theirs + 2 * NOISE, error_rate=ERROR_RATE, challenger_classes=10,
            champion_classes=10,
        )  # fmt: skip
        return Meeting(comparison=comparison, champion=champion.evaluation)

    return meet
