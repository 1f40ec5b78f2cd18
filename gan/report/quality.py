"""What does a report show of the samples' quality: the metrics by step, the classes, the nearest training images?"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape

import numpy as np

from gan.evaluation.evaluator import COVERED_SHARE, QuickEvaluation
from gan.report.curves import UNITS, ticks
from gan.runs.best import Best
from gan.runs.run_dir import SnapshotMetrics

MAX_CLASS_CHARTS = 12
LEAST_TOP_SHARE = 0.2  # of the class charts' axis: even classes reach half of its height
MARGIN = 1.3  # room above and below the distances, a factor
MANY_TICKS = 6


@dataclass(frozen=True)
class MetricCurve:
    """Draw one metric over the steps 1..num_steps, by itself or by its logarithm, as gan.report.curves draws losses."""

    steps: Sequence[int]
    values: Sequence[float]
    num_steps: int
    floor: float | None = None
    is_log: bool = False

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Return the values at the plot's bottom and top."""
        shown = [*self.values, self.floor] if self.floor is not None else [*self.values]
        if self.is_log:
            return max(min(shown), 1e-3) / MARGIN, max(*shown, 2e-3) * MARGIN
        return 0.0, max(*shown, 0.01) * 1.05

    def svg_plot(self, best_step: int | None) -> str:
        """Draw the line, a dot for each value, a larger one for the best, the floor, and the grid lines."""
        points = [f"{self._x(step)},{self._y(value)}" for step, value in zip(self.steps, self.values, strict=True)]
        best = [point for point, step in zip(points, self.steps, strict=True) if step == best_step]
        grid = "".join(f"M0,{self._y(value)}h{UNITS}" for value in self._ticks())
        floor = "" if self.floor is None else f'<path class="floor" d="M0,{self._y(self.floor)}h{UNITS}"/>'
        return (
            f'<svg class="curves" viewBox="0 0 {UNITS} {UNITS}" preserveAspectRatio="none" aria-hidden="true">'
            f'<path class="lines" d="{grid}"/>{floor}<path class="metric" d="M{"L".join(points)}"/>'
            f'<path class="dots" d="{_dots(points)}"/><path class="best dots" d="{_dots(best)}"/></svg>'
        )

    def svg_y_labels(self) -> str:
        """Write the values beside the plot, at the same heights as its lines."""
        labels = "".join(
            f'<text x="100%" y="{self._y(value) * 100 / UNITS:.2f}%" dy="0.32em" text-anchor="end">{value:g}</text>'
            for value in self._ticks()
        )
        return f'<svg class="y-labels" aria-hidden="true">{labels}</svg>'

    def _ticks(self) -> list[float]:
        bottom, top = self.bounds
        if not self.is_log:
            return ticks(bottom, top, 5)
        decades = range(math.floor(math.log10(bottom)), math.ceil(math.log10(top)))
        found = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
        inside = [value for value in found if bottom <= value <= top]
        return inside if len(inside) <= MANY_TICKS else [value for value in inside if f"{value:e}"[0] == "1"]

    def _x(self, step: int) -> float:
        return round(UNITS * step / self.num_steps, 1)

    def _y(self, value: float) -> float:
        bottom, top = self.bounds
        if self.is_log:
            bottom, top, value = math.log(bottom), math.log(top), math.log(max(value, bottom))
        return round(UNITS * (top - value) / (top - bottom), 1)


