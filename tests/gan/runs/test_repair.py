"""Is a damaged file of a run found, and made again or named, but never sealed?"""

import random
import shutil
from pathlib import Path

import pytest

from gan.errors import GanError, RunError
from gan.report.page import render
from gan.runs import layout
from gan.runs.run_dir import RunDir
from gan.sync.publish import seal
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.killing import differing
from tests.support.training import train

RANDOM = random.Random(20)


def flip_bit(path: Path, position: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    at = RANDOM.randrange(len(content)) if position is None else position
    content[at] ^= 1 << RANDOM.randrange(8)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that was stopped at step 35 of 40."""
    path = tmp_path_factory.mktemp("runs") / "unfinished"
    train(path, stop_at=35)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with its report, which has no manifest yet."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    train(path)
    render(RunDir(path))
    return path


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
    flip_bit(run / name)
    train(run, resume=True)
    assert differing(run, finished) == []
    render(RunDir(run))
    seal(run, "run")


def test_damaged_tensorboard_events_are_made_again(run: Path) -> None:
    (events,) = (run / layout.TENSORBOARD).iterdir()
    flip_bit(events)
    train(run, resume=True)
    found = b"".join(path.read_bytes() for path in (run / layout.TENSORBOARD).iterdir())
    assert found.count(b"g_loss") == 40 and found.count(b"\x89PNG") == 4


def test_a_grid_without_a_checkpoint_before_it_is_named(run: Path) -> None:
    flip_bit(run / "grids/step-000010.png")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"damaged since it was written: grids/step-000010\.png.*--from-scratch"):
        train(run, resume=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    train(run, from_scratch=True)


def test_a_report_is_not_made_from_a_damaged_file(run: Path) -> None:
    flip_bit(run / "provenance.json", -20)
    with pytest.raises(RunError, match=r"damaged since it was written: provenance\.json"):
        render(RunDir(run))


def is_sealed_damaged(run: Path, whole: Path) -> bool:
    """Seal a run; return whether its manifest vouches for content that the whole run does not have."""
    try:
        seal(run, "run")
    except GanError:
        return False
    assert not verify(StoredRun.at(run)).problems
    names = [name for name in names_of(whole) if not name.startswith(layout.JOURNAL)]
    return any((run / name).read_bytes() != (whole / name).read_bytes() for name in names)


def names_of(run: Path) -> list[str]:
    return sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())


@pytest.mark.parametrize("is_truncated", [False, True])
def test_no_damaged_file_of_a_finished_run_is_sealed(tmp_path: Path, finished: Path, is_truncated: bool) -> None:
    for name in names_of(finished):
        run = shutil.copytree(finished, tmp_path / "run")
        path = run / name
        if is_truncated:
            path.write_bytes(path.read_bytes()[: RANDOM.randrange(path.stat().st_size)])
        else:
            flip_bit(path)
        assert not is_sealed_damaged(run, finished), name
        shutil.rmtree(run)


def test_without_the_journal_damage_is_sealed(tmp_path: Path, finished: Path) -> None:
    """The control: nothing else notices a flipped bit of a grid."""
    run = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(run / layout.JOURNAL)
    flip_bit(run / "grids/step-000010.png", -20)
    assert is_sealed_damaged(run, finished)
