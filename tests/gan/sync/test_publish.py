"""Is a run published completely, also if another process publishes it, fails or is killed?"""

import shutil
from pathlib import Path

import pytest

from gan.errors import CheckpointError, StorageError
from gan.storage.local import LocalStore
from gan.sync.publish import seal
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.forked import Forked
from tests.support.publishers import publish_at_once, publish_file_by_file, publish_with_files_of_at_most
from tests.support.publishing import publish
from tests.support.small_run import NAMES, flip_bit, tree, write_run

PUBLISHED = sorted([*NAMES, "manifest.json"])
NUM_AT_ONCE = 6


@pytest.fixture(params=["in the store", "elsewhere"])
def run_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_run(tmp_path / ("store/runs/a" if request.param == "in the store" else "run"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def published(store: LocalStore) -> dict[str, bytes]:
    """Return all that lies in the store of run a, temporary files too."""
    return tree(store.root / "runs/a")


def test_a_run_is_published_completely(run_path: Path, store: LocalStore) -> None:
    seen: list[tuple[int, int]] = []
    manifest = publish(run_path, StoredRun(store, "a"), lambda done, total: seen.append((done, total)))
    assert sorted(published(store)) == PUBLISHED
    assert published(store) == tree(run_path)
    assert verify(StoredRun(store, "a")).problems == verify(StoredRun.at(run_path)).problems == []
    assert len(seen) == len(NAMES) and seen[-1] == (manifest.num_bytes, manifest.num_bytes)


def files_in(*folders: Path) -> dict[Path, tuple[int, int]]:
    paths = [path for folder in folders for path in folder.rglob("*")]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def test_publishing_again_changes_nothing(run_path: Path, store: LocalStore) -> None:
    first = publish(run_path, StoredRun(store, "a"))
    before = files_in(run_path, store.root / "runs")
    assert publish(run_path, StoredRun(store, "a")) == first
    assert files_in(run_path, store.root / "runs") == before
    assert [info.key for info in store.list("") if not info.key.startswith("runs/")] == ["leases/a.json"]


def test_a_run_changed_since_it_was_published_is_refused(run_path: Path, store: LocalStore) -> None:
    publish(run_path, StoredRun(store, "a"))
    before = published(store)
    for name in NAMES[:5]:
        (run_path / name).write_bytes(b"other")
    (run_path / "checkpoints/step-001000.safetensors.sha256").unlink()
    (run_path / "checkpoints/step-002000.safetensors.sha256").unlink()
    changed = tree(run_path)
    with pytest.raises(
        StorageError, match=r"other content:\n  checkpoints/step-001000\.safetensors: expected 24 bytes"
    ):
        publish(run_path, StoredRun(store, "a"))
    assert tree(run_path) == changed
    assert run_path.is_relative_to(store.root) or published(store) == before


def test_another_run_under_a_published_id_is_refused(elsewhere: Path, store: LocalStore, tmp_path: Path) -> None:
    publish(elsewhere, StoredRun(store, "a"))
    before = published(store)
    other = write_run(tmp_path / "other")
    flip_bit(other / "losses.npz")
    with pytest.raises(StorageError, match=r"runs/a/ in .*other content:\n  losses\.npz: expected 11 bytes"):
        publish(other, StoredRun(store, "a"))
    assert published(store) == before
    assert not (other / "manifest.json").exists()


def test_the_files_that_hold_times_are_those_of_the_first_publisher(
    elsewhere: Path, store: LocalStore, tmp_path: Path
) -> None:
    other = write_run(tmp_path / "other")
    (other / "report/index.html").write_text("<!doctype html><title>of the first</title>")
    (other / "tensorboard/events.out.tfevents.1").rename(other / "tensorboard/events.out.tfevents.2")
    first = publish(other, StoredRun(store, "a"))
    assert publish(elsewhere, StoredRun(store, "a")) == first
    assert tree(elsewhere) == tree(other) == published(store)


def test_a_copy_of_a_published_run_is_published_and_sealed_under_its_own_name(
    elsewhere: Path, store: LocalStore, tmp_path: Path
) -> None:
    publish(elsewhere, StoredRun(store, "a"))
    for copy in (store.root / "runs/b", tmp_path / "c"):
        shutil.copytree(elsewhere, copy)
        publish(copy, StoredRun(store, copy.name))
        seal(copy, copy.name)
        assert tree(copy) == tree(elsewhere)
        assert verify(StoredRun(store, copy.name)).problems == []
    flip_bit(tmp_path / "c/losses.npz")
    with pytest.raises(StorageError, match=r"c was published already, with other content:\n  losses\.npz"):
        seal(tmp_path / "c", "c")


def test_a_second_store_gets_only_the_files_of_the_first(elsewhere: Path, store: LocalStore, tmp_path: Path) -> None:
    publish(elsewhere, StoredRun(store, "a"))
    second = LocalStore(tmp_path / "second")
    publish(elsewhere, StoredRun(second, "a"))
    assert published(second) == published(store)
    flip_bit(elsewhere / "grids/step-001000.png")
    third = LocalStore(tmp_path / "third")
    with pytest.raises(StorageError, match=r"grids/step-001000\.png: expected 8 bytes"):
        publish(elsewhere, StoredRun(third, "a"))
    assert [info.key for info in third.list("")] == ["leases/a.json"]


def test_a_half_published_run_is_completed(elsewhere: Path, store: LocalStore) -> None:
    store.put_new("runs/a/losses.npz", b"of an earlier step")
    store.put_new("runs/a/checkpoints/step-000500.safetensors", b"pruned since")
    (store.root / "runs/a/checkpoints/.step-001000.safetensors.x7.tmp").write_bytes(b"of a killed publisher")
    publish(elsewhere, StoredRun(store, "a"))
    assert published(store) == tree(elsewhere)
    assert verify(StoredRun(store, "a")).problems == []


def test_another_run_in_the_store_is_not_changed(elsewhere: Path, store: LocalStore) -> None:
    store.put_new("runs/ab/config.json", b"{}")
    publish(elsewhere, StoredRun(store, "a"))
    assert tree(store.root / "runs/ab") == {"config.json": b"{}"}


@pytest.mark.parametrize("num_files", [1, 5, len(NAMES)])
def test_killed_while_publishing_then_completed(elsewhere: Path, store: LocalStore, num_files: int) -> None:
    with Forked(publish_file_by_file, elsewhere, store.root) as process:
        for number in range(num_files):
            process.hear()
            if number < num_files - 1:
                process.say()
        process.kill()
    (names,) = StoredRun(store, "a").by_holder().values()
    assert (sorted(names), published(store)) == (NAMES[:num_files], {})
    assert sorted(tree(elsewhere)) == NAMES
    publish(elsewhere, StoredRun(store, "a"))
    assert published(store) == tree(elsewhere)
    assert verify(StoredRun(store, "a")).problems == []


def test_many_publishers_at_once_leave_one_whole_run(run_path: Path, store: LocalStore) -> None:
    with Forked(publish_at_once, NUM_AT_ONCE, run_path, store.root) as process:
        hashes = process.hear()
    assert (len(hashes), len(set(hashes))) == (NUM_AT_ONCE, 1)
    assert published(store) == tree(run_path)
    assert sorted(published(store)) == PUBLISHED
    assert verify(StoredRun(store, "a")).problems == []


def test_a_store_that_cannot_be_written_does_not_change_the_run(elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    before = tree(elsewhere)
    with pytest.raises(StorageError, match="disk/store"):
        publish(elsewhere, StoredRun(LocalStore(tmp_path / "disk/store"), "a"))
    assert tree(elsewhere) == before


def test_a_full_disk_does_not_change_the_run_and_leaves_the_store_unfinished(
    elsewhere: Path, store: LocalStore
) -> None:
    before = tree(elsewhere)
    with Forked(publish_with_files_of_at_most, 1_000_000, elsewhere, store.root) as process:
        assert "step-002000.safetensors: cannot be written (File too large)" in process.hear()
    assert tree(elsewhere) == before
    (names,) = StoredRun(store, "a").by_holder().values()
    assert (sorted(names), published(store)) == (NAMES[: NAMES.index("checkpoints/step-002000.safetensors")], {})
    publish(elsewhere, StoredRun(store, "a"))
    assert published(store) == tree(elsewhere)


def test_a_damaged_checkpoint_is_not_published(run_path: Path, store: LocalStore) -> None:
    flip_bit(run_path / "checkpoints/step-002000.safetensors")
    with pytest.raises(CheckpointError, match=r"step-002000\.safetensors is damaged"):
        publish(run_path, StoredRun(store, "a"))
    assert not (store.root / "runs/a/manifest.json").exists()


def test_an_empty_directory_is_not_a_run(tmp_path: Path, store: LocalStore) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="empty holds no run"):
        publish(tmp_path / "empty", StoredRun(store, "a"))