def quality_section(metrics: Sequence[SnapshotMetrics], best: Best | None, num_steps: int, x_labels: str) -> str:
    """Write the section on quality of a run of so many steps; empty where no snapshot was evaluated.

    `x_labels` are the steps under a plot, as HTML.
    """
    evaluated = [(each.step, each.evaluation) for each in metrics if each.evaluation]
    if not evaluated:
        return ""
    steps, found = [step for step, _ in evaluated], [evaluation for _, evaluation in evaluated]
    best_step = best.step if best else None
    distances = MetricCurve(
        steps, [each.distance for each in found], num_steps, floor=found[-1].distance_floor, is_log=True
    )
    histograms = MetricCurve(steps, [each.histogram_distance for each in found], num_steps)
    plots = "".join(
        f'<figure><figcaption>{title}</figcaption><div class="small plot">{curve.svg_y_labels()}'
        f"<div>{curve.svg_plot(best_step)}</div>{x_labels}</div></figure>"
        for title, curve in (("Fréchet distance", distances), ("Classes, total variation", histograms))
    )
    picked = np.linspace(0, len(evaluated) - 1, min(len(evaluated), MAX_CLASS_CHARTS)).round().astype(int)
    return f"""<section aria-label="Quality">
  <h2>How good the samples are</h2>
  <p class="lede">{_lede(evaluated, best)}</p>
  <div class="metrics">{plots}</div>
  <p class="quiet key-text">Both against the test images; lower is better. Dashed: as many real images. Large dot:
  the best checkpoint that is kept.</p>
  <h3>The classes of the samples</h3>
  <ol class="classes">{_class_charts([evaluated[index] for index in picked])}</ol>
  <p class="quiet key-text">Share of each digit among the samples, as the judge names them; the line is at 10 %,
  a digit under 1 % is marked. Beside the step: the Fréchet distance.</p>
</section>"""


def neighbours_section(png: bytes | None, last_step: int) -> str:
    """Write the section that shows neighbours.png; empty where there is none."""
    if png is None:
        return ""
    data = base64.b64encode(png).decode("ascii")
    return (
        '<section>\n  <h2>Nearest training images</h2>\n  <figure><img class="pairs grid" width="648" height="348" '
        f'src="data:image/png;base64,{data}" alt="25 pairs: a generated image, and the training image nearest to it">'
        f"<figcaption>Left in each pair a sample of step {last_step:,}, right the training image that is nearest to it "
        "by pixels: a sample that is the same was learned by heart.</figcaption></figure>\n</section>"
    )


def _lede(evaluated: Sequence[tuple[int, QuickEvaluation]], best: Best | None) -> str:
    step, last = evaluated[-1]
    text = (
        f"At step {step:,} the Fréchet distance of {last.num_samples:,} samples is {_distance(last.distance)}, that of "
        f"as many real images {_distance(last.distance_floor)}; {last.classes_covered} of 10 classes are there."
    )
    if best and best.step != step:
        text += f" The best checkpoint is that of step {best.step:,}, with {_distance(best.distance)}."
    return escape(text)


def _class_charts(evaluated: Sequence[tuple[int, QuickEvaluation]]) -> str:
    top = max(LEAST_TOP_SHARE, *(max(each.class_shares) for _, each in evaluated))
    return "".join(
        f'<li><svg viewBox="0 0 100 58" role="img" aria-label="{_in_words(each.class_shares)}">'
        f"{_bars(each.class_shares, top)}</svg>"
        f'<p>step {step:,} <span class="quiet">{_distance(each.distance)}</span></p></li>'
        for step, each in evaluated
    )


def _bars(shares: Sequence[float], top: float) -> str:
    """Draw ten bars in a box 100 wide and 48 high, the digits under them, and the line of even classes."""
    bars = "".join(
        f'<rect x="{10 * digit + 1}" y="{48 * (1 - share / top):.1f}" width="8" height="{48 * share / top:.1f}"/>'
        f'<text x="{10 * digit + 5}" y="56"{" class=lost" if share <= COVERED_SHARE else ""}>{digit}</text>'
        for digit, share in enumerate(shares)
    )
    return f'{bars}<path d="M0,{48 - 4.8 / top:.1f}h100"/>'


def _in_words(shares: Sequence[float]) -> str:
    return ", ".join(f"{digit}: {share:.1%}" for digit, share in enumerate(shares))


def _distance(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def _dots(points: Sequence[str]) -> str:
    return "".join(f"M{point}h0" for point in points)  # of no length, they show their round caps
