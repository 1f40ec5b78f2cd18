"""How do the losses of every step become curves that fit a page and can be read at a point?"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MAX_BUCKETS = 480  # about one for each pixel of a plot's width
UNITS = 1000  # side of the plot's own coordinates, stretched to whatever room the page has
CALM_SHARE = 0.98  # of the buckets' maxima fit under the axis' top: one early peak shall not flatten the rest

Losses = NDArray[np.float32]


@dataclass(frozen=True)
class Curve:
    """Hold one loss, bucket by bucket: arrays (num_buckets,)."""

    low: NDArray[np.float64]
    mean: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, losses: Losses, starts: NDArray[np.int64]) -> Self:
        """Reduce losses (num_steps,) to the buckets that begin at `starts`."""
        values = losses.astype(np.float64)
        sizes = np.diff(np.append(starts, len(values)))
        return cls(
            np.minimum.reduceat(values, starts),
            np.add.reduceat(values, starts) / sizes,
            np.maximum.reduceat(values, starts),
        )


@dataclass(frozen=True)
class LossCurves:
    """Hold both losses over the steps 1..num_steps, each bucket being the steps first[i]..last[i]."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    g_loss: Curve
    d_loss: Curve

    @classmethod
    def of(cls, g_losses: Losses, d_losses: Losses) -> Self:
        """Reduce the losses of every step, (num_steps,) each, to MAX_BUCKETS buckets or fewer."""
        num_steps = len(g_losses)
        num_buckets = min(num_steps, MAX_BUCKETS)
        edges = np.arange(num_buckets + 1) * num_steps // num_buckets
        starts = edges[:-1]
        return cls(starts + 1, edges[1:], Curve.of(g_losses, starts), Curve.of(d_losses, starts))

    @property
    def num_steps(self) -> int:
        """Return the last step."""
        return int(self.last[-1])

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Return the values at the plot's bottom and top: every mean is between them, a rare peak may not be."""
        both = (self.g_loss, self.d_loss)
        highs = np.concatenate([curve.high for curve in both])
        bottom = min(0.0, *(float(curve.low.min()) for curve in both))
        top = max(float(np.quantile(highs, CALM_SHARE)), *(float(curve.mean.max()) for curve in both))
        return (bottom, top + 0.05 * (top - bottom)) if top > bottom else (bottom, bottom + 1)

    def readings(self) -> dict[str, Any]:
        """Return what a page needs to read the curves at a step, as JSON values of 4 significant digits."""
        bottom, top = self.bounds
        return {
            "bottom": bottom,
            "top": top,
            "first": self.first.tolist(),
            "last": self.last.tolist(),
            "g_loss": _rounded(self.g_loss),
            "d_loss": _rounded(self.d_loss),
        }

    def svg_plot(self) -> str:
        """Draw both losses, mean on band of least to greatest, and the grid lines, without words, to be stretched."""
        x_lines = "".join(f"M{self._x(step)},0v{UNITS}" for step in self._x_ticks())
        y_lines = "".join(f"M0,{self._y(value)}h{UNITS}" for value in self._y_ticks())
        return (
            f'<svg class="curves" viewBox="0 0 {UNITS} {UNITS}" preserveAspectRatio="none" aria-hidden="true">'
            f'<path class="lines" d="{x_lines}{y_lines}"/>'
            f'<path class="g band" d="{self._band(self.g_loss)}"/><path class="d band" d="{self._band(self.d_loss)}"/>'
            f'<path class="g mean" d="{self._line(self.g_loss)}"/><path class="d mean" d="{self._line(self.d_loss)}"/>'
            "</svg>"
        )

    def svg_y_labels(self) -> str:
        """Write the values beside the plot, at the same heights as its lines."""
        labels = "".join(
            f'<text x="100%" y="{self._y(value) * 100 / UNITS:.2f}%" dy="0.32em" text-anchor="end">{value:g}</text>'
            for value in self._y_ticks()
        )
        return f'<svg class="y-labels" aria-hidden="true">{labels}</svg>'

    def svg_x_labels(self) -> str:
        """Write the steps under the plot; those at its two ends stay within its width."""
        labels = []
        for step in self._x_ticks():
            percent = 100 * step / self.num_steps
            anchor = "start" if percent < 4 else "end" if percent > 94 else "middle"
            labels.append(f'<text x="{percent:.2f}%" y="1em" text-anchor="{anchor}">{step:,.0f}</text>')
        return f'<svg class="x-labels" aria-hidden="true">{"".join(labels)}</svg>'

    def _x(self, step: float) -> float:
        return round(UNITS * step / self.num_steps, 1)

    def _y(self, value: float) -> float:
        bottom, top = self.bounds
        return round(UNITS * (top - value) / (top - bottom), 1)

    def _x_ticks(self) -> list[float]:
        return ticks(0, self.num_steps, 5, least=1)

    def _y_ticks(self) -> list[float]:
        return ticks(*self.bounds, 6)

    def _points(self, values: NDArray[np.float64]) -> list[str]:
        centres = (self.first + self.last) / 2
        return [f"{self._x(x)},{self._y(y)}" for x, y in zip(centres.tolist(), values.tolist(), strict=True)]

    def _line(self, curve: Curve) -> str:
        return "M" + "L".join(self._points(curve.mean)) + "h0"  # a line of one point still shows its round cap

    def _band(self, curve: Curve) -> str:
        return "M" + "L".join(self._points(curve.high) + self._points(curve.low)[::-1]) + "z"


def ticks(low: float, high: float, at_most: int, least: float = 0) -> list[float]:
    """Return the round numbers, `at_most` intervals of 1, 2 or 5 times a power of ten, from low to high."""
    rough = max((high - low) / at_most, least)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _rounded(curve: Curve) -> dict[str, list[float]]:
    return {name: [float(f"{value:.4g}") for value in values.tolist()] for name, values in vars(curve).items()}
