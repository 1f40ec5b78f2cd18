"""What does an evaluation of one run, or a comparison of two, find?

This module imports no torch, so that commands which only read results start quickly.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

COVERED_SHARE = 0.01  # a class with a smaller share of the samples counts as lost, where there are ten or fewer

# Where the features of a judge come from. Without labels it is a random network, and there are no classes.
FeaturesKind = Literal["classifier", "random"]
RANDOM_FEATURES = "features of a fixed random network, no labels: distances compare runs on this set only"

# Which values of a metric are better.
BETTER = {
    "distance": "lower",
    "kernel_distance": "lower",
    "score": "higher",
    "precision": "higher",
    "recall": "higher",
    "histogram_distance": "lower",
    "memorised": "lower",
    "neighbour_ratio": "near 1",
    "classes_covered": "higher",
}


def least_share(num_classes: int) -> float:
    """Return the share of the samples up to which a class counts as lost: a tenth of an equal share, at most 1 %."""
    return min(COVERED_SHARE, 0.1 / num_classes)


def optional_field(default: Any = None, description: str | None = None) -> Any:
    """Return a field that is written only where it is not the default."""
    return Field(default, description=description, exclude_if=lambda value: value == default)


class Metric(BaseModel):
    """One metric of the samples."""

    model_config = ConfigDict(frozen=True)

    value: float
    error: float  # standard error of `value`, by bootstrap
    floor: float  # the same metric of real training images


class Evaluation(BaseModel):
    """The result of `gan evaluate`. Every metric compares samples with the test images.

    Without labels there are no classes, and the fields about them are left out.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    judge: str  # SHA-256 of the classifier's weights: metrics of different classifiers are not comparable
    features: FeaturesKind = optional_field("classifier")
    num_samples: int
    distance: Metric  # squared Fréchet distance of features; lower is better
    # Squared kernel distance (KID), lower is better: where the test images are too few for the one above.
    kernel_distance: Metric | None = optional_field()
    score: Metric | None = optional_field()  # 1 to 10; higher is better
    precision: Metric  # share of the samples that lie among the test images
    recall: Metric  # share of the test images that lie among the samples
    histogram_distance: Metric | None = optional_field()  # total variation of the classes' shares
    memorised: Metric  # share of samples that are closer to a training image than 99 % of the test images are
    neighbour_ratio: Metric  # median distance to the nearest training image, divided by that of the test images
    classes_covered: int | None = optional_field()  # those with over 1 % of the samples
    class_shares: list[float] = optional_field([])

    def __str__(self) -> str:
        return self.table()

    def table(self, names: Sequence[str] = ()) -> str:
        """Return the figures as lines of text. `names` are those of the classes, where they are not their numbers."""
        rows = [f"{'':20}{'samples':>9}  {'+-':>6}  {'real images':>11}"]
        for name in type(self).model_fields:
            if isinstance(metric := getattr(self, name), Metric):
                label = name.replace("_", " ")
                rows.append(f"{label:20}{metric.value:9.3f}  {metric.error:6.3f}  {metric.floor:11.3f}")
        if not self.class_shares:
            return "\n".join([*rows, RANDOM_FEATURES])
        known = named_shares(self.class_shares, names)
        shares = "  ".join(f"{name}: {share:.1%}" for name, share in known)
        return "\n".join([*rows, f"classes covered: {self.classes_covered} of {len(known)}", shares])


def named_shares(shares: Sequence[float], names: Sequence[str]) -> list[tuple[str, float]]:
    """Return each class's share with its name, by label; one without a name is named by its number.

    Where classes have names, there may be shares of numbers that are no class: they are left out.
    """
    known = names or [str(number) for number in range(len(shares))]
    return list(zip(known, shares, strict=False))


class QuickEvaluation(BaseModel):
    """The evaluation during training. Its distance is higher than Evaluation's, because it has fewer samples."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    judge: str
    features: FeaturesKind = optional_field("classifier")
    num_samples: int
    distance: float
    distance_floor: float
    histogram_distance: float | None = optional_field()
    classes_covered: int | None = optional_field()
    class_shares: list[float] = optional_field([])


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
    challenger_classes: int = Field(description="Number of classes with over 1 % of the samples; 0 without labels.")
    champion_classes: int

    @property
    def is_better(self) -> bool:
        """Return whether the challenger is closer by more than the noise and covers at least as many classes."""
        return self.bound < 0 and self.challenger_classes >= self.champion_classes

    def __str__(self) -> str:
        difference = f"{self.challenger_distance - self.champion_distance:+.2f} ± {self.error:.2f}"
        verdict = "better by more than the noise" if self.bound < 0 else "not better by more than the noise"
        classes = f"; classes covered {self.challenger_classes} against {self.champion_classes}"
        if not (self.challenger_classes or self.champion_classes):  # the images have no labels
            classes = ""
        return (
            f"distance {self.challenger_distance:.2f} against {self.champion_distance:.2f}, {difference}: "
            f"{verdict} at an error rate of {self.error_rate:.0%}{classes}"
        )
