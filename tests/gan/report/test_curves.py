"""Do the curves show the losses of every step?"""

import re

import numpy as np
import pytest

from gan.report.curves import MAX_BUCKETS, LossCurves
from tests.support.sample_run import losses


def curves(*g_losses: float) -> LossCurves:
    return LossCurves.of(np.array(g_losses, np.float32), np.zeros(len(g_losses), np.float32))


@pytest.mark.parametrize("num_steps", [1, 2, MAX_BUCKETS - 1, MAX_BUCKETS])
def test_a_short_run_has_one_bucket_per_step(num_steps: int) -> None:
    g_losses, d_losses = losses(num_steps)
    made = LossCurves.of(g_losses, d_losses)
    assert made.first.tolist() == made.last.tolist() == list(range(1, num_steps + 1))
    for curve, expected in ((made.g_loss, g_losses), (made.d_loss, d_losses)):
        assert curve.low.tolist() == curve.mean.tolist() == curve.high.tolist() == expected.tolist()


@pytest.mark.parametrize("num_steps", [MAX_BUCKETS + 1, 1000, 92_763])
def test_the_buckets_of_a_long_run_hold_each_step_once(num_steps: int) -> None:
    made = LossCurves.of(*losses(num_steps))
    assert len(made.first) == MAX_BUCKETS
    assert (made.first[0], made.last[-1], made.num_steps) == (1, num_steps, num_steps)
    assert (made.first[1:] == made.last[:-1] + 1).all()


def test_a_bucket_has_least_mean_and_greatest_of_its_steps() -> None:
    g_losses, d_losses = losses(92_763)
    made = LossCurves.of(g_losses, d_losses)
    inside = g_losses[made.first[100] - 1 : made.last[100]].astype(np.float64)
    assert (made.g_loss.low[100], made.g_loss.high[100]) == (inside.min(), inside.max())
    assert made.g_loss.mean[100] == pytest.approx(inside.mean(), rel=1e-12)


@pytest.mark.parametrize(
    ("g_losses", "bounds"),
    [((2.0, 1.0), (0, 2.1)), ((0.0, 0.0), (0, 1)), ((-1.0, 1.0), (-1, 1.1)), ((-1.0, -1.0), (-1, 0.05))],
)
def test_the_axis_holds_zero_and_every_mean(g_losses: tuple[float, ...], bounds: tuple[float, float]) -> None:
    assert curves(*g_losses).bounds == pytest.approx(bounds)


def test_one_early_peak_among_thousands_of_steps_does_not_flatten_the_rest() -> None:
    g_losses = [1.0] * 92_763
    g_losses[7] = 500.0
    made = curves(*g_losses)
    assert made.g_loss.high[0] == 500
    assert made.bounds[1] == pytest.approx(1.05 * made.g_loss.mean[0])


def test_the_losses_of_a_single_step_lie_inside_their_axes() -> None:
    assert '<path class="g mean" d="M909.1,' in LossCurves.of(*losses(1)).svg_plot()


def test_readings_are_json_values_of_4_significant_digits() -> None:
    readings = LossCurves.of(*losses(3)).readings()
    assert readings["first"] == readings["last"] == [1, 2, 3]
    assert readings["g_loss"]["mean"] == [1.333, 1.667, 2.0]
    assert readings["d_loss"]["mean"] == [0.6667, 0.8333, 1.0]
    assert (readings["bottom"], readings["top"]) == (0, pytest.approx(2.1))


def test_the_plot_draws_means_within_its_own_coordinates() -> None:
    plot = curves(2.0, 1.0, 2.0, 1.0).svg_plot()
    assert '<path class="g mean" d="M250.0,47.6L500.0,523.8L750.0,47.6L1000.0,523.8h0"/>' in plot
    assert '<path class="d mean" d="M250.0,1000.0L500.0,1000.0L750.0,1000.0L1000.0,1000.0h0"/>' in plot


@pytest.mark.parametrize(
    ("num_steps", "labels"),
    [
        (1, ["0", "1"]),
        (3, ["0", "1", "2", "3"]),
        (3000, ["0", "1,000", "2,000", "3,000"]),
        (92_763, ["0", "20,000", "40,000", "60,000", "80,000"]),
    ],
)
def test_the_steps_under_the_plot_are_round(num_steps: int, labels: list[str]) -> None:
    assert re.findall(r">([\d,]+)</text>", LossCurves.of(*losses(num_steps)).x_axis.labels()) == labels


@pytest.mark.parametrize(
    ("highest", "labels"), [(2.0, ["0", "0.5", "1", "1.5", "2"]), (0.3, ["0", "0.1", "0.2", "0.3"]), (1e-6, 6)]
)
def test_the_values_beside_the_plot_are_round(highest: float, labels: list[str] | int) -> None:
    found = re.findall(r">([^<]+)</text>", curves(highest).y_axis.labels())
    assert (len(found) if isinstance(labels, int) else found) == labels
