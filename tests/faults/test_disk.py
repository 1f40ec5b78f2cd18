"""Where the n-th file operation of a run fails, or kills the process, is the run whole after the next resume?

FAULTS=long tries every operation; by default every fiftieth.
"""

import errno
import shutil
from pathlib import Path

import pytest

from gan.config import TrainConfig
from gan.errors import GanError
from gan.files import is_temporary
from gan.report.page import render
from gan.runs import checkpoint, layout
from gan.runs.run_dir import RunDir
from gan.storage.local import LocalStore
from gan.sync.publish import seal
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.failing_disk import FailingDisk, Killed, failing
from tests.support.fault_form import num
from tests.support.killing import differing
from tests.support.publishing import publish
from tests.support.training import train

pytestmark = pytest.mark.faults
STRIDE = num(50, 1)
CONFIG = TrainConfig(num_steps=8, snapshot_steps=2, num_threads=1)
FAULTS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "killed": 0}


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


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_is_whole_after_any_operation_has_failed(tmp_path: Path, undisturbed: Path, fault: str) -> None:
    counted = FailingDisk(tmp_path)
    with failing(counted):
        work(tmp_path / "counted/run")
    assert counted.num_done > 100
    num_failed = 0
    for number in range(1, counted.num_done + 1, STRIDE):
        run = tmp_path / str(number) / "run"
        try:
            with failing(FailingDisk(tmp_path, number, FAULTS[fault])):
                work(run)
        except (GanError, Killed):
            num_failed += 1
        if fault != "killed":
            assert temporary_files(tmp_path) == [], number
        if layout.checkpoint_steps_in(run):
            assert checkpoint.load_newest(run), number
        work(run)
        assert differing(run, undisturbed) == [], number
        assert not verify(StoredRun.at(run)).problems, number
        shutil.rmtree(run.parent)
    assert num_failed > counted.num_done // STRIDE // 2


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])  # tests/gan/sync/test_publish.py kills publishers
def test_a_store_is_whole_after_any_operation_of_publishing_has_failed(
    tmp_path: Path, undisturbed: Path, fault: str
) -> None:
    counted = FailingDisk(tmp_path)
    with failing(counted):
        publish(undisturbed, StoredRun(LocalStore(tmp_path / "counted"), "run"))
    for number in range(1, counted.num_done + 1, STRIDE):
        run = StoredRun(LocalStore(tmp_path / str(number)), "run")
        try:
            with failing(FailingDisk(tmp_path, number, FAULTS[fault])):
                publish(undisturbed, run)
        except GanError:
            assert run.manifest() is None or not verify(run).problems, number
        publish(undisturbed, run)
        assert not verify(run).problems, number
        assert temporary_files(tmp_path / str(number)) == [], number
