"""Are a run's own files read back, and damaged ones named?"""

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from gan.engine.state import TrainState
from gan.errors import RunError, StorageError
from gan.runs import layout
from gan.runs.config_file import config_bytes
from gan.runs.journal import Journal
from gan.runs.manifest import Best, Manifest
from gan.runs.run_dir import RunDir
from gan.runs.tensorboard import EventLog
from gan.training.loop import Snapshot
from gan.training.writer import SnapshotWriter
from tests.support.configs import run_config
from tests.support.sample_run import evaluation, random_images

pytestmark = pytest.mark.usefixtures("small_networks")

CONFIG = run_config(num_steps=30)
LINE = '{"version":1,"step":%d,"g_loss":1,"d_loss":1,"steps_per_second":9,"seconds":2,"time":"2026-01-01T00:00:00"}\n'


@pytest.mark.parametrize(("number", "said"), [(errno.EIO, "cannot be read or written"), (errno.ENOSPC, "disk is full")])
def test_an_error_of_the_disk_is_one_of_ours(tmp_path: Path, number: int, said: str) -> None:
    with pytest.raises(StorageError, match=rf"journal: .*{said}"), RunDir(tmp_path).disk_errors():
        raise OSError(number, "Input/output error", str(tmp_path / "journal"))


def test_the_lock_of_a_run_that_was_deleted_meanwhile_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run: there is no such run, or another process has just deleted it"):
        RunDir(tmp_path / "run").locked().__enter__()


def test_a_config_is_read_back(tmp_path: Path) -> None:
    RunDir(tmp_path).write_config(CONFIG)
    assert RunDir(tmp_path).read_config() == CONFIG


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "num_steps": 0}', '{"version": 1']
)
def test_a_damaged_config_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError, match=r"config\.json"):
        RunDir(tmp_path).read_config()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_steps", None, "num_steps: Input should be a valid integer"),
        ("device", "auto", "device: Input should be 'cpu' or 'cuda'"),
        ("precision", "auto", "precision: Input should be 'float32' or 'bfloat16'"),
        ("of_a_newer_version", 1, "of_a_newer_version: Extra inputs are not permitted"),
    ],
)
def test_a_field_that_no_run_has_is_named(tmp_path: Path, field: str, value: object, message: str) -> None:
    fields = json.loads(config_bytes(CONFIG))
    (tmp_path / "config.json").write_text(json.dumps({**fields, field: value}))
    with pytest.raises(RunError) as caught:
        RunDir(tmp_path).read_config()
    assert str(caught.value) == (
        f"{tmp_path}/config.json: no run can have this config ({message}). "
        "Restore it from a copy, or use the gan-train that wrote it."
    )


def test_a_metrics_line_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(LINE % 10 + (LINE % 20)[:30])
    assert [metrics.step for metrics in RunDir(tmp_path).read_metrics()] == [10]


def test_damaged_metrics_are_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("nonsense\n" + LINE % 20)
    with pytest.raises(RunError, match=r"metrics\.jsonl: damaged"):
        RunDir(tmp_path).read_metrics()


def test_the_best_checkpoint_is_kept_over_a_resume_and_named_in_the_manifest(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"num_steps": 90, "snapshot_steps": 10})
    run_dir, state, kept = RunDir(tmp_path / "run"), TrainState(config), {}
    for distances in ({10: 9.0, 20: 5.0, 30: None}, {40: 7.0, 50: None, 60: None}, {70: 4.0}):
        with EventLog(run_dir.tensorboard_dir, state.step) as events:
            writer = SnapshotWriter(run_dir, Journal(run_dir.path), config, events, state)
            for state.step, distance in distances.items():
                state.record(np.ones(10), np.ones(10))
                snapshot = Snapshot(state.step, random_images(25), 1.0, 1.0, 10, 1.0)
                writer.write(snapshot, state, evaluation(state.step, distance) if distance else None)
                kept[state.step] = layout.checkpoint_steps_in(run_dir.path)
        if state.step == 60:
            assert Manifest.of(run_dir.path, "run").best == Best(step=20, distance=5.0)
    assert kept[60] == [60, 50, 40, 20]
    assert kept[70] == [70, 60, 50]
    assert Manifest.of(run_dir.path, "run").best == Best(step=70, distance=4.0)


def test_grids_are_listed_by_step(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    for step in (999_000, 1_000_000, 1000):
        run_dir.grid_path(step).parent.mkdir(exist_ok=True)
        run_dir.grid_path(step).write_bytes(b"")
    (tmp_path / "grids" / "step-x.png").write_bytes(b"")
    assert [step for step, _ in run_dir.grids()] == [1000, 999_000, 1_000_000]


@pytest.mark.parametrize("content", ['{"step": 1}\n', "null\n", '{"version": 9}\n', "x\n", None])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, content: str | None) -> None:
    run_dir = RunDir(tmp_path)
    for path, read in ((run_dir.metrics_path, run_dir.read_lines), (run_dir.provenance_path, run_dir.read_provenance)):
        path.mkdir() if content is None else path.write_text(content)
        with pytest.raises(RunError) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
        assert "pydantic" not in str(caught.value)
