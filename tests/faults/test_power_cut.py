"""Is a snapshot, or a published run, on the disk with all its files when it counts as saved?"""

from collections.abc import Callable
from pathlib import Path

import pytest

from gan.config import TrainConfig
from gan.storage.local import LocalStore
from gan.sync.stored_run import StoredRun
from gan.training.runner import open_run
from tests.support.power_cut import recorded
from tests.support.publishing import publish
from tests.support.small_run import write_run
from tests.support.training import DATA, train

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("small_networks")]
CONFIG = TrainConfig(num_steps=8, snapshot_steps=2, num_threads=1)


def lost_after_snapshots(path: Path, lost: Callable[[], list[str]]) -> list[list[str]]:
    """Train a run and return what could be lost when each snapshot was saved, and at the end."""
    with open_run(path, CONFIG, DATA, resume=True) as run:
        return [*(lost() for _ in run.train()), lost()]


def test_nothing_of_a_snapshot_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = recorded(tmp_path, monkeypatch)
    found = lost_after_snapshots(tmp_path / "new/folder/run", disk.lost)
    assert len(found) == 5 and not any(found)


@pytest.mark.parametrize(
    ("left_out", "lost"),
    [
        (r"\.", "run"),
        ("run", "run/checkpoints"),
        ("run/grids", "run/grids/"),
        ("run/checkpoints", "run/checkpoints/"),
        ("run/tensorboard", "run/tensorboard/"),
        ("run/tensorboard/.*", "run/tensorboard/"),
        ("run/journal", "run/journal/"),
        (r"run/journal/.*", "run/journal/"),
        (r"run/metrics.*", "run/metrics.jsonl"),
        (r"run/\.losses.*", "run/losses.npz"),
        (r"run/checkpoints/.*\.sha256.*", "run/checkpoints/"),
        (r"run/checkpoints/.*\.safetensors\.[^s].*", "run/checkpoints/"),
    ],
)
def test_without_one_sync_the_record_shows_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: str, lost: str
) -> None:
    disk = recorded(tmp_path, monkeypatch, left_out)
    found = lost_after_snapshots(tmp_path / "run", disk.lost)
    assert any(path.startswith(lost) for paths in found for path in paths)


@pytest.mark.parametrize("left_out", [r"\.", "run", r"\.|run"])
def test_folders_that_a_killed_process_has_made_are_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    disk = recorded(tmp_path, monkeypatch, left_out)
    train(tmp_path / "run", CONFIG, stop_at=1)
    assert disk.lost()
    disk.left_out = ""
    assert not any(lost_after_snapshots(tmp_path / "run", disk.lost))


@pytest.mark.parametrize("place", ["store/runs/a", "elsewhere/a"])
def test_nothing_of_a_published_run_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    path = write_run(tmp_path / place)
    disk = recorded(tmp_path, monkeypatch)
    publish(path, StoredRun(LocalStore(tmp_path / "store"), "a"))
    assert [name for name in disk.lost() if name.startswith("store/")] == []


@pytest.mark.parametrize("left_out", ["store", "store/runs", "store/runs/a", "store/runs/a/grids"])
def test_without_one_sync_the_record_shows_a_loss_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    path = write_run(tmp_path / "elsewhere/a")
    disk = recorded(tmp_path, monkeypatch, left_out)
    publish(path, StoredRun(LocalStore(tmp_path / "store"), "a"))
    assert any(name.startswith(f"{left_out}/") for name in disk.lost())
