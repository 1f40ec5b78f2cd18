"""Where the n-th file operation of a run fails, or kills the process, is the run whole after the next resume?

FAULTS=long tries every operation; by default every fiftieth, and every one of a change of the champion.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gan import files
from gan.config import TrainConfig
from gan.errors import GanError
from gan.files import is_temporary
from gan.registry.champion import read_champion, rollback
from gan.registry.promotion import promote
from gan.report.page import render
from gan.runs import checkpoint, layout
from gan.runs.run_dir import RunDir
from gan.storage.local import LocalStore
from gan.sync.publish import seal
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.challengers import by_figures, challenger_at
from tests.support.failing_disk import FailingDisk, Killed, failing
from tests.support.fault_form import num
from tests.support.killing import differing
from tests.support.publishing import publish
from tests.support.training import train

pytestmark = pytest.mark.faults
STRIDE = num(50, 1)
CONFIG = TrainConfig(num_steps=8, snapshot_steps=2, num_threads=1)
FAULTS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EINTR": errno.EINTR, "killed": 0}


def work(path: Path) -> None:
    """Train a run, or resume it, to its end; save it under its manifest."""
    train(path, CONFIG, resume=True)
    render(RunDir(path))
    seal(path, "run")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    work(path)
    return path


def temporary_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if is_temporary(path.name)]


def numbers(folder: Path, do: Callable[[Path], None], *, reads: bool = False) -> range:
    """Return which operations of a work are to fail, one at a time."""
    counted = FailingDisk(folder, reads=reads)
    with failing(counted):
        do(folder / "counted" / "run")
    assert counted.num_done > (10 if reads else 20)
    return range(1, counted.num_done + 1, STRIDE)


def check_resumes(run: Path, undisturbed: Path, number: int) -> None:
    if layout.checkpoint_steps_in(run):
        assert checkpoint.load_newest(run), number
    work(run)
    assert differing(run, undisturbed) == [], number
    assert not verify(StoredRun.at(run)).problems, number
    shutil.rmtree(run.parent)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_is_whole_after_any_operation_has_failed(tmp_path: Path, undisturbed: Path, fault: str) -> None:
    num_failed = 0
    for number in (found := numbers(tmp_path, work)):
        run = tmp_path / str(number) / "run"
        try:
            with failing(FailingDisk(tmp_path, number, FAULTS[fault])):
                work(run)
        except (GanError, Killed):
            num_failed += 1
        if fault != "killed":
            assert temporary_files(tmp_path) == [], number
        check_resumes(run, undisturbed, number)
    assert num_failed > len(found) // 2


def test_a_run_is_whole_after_any_read_has_failed(tmp_path: Path, undisturbed: Path) -> None:
    """Of the work from the middle of a run to its end."""
    train(tmp_path / "begun/run", CONFIG, stop_at=4)

    def resume(run: Path) -> None:
        shutil.copytree(tmp_path / "begun/run", run)
        work(run)

    num_failed = 0
    for number in numbers(tmp_path, resume, reads=True):
        run = tmp_path / str(number) / "run"
        shutil.copytree(tmp_path / "begun/run", run)
        try:
            with failing(FailingDisk(run, number, reads=True)):
                work(run)
        except GanError:
            num_failed += 1
        check_resumes(run, undisturbed, number)
    assert num_failed


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC", "EINTR"])  # tests/gan/sync/test_publish.py kills publishers
def test_a_store_is_whole_after_any_operation_of_publishing_has_failed(
    tmp_path: Path, undisturbed: Path, fault: str
) -> None:
    def publish_into(path: Path) -> None:
        publish(undisturbed, StoredRun(LocalStore(path), "run"))

    for number in numbers(tmp_path, publish_into):
        run = StoredRun(LocalStore(tmp_path / str(number)), "run")
        try:
            with failing(FailingDisk(tmp_path, number, FAULTS[fault])):
                publish(undisturbed, run)
        except GanError:
            assert run.manifest() is None or not verify(run).problems, number
        publish(undisturbed, run)
        assert not verify(run).problems, number
        assert temporary_files(tmp_path / str(number)) == [], number
        shutil.rmtree(tmp_path / str(number))


def change_champion(path: Path) -> None:
    """Promote two runs, and go back to the first, wherever that was left."""
    store = LocalStore(path)
    for run_id, distance in (("a", 20.0), ("b", 10.0)):
        store.put_new(f"runs/{run_id}/manifest.json", b"{}")
        if run_id not in read_champion(store).history.run_ids:
            challenger = challenger_at(run_id, distance)
            promote(store, challenger, by_figures(challenger), "me")
    if len(read_champion(store).history.history) == 2:
        rollback(store, "me", "by hand")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("reads", [False, True])
def test_the_champion_is_whole_after_any_operation_has_failed(tmp_path: Path, fault: str, reads: bool) -> None:
    counted = FailingDisk(tmp_path, reads=reads)
    with failing(counted):
        change_champion(tmp_path / "counted")
    assert counted.num_done >= 10
    for number in range(1, counted.num_done + 1):
        path = tmp_path / str(number)
        with suppress(GanError, Killed), failing(FailingDisk(path, number, FAULTS[fault], reads=reads)):
            change_champion(path)
        kept = read_champion(LocalStore(path)).history.history
        assert [change.run_id for change in kept] == ["a", "b", "a"][: len(kept)], number
        assert fault == "killed" or temporary_files(path) == [], number
        change_champion(path)
        assert [change.run_id for change in read_champion(LocalStore(path)).history.history] == ["a", "b", "a"]


def test_without_the_removal_of_temporary_files_they_are_seen(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def kept(path: Path, chunks: Iterable[bytes]) -> Iterator[Path]:
        with files._open_temporary(path) as file:
            file.write(b"".join(chunks))
            file.flush()
            os.fsync(file.fileno())
            yield Path(file.name)

    monkeypatch.setattr(files, "_temporary", kept)
    with pytest.raises(AssertionError):
        test_the_champion_is_whole_after_any_operation_has_failed(tmp_path, "EIO", False)
