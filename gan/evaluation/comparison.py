"""Is one generator better than another by more than the measurement noise?"""

from statistics import NormalDist

from torch import Tensor

from gan.evaluation import metrics
from gan.evaluation.classifier import ClassifierOutputs
from gan.evaluation.metrics import Gaussian
from gan.evaluation.results import Comparison, least_share
from gan.seeds import make_rng

ERROR_RATE = 0.01  # one-sided: how often a challenger that is only equally good may be called better
RESAMPLES = 200


def compare(challenger: ClassifierOutputs, champion: ClassifierOutputs, test: Gaussian, judge: str) -> Comparison:
    """Compare one judge's outputs for N samples of each generator, drawn from the same latents.

    `judge` is the SHA-256 of its weights.

    The bootstrap resamples pairs, that is the same indices of both. An effect of a latent on both generators then
    cancels out.
    """
    challenger_features, champion_features = challenger.features, champion.features

    def distance_of(features: Tensor) -> float:
        return metrics.gaussian_distance(Gaussian.of(features), test)

    def difference(indices: Tensor) -> tuple[float, ...]:
        return (distance_of(challenger_features[indices]) - distance_of(champion_features[indices]),)

    [error] = metrics.bootstrap_errors(difference, len(challenger_features), RESAMPLES, make_rng(0, "comparison"))
    challenger_distance, champion_distance = distance_of(challenger_features), distance_of(champion_features)
    return Comparison(
        judge=judge,
        num_samples=len(challenger_features),
        challenger_distance=challenger_distance,
        champion_distance=champion_distance,
        error=error,
        bound=challenger_distance - champion_distance + NormalDist().inv_cdf(1 - ERROR_RATE) * error,
        error_rate=ERROR_RATE,
        challenger_classes=_classes_covered(challenger),
        champion_classes=_classes_covered(champion),
    )


def _classes_covered(outputs: ClassifierOutputs) -> int:
    num_classes = outputs.probabilities.shape[1]
    if not num_classes:  # the images have no labels
        return 0
    return int((metrics.class_shares(outputs.probabilities) > least_share(num_classes)).sum())
