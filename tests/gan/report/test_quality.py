"""Does a report show every evaluation, and what was lost?"""

import re
from pathlib import Path

import pytest

from gan.evaluation.results import RANDOM_FEATURES, QuickEvaluation
from gan.report.page import render
from gan.report.quality import MAX_CLASS_CHARTS, MetricCurve, neighbours_section, quality_section
from gan.runs.manifest import Best
from gan.runs.run_dir import SnapshotMetrics
from tests.support.sample_run import evaluation, losses, metrics, write_sample_run


def evaluated(*steps: int, num_steps: int = 4000) -> list[SnapshotMetrics]:
    """Return the figures of a snapshot every 1000 steps, evaluated at `steps`."""
    g_losses, d_losses = losses(num_steps)
    return [
        metrics(step, g_losses, d_losses, evaluation(step) if step in steps else None)
        for step in range(1000, num_steps + 1, 1000)
    ]


def test_without_an_evaluation_there_is_no_section() -> None:
    assert quality_section(evaluated(), None, 4000) == ""
    assert neighbours_section(None, 4000) == ""


@pytest.mark.parametrize(
    ("best", "said"),
    [
        (
            Best(step=4000, distance=100.0),
            "is 100.0, that of as many real images 2.50; 10 of 10 classes",
        ),
        (Best(step=2000, distance=9.5), "there. The best checkpoint is that of step 2,000, with 9.50.</p>"),
        (None, "10 of 10 classes are there.</p>"),
    ],
)
def test_the_last_evaluation_and_the_best_are_in_words(best: Best | None, said: str) -> None:
    section = quality_section(evaluated(2000, 4000), best, 4000)
    assert "At step 4,000 the Fréchet distance of 2,000 samples is" in section and said in section


def test_each_evaluation_has_its_classes() -> None:
    section = quality_section(evaluated(1000, 2000, 4000), None, 4000)
    assert re.findall(r"<p>step ([\d,]+) <span[^>]*>([\d.]+)", section) == [
        ("1,000", "400.0"), ("2,000", "200.0"), ("4,000", "100.0"),
    ]  # fmt: skip
    assert re.findall(r'class="lost">(\d)', section) == ["7", "7"]
    assert section.count("0: 20.0%, 1: 10.0%") == 2 and section.count("0: 10.0%, 1: 10.0%") == 1
    assert section.count("<rect") == 30 and 'y="0.0" width="8" height="48.0"' in section  # 20 % fill the chart


def test_the_bars_of_many_classes_fit_into_the_chart() -> None:
    (found,) = evaluated(1000, num_steps=1000)
    assert found.evaluation
    shares = [0.5, 0.003, *[0.497 / 24] * 24]
    many = found.model_copy(update={"evaluation": found.evaluation.model_copy(update={"class_shares": shares})})
    section = quality_section([many], None, 1000)
    bars = [(float(x), float(width)) for x, width in re.findall(r'<rect x="([\d.]+)" .*?width="([\d.]+)"', section)]
    assert len(bars) == 26 and all(x >= 0 and x + width <= 100 for x, width in bars)
    assert "</text>" not in section[section.index("<rect") :]
    assert "The line is at 3.8 %, an equal share." in section and "1: 0.3%" in section


def test_without_labels_the_judge_is_named_and_there_are_no_classes() -> None:
    fields = evaluation(4000).model_dump(exclude={"histogram_distance", "classes_covered", "class_shares"})
    found = QuickEvaluation.model_validate({**fields, "features": "random"})
    g_losses, d_losses = losses(4000)
    section = quality_section([metrics(4000, g_losses, d_losses, found)], Best(step=4000, distance=100.0), 4000)
    assert "that of as many real images 2.50." in section and f"Judge: {RANDOM_FEATURES}." in section
    assert section.count("<figure>") == 1 and "lass" not in re.sub('class="', "", section)


def test_of_many_evaluations_some_are_shown_with_the_first_and_the_last() -> None:
    section = quality_section(evaluated(*range(1000, 93_000, 1000), num_steps=92_000), None, 92_000)
    steps = re.findall(r"<p>step ([\d,]+)", section)
    assert len(steps) == MAX_CLASS_CHARTS and (steps[0], steps[-1]) == ("1,000", "92,000")
    assert section.count("h0") == 2 * 92


def test_a_curve_has_a_dot_for_each_value_a_large_one_for_the_best_and_the_floor() -> None:
    plot = MetricCurve([1000, 2000], [100.0, 10.0], 2000, floor=1.0, is_log=True).svg_plot(best_step=2000)
    assert '<path class="dots" d="M500.0,51.1h0M1000.0,500.0h0"/>' in plot
    assert '<path class="best dots" d="M1000.0,500.0h0"/>' in plot
    assert '<path class="floor" d="M0,948.9h1000"/>' in plot
    assert "M500.0,51.1L1000.0,500.0" in plot


@pytest.mark.parametrize(("step", "num_steps", "position"), [(1, 1, 909.1), (3000, 3000, 909.1), (1000, 4000, 250.0)])
def test_a_single_dot_lies_inside_its_axes(step: int, num_steps: int, position: float) -> None:
    plot = MetricCurve([step], [100.0], num_steps).svg_plot(best_step=step)
    assert f'<path class="best dots" d="M{position},' in plot


@pytest.mark.parametrize(
    ("values", "is_log", "labels"),
    [
        ([400.0, 13.0], True, ["10", "100"]),
        ([20.0, 13.0], True, ["2", "5", "10", "20"]),
        ([3.0], True, ["2"]),
        ([1e-9], True, ["0.001", "0.01", "0.1", "1"]),
        ([0.3, 0.1], False, ["0", "0.1", "0.2", "0.3"]),
        ([0.0], False, ["0", "0.005", "0.01"]),
    ],
)
def test_the_values_beside_a_plot_are_round(values: list[float], is_log: bool, labels: list[str]) -> None:
    curve = MetricCurve([1000] * len(values), values, 2000, floor=2.5 if is_log else None, is_log=is_log)
    assert re.findall(r">([^<]+)</text>", curve.y_axis.labels()) == labels


def test_the_best_checkpoint_of_a_page_exists(tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run", evaluated=[2000, 3000])
    (run.checkpoints_dir / "step-003000.safetensors").unlink()
    render(run)
    assert "The best checkpoint is that of step 2,000, with 200.0." in run.report_path.read_text(encoding="utf-8")
