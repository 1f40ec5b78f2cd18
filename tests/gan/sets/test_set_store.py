"""Does a set get through a store to another machine, with every byte checked?"""

from pathlib import Path

import pytest

from gan.errors import DataError
from gan.sets.set_import import Imported
from gan.sets.set_store import get_set, put_set
from gan.storage.address import open_store
from gan.storage.base import Store
from tests.support.pictures import imported, write_folder
from tests.support.small_run import tree


@pytest.fixture
def found(tmp_path: Path) -> Imported:
    return imported(write_folder(tmp_path / "in", {"a": 10, "b": 10}), tmp_path / "sets")


@pytest.fixture
def store(folder_or_bucket: Store) -> Store:
    return folder_or_bucket


def test_a_set_is_the_same_on_the_other_machine(store: Store, found: Imported, tmp_path: Path) -> None:
    put_set(store, found.folder)
    name, sha256 = found.manifest.name, found.manifest.sha256
    keys = {info.key for info in store.list("")}
    assert keys == {f"datasets/mine/{sha256}/{path.name}" for path in found.folder.iterdir()}
    folder = get_set(store, tmp_path / "there", name, sha256)
    assert folder == tmp_path / "there" / "mine" / sha256
    assert tree(tmp_path / "there") == tree(tmp_path / "sets")
    assert get_set(store, tmp_path / "there", name, sha256) == folder
    put_set(store, folder)  # once more: nothing to do


def test_a_damaged_object_leaves_nothing_behind(store: Store, found: Imported, tmp_path: Path) -> None:
    put_set(store, found.folder)
    key = f"datasets/mine/{found.manifest.sha256}/train-images-000.npy"
    store.delete(key)
    store.put_new(key, b"damaged")
    with pytest.raises(DataError, match="train-images-000.npy in .*: SHA-256 expected"):
        get_set(store, tmp_path / "there", "mine", found.manifest.sha256)
    assert list((tmp_path / "there").iterdir()) == []


def test_a_set_that_is_not_whole_is_not_there(store: Store, found: Imported, tmp_path: Path) -> None:
    put_set(store, found.folder)
    store.delete(f"datasets/mine/{found.manifest.sha256}/set.json")
    with pytest.raises(DataError, match="has no data set mine@"):
        get_set(store, tmp_path / "there", "mine", found.manifest.sha256)
    assert not (tmp_path / "there").exists()


def test_a_set_under_another_name_is_refused(tmp_path: Path, found: Imported) -> None:
    store = open_store(tmp_path / "store")
    put_set(store, found.folder)
    (tmp_path / "store" / "datasets" / "mine").rename(tmp_path / "store" / "datasets" / "yours")
    with pytest.raises(DataError, match="is of mine@.*expected yours@"):
        get_set(store, tmp_path / "there", "yours", found.manifest.sha256)


def test_a_private_set_is_not_copied(tmp_path: Path) -> None:
    found = imported(write_folder(tmp_path / "in", {"": 10}), tmp_path / "sets", private=True)
    store = open_store(tmp_path / "store")
    with pytest.raises(DataError, match="is private"):
        put_set(store, found.folder)
    assert list(store.list("")) == []


def test_a_damaged_set_is_not_copied(tmp_path: Path, found: Imported) -> None:
    (found.folder / "test-labels.npy").write_bytes(b"x")
    store = open_store(tmp_path / "store")
    with pytest.raises(DataError, match="test-labels.npy"):
        put_set(store, found.folder)
    assert list(store.list("")) == []
