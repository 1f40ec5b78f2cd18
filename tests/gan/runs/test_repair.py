"""Is a damaged file of a run found, and made again or named, but never sealed?"""

import errno
import random
import shutil
from pathlib import Path

import pytest

from gan.errors import RunError
from gan.report.page import render
from gan.runs import journal, layout, repair
from gan.runs.run_dir import RunDir
from gan.sync.publish import seal
from tests.support.damage import finished_run, flip_bit, names_of, sealed_damage
from tests.support.killing import differing
from tests.support.training import train

pytestmark = pytest.mark.usefixtures("small_networks")

RANDOM = random.Random(20)


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that was stopped at step 35 of 40."""
    path = tmp_path_factory.mktemp("runs") / "unfinished"
    train(path, stop_at=35)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture
def run(tmp_path: Path, unfinished: Path) -> Path:
    return shutil.copytree(unfinished, tmp_path / "run")


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "provenance.json", "processes.jsonl", "reals.png", "losses.npz", "metrics.jsonl",
        "grids/step-000030.png", "checkpoints/step-000020.safetensors", "checkpoints/step-000020.safetensors.sha256",
        "checkpoints/step-000035.safetensors", "journal/000005.jsonl",
    ],
)  # fmt: skip
def test_a_resume_makes_a_damaged_file_again(run: Path, finished: Path, name: str) -> None:
    flip_bit(run / name, RANDOM)
    train(run, resume=True)
    assert differing(run, finished) == []
    render(RunDir(run))
    seal(run, "run")


def test_damaged_tensorboard_events_are_made_again(run: Path) -> None:
    (events,) = (run / layout.TENSORBOARD).iterdir()
    flip_bit(events, RANDOM)
    train(run, resume=True)
    found = b"".join(path.read_bytes() for path in (run / layout.TENSORBOARD).iterdir())
    assert found.count(b"g_loss") == 40 and found.count(b"\x89PNG") == 4


def test_a_grid_without_a_checkpoint_before_it_is_named(run: Path) -> None:
    flip_bit(run / "grids/step-000010.png", RANDOM)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"damaged since it was written: grids/step-000010\.png.*--from-scratch"):
        train(run, resume=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    train(run, from_scratch=True)


def test_a_report_is_not_made_from_a_damaged_file(run: Path) -> None:
    flip_bit(run / "provenance.json", RANDOM)
    with pytest.raises(RunError, match=r"damaged since it was written: provenance\.json"):
        render(RunDir(run))


def test_a_run_in_training_is_reported_on(run: Path) -> None:
    """The training appends to TensorBoard's file before it enters that, and may delete a checkpoint meanwhile."""
    (events,) = (run / layout.TENSORBOARD).iterdir()
    with events.open("ab") as file:
        file.write(b"of the next snapshot")
    render(RunDir(run))


def test_a_file_that_cannot_be_read_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(repair, "sha256_file", fail)
    with pytest.raises(RunError, match=r"checkpoints/.*: cannot be read \(Input/output error\)\. Check"):
        train(run, resume=True)


def test_a_start_from_scratch_that_is_killed_can_be_resumed(
    run: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(journal, "delete", kill)
        train(run, from_scratch=True)
    train(run, resume=True)
    assert differing(run, finished) == []


def test_no_damaged_file_of_a_finished_run_is_sealed(tmp_path: Path, finished: Path) -> None:
    """tests/faults/test_flips.py flips more bits, and cuts files."""
    for name in names_of(finished):
        run = shutil.copytree(finished, tmp_path / "run")
        flip_bit(run / name, RANDOM)
        assert not sealed_damage(run, finished), name
        shutil.rmtree(run)
