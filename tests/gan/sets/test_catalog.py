"""Are sets found by name, and is a damaged one refused?"""

import json
from pathlib import Path

import pytest

from gan.errors import DataError
from gan.sets.catalog import check_name, find_set, list_sets
from gan.sets.set_import import Imported
from gan.sets.set_manifest import MANIFEST, SetManifest
from gan.sets.shards import check_identity
from tests.support.pictures import imported, write_folder


@pytest.fixture
def found(tmp_path: Path) -> Imported:
    return imported(write_folder(tmp_path / "in", {"a": 10, "b": 10}), tmp_path / "sets")


def change(found: Imported, **fields: object) -> None:
    path = found.folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_sets_are_listed_by_name(tmp_path: Path, found: Imported) -> None:
    other = imported(write_folder(tmp_path / "other", {"": 10}), tmp_path / "sets", "a-set")
    (tmp_path / "sets" / "notes.txt").write_text("x")
    (tmp_path / "sets" / "mine" / "notes.txt").write_text("x")
    assert list_sets(tmp_path / "sets") == [other.manifest, found.manifest]
    assert list_sets(tmp_path / "none") == []


def test_a_damaged_set_does_not_hide_the_others(
    tmp_path: Path, found: Imported, caplog: pytest.LogCaptureFixture
) -> None:
    other = imported(write_folder(tmp_path / "other", {"": 10}), tmp_path / "sets", "other")
    (found.folder / MANIFEST).unlink()
    assert list_sets(tmp_path / "sets") == [other.manifest]
    assert "set.json cannot be read" in caplog.text


def test_a_set_is_found_by_its_name_or_its_sha(tmp_path: Path, found: Imported) -> None:
    sha = found.manifest.sha256
    for address in ("mine", f"mine@{sha}", f"mine@{sha[:8]}"):
        assert find_set(tmp_path / "sets", address) == found.folder


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("yours", "has no data set yours. Import it: `gan data import SOURCE --name yours`"),
        ("mine@00000000", "has no data set mine@00000000. There is:\n  mine@"),
        ("mine@0000", "names no data set"),
        ("../mine", "names no data set"),
        ("mine@", "names no data set"),
        ("", "names no data set"),
    ],
)
def test_a_set_that_is_not_there_is_named(tmp_path: Path, found: Imported, address: str, said: str) -> None:
    with pytest.raises(DataError) as raised:
        find_set(tmp_path / "sets", address)
    assert said in str(raised.value)


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a/b", "a b", "ä", "a" * 65, "a@b", "a\n"])
def test_names_that_are_no_names_of_folders_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="cannot have the name"):
        check_name(name)


def test_every_flipped_bit_of_the_pixels_and_labels_is_found(found: Imported) -> None:
    check_identity(found.folder, found.manifest)
    assert len(found.manifest.files) == 4
    for name in found.manifest.files:
        path = found.folder / name
        good = path.read_bytes()
        for place in (0, 100, len(good) - 1):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            with pytest.raises(DataError, match=f"{name}: SHA-256 expected"):
                check_identity(found.folder, found.manifest)
        path.write_bytes(good[:-1])
        with pytest.raises(DataError, match=f"{name}: found {len(good) - 1:,} bytes"):
            check_identity(found.folder, found.manifest)
        path.unlink()
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            check_identity(found.folder, found.manifest)
        path.write_bytes(good)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"version": 2}, "has version 2, expected 1"),
        ({"side": "28"}, "is damaged: side"),
        ({"extra": 1}, "is damaged: extra"),
        ({"counts": {"train": [9], "test": [1, 1]}}, "counts expected 2 numbers"),
        ({"counts": {"train": [9, -9], "test": [1, 1]}}, "a count is negative"),
        ({"files": {"../../x": {"size": 1, "sha256": "0" * 64}}}, "files expected"),
        ({"name": "yours"}, "is not the set of its folder"),
        ({"sha256": "0" * 64}, "is not the set of its folder"),
    ],
)
def test_a_changed_manifest_is_refused(found: Imported, fields: dict[str, object], said: str) -> None:
    change(found, **fields)
    with pytest.raises(DataError) as raised:
        SetManifest.read(found.folder)
    assert said in str(raised.value)


@pytest.mark.parametrize("fields", [{"classes": ["a", "c"]}, {"counts": {"train": [8, 10], "test": [1, 1]}}])
def test_class_names_and_counts_belong_to_the_identity(found: Imported, fields: dict[str, object]) -> None:
    change(found, **fields)
    with pytest.raises(DataError):
        check_identity(found.folder, SetManifest.read(found.folder))


@pytest.mark.parametrize("raw", [b"", b"[]", b"{" * 100_000, b"\xff"])
def test_a_manifest_that_is_no_json_is_refused(found: Imported, raw: bytes) -> None:
    (found.folder / MANIFEST).write_bytes(raw)
    with pytest.raises(DataError, match="set.json is damaged"):
        SetManifest.read(found.folder)
