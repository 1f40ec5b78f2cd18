"""How do the losses of every step become curves of a size that fits a page?"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from gan.report import svg

MAX_BUCKETS = 480  # about one per pixel of a plot's width
CALM_SHARE = 0.98  # of the buckets' maxima lie below the axis' top, so that one early peak does not flatten the rest

Losses = NDArray[np.float32]


@dataclass(frozen=True)
class Curve:
    """The values of one loss in each bucket: arrays (num_buckets,)."""

    low: NDArray[np.float64]
    mean: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, losses: Losses, starts: NDArray[np.int64]) -> Self:
        """Reduce losses (num_steps,) to buckets that begin at the indices `starts`."""
        values = losses.astype(np.float64)
        sizes = np.diff(np.append(starts, len(values)))
        return cls(
            np.minimum.reduceat(values, starts),
            np.add.reduceat(values, starts) / sizes,
            np.maximum.reduceat(values, starts),
        )


@dataclass(frozen=True)
class LossCurves:
    """Both losses over the steps 1..num_steps. Bucket i holds the steps first[i]..last[i]."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    g_loss: Curve
    d_loss: Curve

    @classmethod
    def of(cls, g_losses: Losses, d_losses: Losses) -> Self:
        """Reduce the losses of every step, (num_steps,) each, to at most MAX_BUCKETS buckets."""
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
        """Return the values at the plot's bottom and top. Every mean lies between them, but a rare peak may not."""
        both = (self.g_loss, self.d_loss)
        highs = np.concatenate([curve.high for curve in both])
        bottom = min(0.0, *(float(curve.low.min()) for curve in both))
        top = max(float(np.quantile(highs, CALM_SHARE)), *(float(curve.mean.max()) for curve in both))
        return (bottom, top + 0.05 * (top - bottom)) if top > bottom else (bottom, bottom + 1)

    def readings(self) -> dict[str, Any]:
        """Return the values that the page's script shows at a step, as JSON values of 4 significant digits."""
        bottom, top = self.bounds
        return {
            "bottom": bottom,
            "top": top,
            "first": self.first.tolist(),
            "last": self.last.tolist(),
            "g_loss": _rounded(self.g_loss),
            "d_loss": _rounded(self.d_loss),
        }

    def svg_plot(self) -> Markup:
        """Draw each loss as the line of its means on the band from its least to its greatest values."""
        x, y = self.x_axis, self.y_axis
        return svg.plot(
            [
                svg.path("lines", x.lines() + y.lines()),
                svg.path("g band", self._band(self.g_loss)),
                svg.path("d band", self._band(self.d_loss)),
                svg.path("g mean", self._line(self.g_loss)),
                svg.path("d mean", self._line(self.d_loss)),
            ]
        )

    @property
    def x_axis(self) -> svg.StepAxis:
        """Return the axis of the steps. That of a single step ends behind it, so that its dot is not on the border."""
        return svg.StepAxis(1.1 if self.num_steps == 1 else self.num_steps)

    @property
    def y_axis(self) -> svg.ValueAxis:
        """Return the axis of the losses."""
        return svg.ValueAxis(*self.bounds, num_ticks=6)

    def _line(self, curve: Curve) -> str:
        return svg.line(self._points(curve.mean)) + "h0"  # so that a line of one point shows its round cap

    def _band(self, curve: Curve) -> str:
        return svg.line(self._points(curve.high) + self._points(curve.low)[::-1]) + "z"

    def _points(self, values: NDArray[np.float64]) -> list[str]:
        centres = (self.first + self.last) / 2
        return svg.points(self.x_axis, self.y_axis, centres.tolist(), values.tolist())


def _rounded(curve: Curve) -> dict[str, list[float]]:
    """Return the values of a curve, rounded to 4 significant digits."""
    return {name: [float(f"{value:.4g}") for value in values.tolist()] for name, values in vars(curve).items()}
