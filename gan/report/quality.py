"""How does a report show the quality of the samples?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from gan.evaluation.results import RANDOM_FEATURES, QuickEvaluation, least_share, named_shares
from gan.html import Templates
from gan.report import svg
from gan.runs.manifest import Best
from gan.runs.run_dir import SnapshotMetrics

TEMPLATES = Templates(Path(__file__).with_name("templates"))
MAX_CLASS_CHARTS = 12
LEAST_TOP = 2.0  # of the axis of the class charts, in equal shares: these reach half of its height
MARGIN = 1.3  # factor of room above and below the distances
BARS_WIDTH, BARS_HEIGHT = 100, 48  # of a class chart, in its own coordinates
MAX_NUMBERED = 10  # classes for whose numbers there is room below their bars


class Evaluated(NamedTuple):
    """An evaluation and its step."""

    step: int
    evaluation: QuickEvaluation


@dataclass(frozen=True)
class MetricCurve:
    """Draw one metric over the steps 1..num_steps, on a linear or a logarithmic axis."""

    steps: Sequence[int]
    values: Sequence[float]
    num_steps: int
    floor: float | None = None
    is_log: bool = False

    @cached_property
    def y_axis(self) -> svg.ValueAxis:
        """Return the axis of the values."""
        shown = [*self.values, self.floor] if self.floor is not None else [*self.values]
        if self.is_log:
            return svg.ValueAxis(max(min(shown), 1e-3) / MARGIN, max(*shown, 2e-3) * MARGIN, is_log=True)
        return svg.ValueAxis(0.0, max(*shown, 0.01) * 1.05)

    @property
    def x_axis(self) -> svg.StepAxis:
        """Return the axis of the steps. It ends behind a single point, so that its dot is not on the border."""
        return svg.StepAxis(max(self.num_steps, 1.1 * self.steps[0] if len(self.steps) == 1 else 0))

    def svg_plot(self, best_step: int | None) -> Markup:
        """Draw the values as a line with a dot for each, a larger dot for the best one, and the floor."""
        points = svg.points(self.x_axis, self.y_axis, self.steps, self.values)
        best = [point for point, step in zip(points, self.steps, strict=True) if step == best_step]
        floor = [] if self.floor is None else [svg.path("floor", self.y_axis.line(self.floor))]
        return svg.plot(
            [
                svg.path("lines", self.y_axis.lines()),
                *floor,
                svg.path("metric", svg.line(points)),
                svg.path("dots", svg.dots(points)),
                svg.path("best dots", svg.dots(best)),
            ]
        )


@dataclass(frozen=True)
class ClassChart:
    """The shares of the classes at one evaluation, as bars in a box BARS_WIDTH wide and BARS_HEIGHT high."""

    step: int
    distance: float
    shares: Sequence[float]
    top: float  # the share at the top of the box
    names: Sequence[str] = ()  # of the classes, where they are not their numbers

    @property
    def description(self) -> str:
        """Return the shares in words, for readers who do not see the bars."""
        return ", ".join(f"{name}: {share:.1%}" for name, share in named_shares(self.shares, self.names))

    @property
    def bar_width(self) -> float:
        """Return the width of a bar and the space beside it."""
        return BARS_WIDTH / len(self.shares)

    @property
    def equal_share(self) -> float:
        """Return the share that each class would have of samples that are equally many."""
        return 1 / len(self.shares)

    @property
    def is_numbered(self) -> bool:
        """Return whether there is room for the numbers of the classes."""
        return len(self.shares) <= MAX_NUMBERED

    def y(self, share: float) -> str:
        """Return the y coordinate of a share."""
        return f"{BARS_HEIGHT * (1 - share / self.top):.1f}"

    def height(self, share: float) -> str:
        """Return the height of a share's bar."""
        return f"{BARS_HEIGHT * share / self.top:.1f}"

    def is_lost(self, share: float) -> bool:
        """Return whether a class with this share counts as lost."""
        return share <= least_share(len(self.shares))


def quality_section(
    metrics: Sequence[SnapshotMetrics], best: Best | None, num_steps: int, names: Sequence[str] = ()
) -> Markup:
    """Return the section on the samples' quality. It is empty if no snapshot was evaluated.

    `names` are those of the classes, by label.
    """
    evaluated = [Evaluated(each.step, each.evaluation) for each in metrics if each.evaluation]
    if not evaluated:
        return Markup()
    steps = [each.step for each in evaluated]
    distances = [each.evaluation.distance for each in evaluated]
    last = evaluated[-1].evaluation
    curves = {"Fréchet distance": MetricCurve(steps, distances, num_steps, floor=last.distance_floor, is_log=True)}
    shares_off = [each.evaluation.histogram_distance for each in evaluated]
    if without_gaps := [value for value in shares_off if value is not None]:  # without labels there are no classes
        curves["Classes, total variation"] = MetricCurve(steps, without_gaps, num_steps)
    return TEMPLATES.fill(
        "quality.html",
        last_step=steps[-1],
        last=last,
        num_classes=len(named_shares(last.class_shares, names)),
        best=best,
        curves=curves,
        charts=_class_charts(evaluated, names),
        judge_note=RANDOM_FEATURES if last.features == "random" else "",
    )


def neighbours_section(png: bytes | None, last_step: int) -> Markup:
    """Return the section that shows neighbours.png. It is empty if there is none."""
    return Markup() if png is None else TEMPLATES.fill("neighbours.html", png=png, last_step=last_step)


def _class_charts(evaluated: Sequence[Evaluated], names: Sequence[str]) -> list[ClassChart]:
    """Return a chart for each evaluation, or for MAX_CLASS_CHARTS of them at even distances; none without labels."""
    evaluated = [each for each in evaluated if each.evaluation.class_shares]
    if not evaluated:
        return []
    indices = np.linspace(0, len(evaluated) - 1, min(len(evaluated), MAX_CLASS_CHARTS)).round().astype(int)
    chosen = [evaluated[index] for index in indices]
    top = max(max(LEAST_TOP / len(each.class_shares), *each.class_shares) for _, each in chosen)
    return [ClassChart(step, found.distance, found.class_shares, top, names) for step, found in chosen]
