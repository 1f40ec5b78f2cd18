"""Is each process that trains a run recorded, and is other hardware noticed?"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gan.config import TrainConfig
from gan.device import cpu_name
from gan.runs.journal import Journal
from gan.runs.processes import record_process
from gan.runs.run_dir import RunDir
from gan.training.runner import open_run
from tests.support.digits import mnist

pytestmark = pytest.mark.usefixtures("small_networks")

CONFIG = TrainConfig(num_steps=2, snapshot_steps=1, num_threads=1, recipe="published")


def processes(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "processes.jsonl").read_text().splitlines()]


def train(run: Path, stop_at: int | None = None, **options: bool) -> None:
    with open_run(run, CONFIG, mnist(), **options) as opened:
        for _ in opened.train(lambda: opened.state.step == stop_at):
            pass


def test_each_process_that_trains_a_run_has_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    train(run, stop_at=1)
    train(run, resume=True)
    train(run, resume=True)  # there is nothing left to train
    first, second = processes(run)
    assert (first["after_step"], second["after_step"]) == (0, 1)
    assert second["hardware"] == cpu_name() and second["versions"]["torch"] == torch.__version__
    assert "resumed with" not in caplog.text
    train(run, stop_at=1, from_scratch=True)
    assert [process["after_step"] for process in processes(run)] == [0]


def test_a_resume_on_other_hardware_or_with_other_versions_is_a_warning_of_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record_process(Journal(tmp_path), 0, "EPYC 7763", {"torch": "2.9.0"})
    record_process(Journal(tmp_path), 1000, "EPYC 7763", {"torch": "2.9.0"})
    assert caplog.messages == []
    record_process(Journal(tmp_path), 2000, "Xeon 8481C", {"torch": "2.9.1+cu130"})
    assert caplog.messages == [
        "resumed with Xeon 8481C instead of EPYC 7763, torch 2.9.1+cu130 instead of 2.9.0: "
        "the steps after 2000 can have other bytes than in a run that was not stopped"
    ]
    assert [process["hardware"] for process in processes(tmp_path)] == ["EPYC 7763", "EPYC 7763", "Xeon 8481C"]


def test_a_resume_with_another_driver_is_a_warning_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step, driver in ((0, "580.65.06"), (1000, "580.95.05")):
        record_process(Journal(tmp_path), step, "NVIDIA H100", {"torch": "2.15.0", "driver": driver})
    assert caplog.messages[0].startswith("resumed with driver 580.95.05 instead of 580.65.06: the steps after 1000 ")


def test_a_run_that_has_trained_no_step_may_move(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("EPYC 7763", "Xeon 8481C"):
        record_process(Journal(tmp_path), 0, name, {"torch": "2.9.0"})
    assert caplog.messages == []


@pytest.mark.parametrize("damaged", ["", "half a line", "{}\n"])
def test_without_a_good_line_the_process_that_began_the_run_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    """Runs of older versions have no processes.jsonl."""
    run = RunDir(tmp_path / "run")
    train(run.path, stop_at=1)
    made = run.read_provenance()
    run.write_provenance(made.model_copy(update={"versions": {**made.versions, "torch": "2.9.0"}}))
    (run.path / "processes.jsonl").write_text(damaged)
    record_process(Journal(run.path), 1, cpu_name(), {"torch": "2.9.1"})
    assert caplog.messages[-1].startswith("resumed with torch 2.9.1 instead of 2.9.0: the steps after 1 can have")
    assert (run.path / "processes.jsonl").read_text().startswith(damaged)
