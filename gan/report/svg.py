"""How is a plot drawn as SVG?

A plot has coordinates from 0 to UNITS in both directions. The page stretches it to the room there is. The labels of its
axes are separate images, because text must not be stretched.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

UNITS = 1000
MANY_TICKS = 6


@dataclass(frozen=True)
class StepAxis:
    """The horizontal axis of a plot over the steps 0 to `num_steps`."""

    num_steps: float  # more than the last step where a dot would lie on the border

    def position(self, step: float) -> float:
        """Return the x coordinate of a step."""
        return round(UNITS * step / self.num_steps, 1)

    def ticks(self) -> list[float]:
        """Return the steps that get a label."""
        return round_numbers(0, self.num_steps, 5, least=1)

    def lines(self) -> str:
        """Return the path data of a grid line at each tick."""
        return "".join(f"M{self.position(step)},0v{UNITS}" for step in self.ticks())

    def labels(self) -> Markup:
        """Draw the labels under the plot. Labels at the two ends stay within its width."""
        texts = []
        for step in self.ticks():
            percent = 100 * step / self.num_steps
            anchor = "start" if percent < 4 else "end" if percent > 94 else "middle"
            texts.append(f'<text x="{percent:.2f}%" y="1em" text-anchor="{anchor}">{step:,.0f}</text>')
        return Markup('<svg class="x-labels" aria-hidden="true">{}</svg>').format(Markup("".join(texts)))


@dataclass(frozen=True)
class ValueAxis:
    """The vertical axis of a plot over the values from `bottom` to `top`, linear or logarithmic."""

    bottom: float
    top: float
    num_ticks: int = 5  # intervals between ticks, at most; of a linear axis
    is_log: bool = False

    def position(self, value: float) -> float:
        """Return the y coordinate of a value; y grows downwards."""
        bottom, top = self.bottom, self.top
        if self.is_log:
            bottom, top, value = math.log(bottom), math.log(top), math.log(max(value, bottom))
        return round(UNITS * (top - value) / (top - bottom), 1)

    def ticks(self) -> list[float]:
        """Return the values that get a label."""
        if not self.is_log:
            return round_numbers(self.bottom, self.top, self.num_ticks)
        decades = range(math.floor(math.log10(self.bottom)), math.ceil(math.log10(self.top)))
        candidates = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
        inside = [value for value in candidates if self.bottom <= value <= self.top]
        if len(inside) <= MANY_TICKS:
            return inside
        return [value for value in inside if f"{value:e}"[0] == "1"]  # only powers of ten

    def lines(self) -> str:
        """Return the path data of a grid line at each tick."""
        return "".join(self.line(value) for value in self.ticks())

    def line(self, value: float) -> str:
        """Return the path data of a horizontal line at a value."""
        return f"M0,{self.position(value)}h{UNITS}"

    def labels(self) -> Markup:
        """Draw the labels beside the plot, at the heights of its grid lines."""
        texts = []
        for value in self.ticks():
            percent = self.position(value) * 100 / UNITS
            texts.append(f'<text x="100%" y="{percent:.2f}%" dy="0.32em" text-anchor="end">{value:g}</text>')
        return Markup('<svg class="y-labels" aria-hidden="true">{}</svg>').format(Markup("".join(texts)))


def round_numbers(low: float, high: float, at_most: int, least: float = 0) -> list[float]:
    """Return the multiples of a round number from low to high, with `at_most` intervals between them.

    The round number is 1, 2 or 5 times a power of ten, and at least `least`.
    """
    rough = max((high - low) / at_most, least)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def points(x: StepAxis, y: ValueAxis, steps: Sequence[float], values: Sequence[float]) -> list[str]:
    """Return the coordinates of the values (N,) at the steps (N,)."""
    return [f"{x.position(step)},{y.position(value)}" for step, value in zip(steps, values, strict=True)]


def line(points: Sequence[str]) -> str:
    """Return the path data of a line through points."""
    return "M" + "L".join(points)


def dots(points: Sequence[str]) -> str:
    """Return the path data of a dot at each point: a line of no length, of which the round caps are visible."""
    return "".join(f"M{point}h0" for point in points)


def path(css_class: str, data: str) -> Markup:
    """Draw a path."""
    return Markup('<path class="{}" d="{}"/>').format(css_class, data)


def plot(paths: Iterable[Markup]) -> Markup:
    """Draw a plot of paths, to be stretched by the page."""
    return Markup(
        '<svg class="curves" viewBox="0 0 {units} {units}" preserveAspectRatio="none" aria-hidden="true">{paths}</svg>'
    ).format(units=UNITS, paths=Markup("").join(paths))
