"""Does a store never mix two attempts of a run, whenever the machine is lost?"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gan.runs import checkpoint, layout
from gan.runs.run_dir import RunDir
from gan.storage.base import Store
from gan.storage.local import LocalStore
from gan.sync import resume
from gan.sync.lease import Lease, hold
from gan.sync.stored_run import StoredRun
from gan.sync.uploader import uploading
from tests.support.publishing import fetch_run, files_of, newest_version
from tests.support.spooled_run import SpooledRun, grid, spooled


class ObservedStore(LocalStore):
    """Call `on_change` after each change of a run's files, as if the machine were lost then."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.on_change: Callable[[str], None] = lambda key: None
        self.lease: Lease | None = None  # of the machine that is lost; the next one sees the same

    def fetch(self, folder: Path) -> None:
        """Download the run as another machine does that has taken it over."""
        assert self.lease is not None
        resume.fetch_run(self.lease, folder)

    def put(self, key: str, path: Path, sha256: str) -> None:
        super().put(key, path, sha256)
        self.on_change(key)

    def delete(self, key: str) -> None:
        super().delete(key)
        self.on_change(key)


@pytest.fixture
def store(tmp_path: Path) -> ObservedStore:
    return ObservedStore(tmp_path / "store")


@pytest.fixture
def run(tmp_path: Path) -> SpooledRun:
    return SpooledRun(tmp_path / "a")


def send(run: SpooledRun, store: ObservedStore) -> None:
    with hold(StoredRun(store, "a")) as lease, uploading(run.dir.path, lease) as uploader:
        store.lease = lease
        uploader.flush(30)


def history(folder: Path) -> tuple[tuple[int, ...], int]:
    """Return the rewinds and the step of the newest checkpoint. Check that every grid before it has this history."""
    position = checkpoint.position_of(folder, layout.checkpoint_steps_in(folder)[0])
    assert position is not None and checkpoint.load_newest(folder)
    for step, path in RunDir(folder).grids():
        last = max((n for n, target in enumerate(position.rewinds, 1) if target < step), default=0)
        assert step > position.step or path.read_bytes() == grid(step, last), f"step {step} of {position}"
    return position.rewinds, position.step


def snapshots(run: SpooledRun, *steps: int) -> None:
    for step in steps:
        run.snapshot(step)


@pytest.mark.parametrize("target", [0, 20])
def test_at_every_moment_the_fetched_files_are_of_one_attempt(
    tmp_path: Path, run: SpooledRun, store: ObservedStore, target: int
) -> None:
    found = []

    def lose_the_machine(key: str) -> None:
        folder = tmp_path / "elsewhere" / "a"
        store.fetch(folder)
        if (folder / "checkpoints").exists():
            found.append(history(folder))
        shutil.rmtree(folder, ignore_errors=True)

    snapshots(run, 10, 20, 30, 40, 50)
    send(run, store)
    run.go_back(target)
    snapshots(run, target + 10, target + 20)  # while the store was unreachable
    store.on_change = lose_the_machine
    send(run, store)
    assert stored(store) == spooled(run.dir.path)
    assert found[-1] == ((target,), target + 20)
    assert len(found) > 5


def stored(store: Store) -> dict[str, bytes]:
    return files_of(StoredRun(store, "a"))


def test_a_run_that_is_sent_back_while_its_files_are_sent(
    tmp_path: Path, run: SpooledRun, store: ObservedStore
) -> None:
    """In the middle, the run is sent back to 20, then trained to 50: grid 30 in the store is of the old attempt."""

    def send_back(key: str) -> None:
        if key.endswith("grids/step-000040.png"):
            store.on_change = check
            run.go_back(20)
            snapshots(run, 30, 40, 50)

    def check(key: str) -> None:
        store.fetch(tmp_path / "b" / "a")
        if (tmp_path / "b" / "a" / "checkpoints").exists():
            history(tmp_path / "b" / "a")

    snapshots(run, 10, 20, 30)
    send(run, store)
    snapshots(run, 40, 50)
    store.on_change = send_back
    send(run, store)
    assert stored(store) == spooled(run.dir.path)
    assert history(tmp_path / "b" / "a") == ((20,), 50)


def test_a_later_step_of_an_earlier_attempt_is_not_fetched(
    tmp_path: Path, run: SpooledRun, store: ObservedStore
) -> None:
    snapshots(run, 10, 20, 30, 40, 50)
    old_files = {name: content for name, content in spooled(run.dir.path).items() if "step-000050" in name}
    run.go_back(0)
    snapshots(run, 10, 20)
    send(run, store)
    for name, content in old_files.items():  # as if they had not been deleted
        store.put_new(newest_version(StoredRun(store, "a")).key(name), content)
    fetch_run(StoredRun(store, "a"), tmp_path / "b" / "a")
    assert history(tmp_path / "b" / "a") == ((0,), 20)
    assert spooled(tmp_path / "b" / "a") == spooled(run.dir.path)


def test_a_machine_at_an_earlier_attempt_gets_the_later_one(
    tmp_path: Path, run: SpooledRun, store: ObservedStore
) -> None:
    snapshots(run, 10, 20, 30, 40, 50)
    other = Path(shutil.copytree(run.dir.path, tmp_path / "other"))
    run.go_back(20)
    run.go_back(10)
    snapshots(run, 20)
    send(run, store)
    fetch_run(StoredRun(store, "a"), other)
    assert history(other) == ((20, 10), 20)
    assert spooled(other).keys() - spooled(run.dir.path).keys() == {
        f"grids/step-0000{step}.png" for step in (30, 40, 50)
    }


def test_a_machine_at_a_later_attempt_is_not_changed(run: SpooledRun, store: ObservedStore) -> None:
    snapshots(run, 10, 20, 30)
    send(run, store)
    run.go_back(0)
    before = spooled(run.dir.path)
    fetch_run(StoredRun(store, "a"), run.dir.path)
    assert spooled(run.dir.path) == before


def test_an_attempt_that_begins_at_step_0_is_fetched_at_step_0(
    tmp_path: Path, run: SpooledRun, store: ObservedStore
) -> None:
    snapshots(run, 10, 20)
    run.go_back(0)
    send(run, store)
    fetch_run(StoredRun(store, "a"), tmp_path / "b" / "a")
    assert history(tmp_path / "b" / "a") == ((0,), 0)


def test_a_damaged_header_has_no_position(tmp_path: Path, run: SpooledRun) -> None:
    snapshots(run, 10)
    path = checkpoint.path_of(run.dir.path, 10)
    content = path.read_bytes()
    for damaged in (b"", content[:7], bytes(8) + content[8:], b"\xff" * 8 + content[8:], content[:8] + content[9:]):
        path.write_bytes(damaged)
        assert checkpoint.position_of(run.dir.path, 10) is None
