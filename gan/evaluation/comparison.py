"""Is one generator better than another by more than the measurement noise?"""

from statistics import NormalDist
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from gan.evaluation import metrics
from gan.evaluation.classifier import WEIGHTS_SHA256, ClassifierOutputs
from gan.evaluation.evaluator import COVERED_SHARE
from gan.evaluation.metrics import Gaussian
from gan.seeds import make_rng

ERROR_RATE = 0.01  # one-sided: how often a challenger that is only equally good may be called better
RESAMPLES = 200


class Comparison(BaseModel):
    """A challenger compared with a champion, by the same classifier and on samples of the same latents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    judge: str = Field(description="SHA-256 of its weights.")
    num_samples: int
    challenger_distance: float = Field(description="Squared Fréchet distance to the test images; lower is better.")
    champion_distance: float
    error: float = Field(description="Standard error of the difference of the distances, by paired bootstrap.")
    bound: float = Field(description="Challenger's distance minus champion's, plus a noise margin; below 0 is better.")
    error_rate: float = Field(description="How often an equally good challenger has a bound below 0.")
    challenger_classes: int = Field(description="Number of digits with over 1 % of the samples.")
    champion_classes: int

    @property
    def is_better(self) -> bool:
        """Return whether the challenger is closer by more than the noise and covers at least as many classes."""
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
    """Compare the classifier's outputs for N samples of each generator, drawn from the same latents.

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
        judge=WEIGHTS_SHA256,
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
    return int((metrics.class_shares(outputs.probabilities) > COVERED_SHARE).sum())
