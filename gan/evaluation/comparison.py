"""Is one generator better than another by more than the noise?"""

from statistics import NormalDist
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from gan.evaluation import metrics
from gan.evaluation.classifier import WEIGHTS_SHA256, ClassifierOutputs
from gan.evaluation.evaluator import COVERED_SHARE
from gan.evaluation.metrics import Gaussian
from gan.seeds import make_rng

ERROR_RATE = 0.01  # one-sided: how often a challenger that is only as good may be called better
RESAMPLES = 200


class Comparison(BaseModel):
    """Hold a challenger against a champion: distances by the same judge, of as many samples from the same latents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    judge: str = Field(description="SHA-256 of its weights.")
    num_samples: int
    challenger_distance: float = Field(description="Squared Fréchet distance to the test images; lower is better.")
    champion_distance: float
    error: float = Field(description="Standard error of the difference of the distances, by paired bootstrap.")
    bound: float = Field(description="The difference, challenger less champion, and its noise: below 0 is better.")
    error_rate: float = Field(description="How often a challenger that is only as good has a bound below 0.")
    challenger_classes: int = Field(description="Digits that have over 1 % of its samples.")
    champion_classes: int

    @property
    def is_better(self) -> bool:
        """Tell whether the challenger is closer by more than the noise, and covers as many classes."""
        return self.bound < 0 and self.challenger_classes >= self.champion_classes

    def __str__(self) -> str:
        difference = f"{self.challenger_distance - self.champion_distance:+.2f} ± {self.error:.2f}"
        verdict = "better by more than the noise" if self.bound < 0 else "not better by more than the noise"
        classes = f"; classes covered {self.challenger_classes} against {self.champion_classes}"
        return (
            f"distance {self.challenger_distance:.2f} against {self.champion_distance:.2f}, {difference}: "
            f"{verdict} at an error rate of {self.error_rate:.0%}{classes}"
        )


def compare(challenger: ClassifierOutputs, champion: ClassifierOutputs, test: Gaussian) -> Comparison:
    """Compare what the judge sees in N samples of each, from the same latents, by the features of the test images.

    Resampled are pairs: the same indices of both, so that what one latent does to both cancels out.
    """
    ours, theirs = challenger.features, champion.features

    def distance_of(features: Tensor) -> float:
        return metrics.gaussian_distance(Gaussian.of(features), test)

    def difference(indices: Tensor) -> tuple[float, ...]:
        return (distance_of(ours[indices]) - distance_of(theirs[indices]),)

    [error] = metrics.bootstrap_errors(difference, len(ours), RESAMPLES, make_rng(0, "comparison"))
    distance, their_distance = distance_of(ours), distance_of(theirs)
    return Comparison(
        judge=WEIGHTS_SHA256,
        num_samples=len(ours),
        challenger_distance=distance,
        champion_distance=their_distance,
        error=error,
        bound=distance - their_distance + NormalDist().inv_cdf(1 - ERROR_RATE) * error,
        error_rate=ERROR_RATE,
        challenger_classes=_classes_covered(challenger),
        champion_classes=_classes_covered(champion),
    )


def _classes_covered(seen: ClassifierOutputs) -> int:
    return int((metrics.class_shares(seen.probabilities) > COVERED_SHARE).sum())
