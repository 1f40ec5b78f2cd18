"""Where memory, files or a disk have a limit, does a training end in one sentence with exit code 1, and resume?"""

import errno
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from gan import files
from gan.cli.main import main
from gan.config import TrainConfig
from gan.data.dataset import load_dataset
from gan.runs.run_dir import RunDir
from gan.training.runner import open_run
from tests.support.digits import write_mnist
from tests.support.failing_disk import FailingDisk, failing
from tests.support.fault_form import num
from tests.support.killing import differing
from tests.support.life import Life, Machine, Patch

pytestmark = pytest.mark.faults
MB = 1 << 20
OPEN: list[object] = []
OPTIONS = ["--num-steps", "6", "--snapshot-steps", "2", "--num-threads", "1", "--resume", "--no-pinned-hash"]
CONFIG = TrainConfig(num_steps=6, snapshot_steps=2, num_threads=1)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mnist(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    with open_run(path, CONFIG, load_dataset(data_dir, pinned=False)) as run:
        list(run.train())
    return path


def gan_train(run_dir: Path, data_dir: Path, limit: Callable[..., None] | None, *args: int) -> None:
    """Run `gan train` in this process, after a limit was set."""
    sys.argv = ["gan", "train", "--run-dir", str(run_dir), "--data-dir", str(data_dir), *OPTIONS]
    if limit:
        limit(*args)
    sys.exit(main())


def started(folder: Path, data_dir: Path, *limit: object, patch: Patch | None = None) -> Life:
    """Start `gan train` on a machine with a limit, and wait until it ends."""
    machine = Machine(folder, {})
    life = machine.start(gan_train, folder / "run", data_dir, *(limit or (None,)), patch=patch)
    life.ended(120)
    return life


def check_ended(life: Life, *words: str) -> None:
    """Check that a command ended in a sentence that says one of these words, with exit code 1."""
    assert life.process.exitcode == 1, life.log
    last = life.log.strip().splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in life.log, life.log
    assert any(word in last for word in words), last


def check_resumes(folder: Path, data_dir: Path, undisturbed: Path) -> None:
    resumed = started(folder, data_dir)
    assert resumed.process.exitcode == 0, resumed.log
    assert differing(folder / "run", undisturbed) == []


def limit_memory(num_bytes: int) -> None:
    """Let the process have some more address space than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def limit_files(num_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def limit_descriptors(number: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


@pytest.mark.parametrize("more", [20 * MB, 60 * MB, 100 * MB])
def test_without_memory_it_ends_and_resumes(tmp_path: Path, data_dir: Path, undisturbed: Path, more: int) -> None:
    check_ended(started(tmp_path, data_dir, limit_memory, more), "memory")
    check_resumes(tmp_path, data_dir, undisturbed)


@pytest.mark.parametrize("size", [10_000, MB, 20 * MB])
def test_where_files_may_not_grow_it_ends_and_resumes(
    tmp_path: Path, data_dir: Path, undisturbed: Path, size: int
) -> None:
    check_ended(started(tmp_path, data_dir, limit_files, size), "File too large")
    check_resumes(tmp_path, data_dir, undisturbed)


def test_64_descriptors_are_enough(tmp_path: Path, data_dir: Path, undisturbed: Path) -> None:
    life = started(tmp_path, data_dir, limit_descriptors, 64)
    assert life.process.exitcode == 0, life.log
    assert differing(tmp_path / "run", undisturbed) == []


@pytest.mark.parametrize("number", range(8, 20, num(4, 1)))
def test_with_fewer_descriptors_it_ends_or_is_done(
    tmp_path: Path, data_dir: Path, undisturbed: Path, number: int
) -> None:
    life = started(tmp_path, data_dir, limit_descriptors, number)
    if life.process.exitcode:
        check_ended(life, "Too many open files")
    check_resumes(tmp_path, data_dir, undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 50 MB: there is room for one checkpoint of 31 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.mounts
def test_on_a_full_disk_it_ends_and_resumes(small_disk: Path, data_dir: Path, undisturbed: Path) -> None:
    check_ended(started(small_disk, data_dir), "the disk is full")
    subprocess.run(["mount", "-o", "remount,size=300m", small_disk], check=True)
    check_resumes(small_disk, data_dir, undisturbed)


def turn_read_only(root: str, number: int) -> None:
    """Let every change of a file fail from the n-th one on."""
    block = failing(FailingDisk(Path(root), number, errno.EROFS, lasts=True))
    block.__enter__()
    OPEN.append(block)  # to the end of the process


@pytest.mark.parametrize("number", range(10, 100, num(30, 3)))
def test_where_the_disk_turns_read_only_it_ends_and_resumes(
    tmp_path: Path, data_dir: Path, undisturbed: Path, number: int
) -> None:
    life = started(tmp_path, data_dir, turn_read_only, str(tmp_path / "run"), number)
    check_ended(life, "Read-only file system")
    check_resumes(tmp_path, data_dir, undisturbed)


@pytest.mark.parametrize("stopped", [True, False])
def test_a_run_whose_checkpoints_are_deleted_meanwhile_has_the_same_bytes(
    tmp_path: Path, data_dir: Path, undisturbed: Path, stopped: bool
) -> None:
    with open_run(tmp_path / "run", CONFIG, load_dataset(data_dir, pinned=False)) as run:
        for snapshot in run.train(lambda: stopped and run.state.step == 4):
            if snapshot.step < CONFIG.num_steps:
                shutil.rmtree(tmp_path / "run/checkpoints")
    resumed = started(tmp_path, data_dir)
    assert resumed.process.exitcode == 0, resumed.log
    lost = [] if stopped else ["step-000002", "step-000004"]  # a run that is trained draws nothing again
    assert {name[12:23] for name in differing(tmp_path / "run", undisturbed)} == set(lost)


def say_nothing_of_ours() -> None:
    """Take the boundary away at which an error of the system becomes one of ours."""
    files.storage_error = lambda path, num_bytes, error: error  # type: ignore[assignment, return-value]
    RunDir.disk_errors = lambda run: nullcontext()  # type: ignore[method-assign, assignment, return-value]


def test_without_the_boundary_an_error_that_is_not_ours_is_seen(tmp_path: Path, data_dir: Path) -> None:
    life = started(tmp_path, data_dir, limit_files, MB, patch=say_nothing_of_ours)
    with pytest.raises(AssertionError):
        check_ended(life, "File too large")
