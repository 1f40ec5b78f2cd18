"""Is the best checkpoint found in metrics.jsonl, whatever else stands there?"""

from pathlib import Path

import pytest

from gan.runs.manifest import Best, best_of, read_measured

LINES = """{"version": 1, "step": 10, "evaluation": {"distance": 9.5}}
{"version": 1, "step": 20, "evaluation": null}
{"version": 1, "step": 30}
{"version": 1, "step": 40, "evaluation": {"distance": 7.25}}
{"version": 1, "step": 50, "evaluation": {"distance": 7.25}}
nonsense
[1]
{"version": 1, "step": 60, "evaluation": {"dist"""


def test_the_least_distance_is_the_best_and_the_first_of_equals(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(LINES)
    assert [each.step for each in read_measured(path)] == [10, 40, 50]
    assert best_of(read_measured(path)) == Best(step=40, distance=7.25)


@pytest.mark.parametrize("content", ["", '{"step": 30}\n', '{"step": "1", "evaluation": {"distance": 1.5}}\n'])
def test_without_a_measurement_there_is_no_best(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(content)
    assert best_of(read_measured(tmp_path / "metrics.jsonl")) is None


def test_without_metrics_there_is_no_best(tmp_path: Path) -> None:
    assert best_of(read_measured(tmp_path / "metrics.jsonl")) is None
