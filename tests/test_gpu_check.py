"""Does the check of a GPU run its stages in order, each in its time, and is what it finds on the disk at once?"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.gpu_check import processes
from benchmarks.gpu_check.__main__ import gpu_check, run_plan, table
from benchmarks.gpu_check.correctness import difference, take_ten_steps
from benchmarks.gpu_check.plan import LIMIT_SECONDS, NUM_SURE, PLAN
from benchmarks.gpu_check.settings import Settings, Stage
from gan.config import TrainConfig
from gan.engine import factory
from gan.engine.gpu import GpuEngine
from gan.recipes.resolve import resolve
from tests.support import check_stages
from tests.support.digits import mnist


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(device="cpu", scale=0.01, data_dir=tmp_path, scratch=tmp_path)


def test_each_stage_has_its_outcome_on_the_disk(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LEAST_SECONDS", 1)
    stages = [
        Stage("slow", 4, "", check_stages.hangs),
        Stage("wrong", 30, "", check_stages.fails),
        Stage("dead", 30, "", check_stages.dies),
        Stage("lacking", 30, "", check_stages.lacks_something),
        Stage("good", 30, "", check_stages.passes),
        Stage("of a GPU", 30, "", check_stages.passes, needs_gpu=True),
    ]
    outcomes = run_plan(stages, settings, tmp_path, 200)
    written = {stage.name: json.loads((tmp_path / f"{stage.name}.json").read_text()) for stage in stages}
    assert {name: outcome["status"] for name, outcome in written.items()} == {
        "slow": "failed: it took longer than 4 s",
        "wrong": "failed: benchmarks.gpu_check.settings.CheckFailedError: one bit differs",
        "dead": "failed: it ended with -6",
        "lacking": "not run: the program nsys is missing",
        "good": "passed",
        "of a GPU": "not run: needs a GPU",
    }
    assert written["good"]["figures"] == {"scratch is there": "True", "scaled": 10}
    assert not is_running(written["slow"]["figures"]["child"])
    assert [outcome.failed for outcome in outcomes] == [True, True, True, False, False, False]
    assert (tmp_path / "gpu-check.md").read_text() == table(outcomes)
    assert "| slow | failed: it took longer than 4 s | " in table(outcomes)


def is_running(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # a process that has ended has an empty one
    except FileNotFoundError:
        return False


def test_no_stage_is_started_that_cannot_end_in_time(tmp_path: Path, settings: Settings) -> None:
    (outcome,) = run_plan([Stage("last", 30, "", check_stages.passes)], settings, tmp_path, 9)
    assert (outcome.status, outcome.failed) == ("not run: no time was left", False)


def test_the_sure_stages_fit_into_the_time() -> None:
    assert sum(stage.limit for stage in PLAN[:NUM_SURE]) <= LIMIT_SECONDS


def test_the_command_tells_what_a_cpu_cannot_check(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--out", str(tmp_path), "--stage", "graphs", "--stage", "sanitizer"]
    done = CliRunner().invoke(gpu_check, words, standalone_mode=False)
    assert (done.return_value, done.stdout.count("not run: needs a GPU")) == (0, 2)


@pytest.fixture
def _gpu_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "CpuEngine", GpuEngine)


@pytest.mark.usefixtures("_gpu_engine")
@pytest.mark.parametrize(("skipped", "first"), [(False, None), (True, "generator.layers.0.weight")])
def test_graphs_are_compared_with_single_steps(skipped: bool, first: str | None) -> None:
    asked = TrainConfig(num_steps=40, snapshot_steps=10, batch_size=25, augment_start=0.5)
    config = resolve(asked, seed=0, device="cpu", num_threads=1)
    figures: dict[str, float | int | str] = {}
    launched = []

    def capture(steps: Callable[[], None], rng: object) -> Callable[[], None]:
        def replay() -> None:
            launched.append(1)
            if not skipped or len(launched) != 2:  # the first launch is compared when it is captured
                steps()

        return replay

    found = difference(config, mnist(), figures.__setitem__, capture)
    assert found == first
    assert list(figures) == [f"tuned, float32, {name}: steps/s" for name in ("graphs", "single steps")]


@pytest.mark.usefixtures("_gpu_engine")
def test_the_steps_for_the_sanitizer_can_be_taken() -> None:
    take_ten_steps(mnist(), "cpu")
