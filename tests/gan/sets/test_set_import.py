"""Does a source become the same set every time, whole or not at all?"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan.data.dataset import load_dataset
from gan.errors import DataError, StorageError
from gan.sets import set_import
from gan.sets.card import DataCard
from gan.sets.loading import load_set
from gan.sets.set_import import import_set, open_source
from gan.sets.set_manifest import SetManifest
from tests.support.digits import write_mnist
from tests.support.pictures import COLOUR, GREY, imported, noise, png, write_folder
from tests.support.small_run import tree


@pytest.fixture
def sets_dir(tmp_path: Path) -> Path:
    return tmp_path / "sets"


def test_a_sub_folder_is_a_class(tmp_path: Path, sets_dir: Path) -> None:
    found = imported(write_folder(tmp_path / "in", {"cat": 20, "ant": 10}), sets_dir)
    assert found.manifest.classes == ["ant", "cat"]
    assert found.manifest.counts == {"train": [9, 18], "test": [1, 2]}
    data = load_set(sets_dir, "mine")
    pixels = {image.tobytes(): label for image, label in zip(data.train_images, data.train_labels, strict=True)}
    for label, seed in ((1, 0), (0, 1)):
        known = [image.tobytes() for image in noise(20 if label else 10, seed=seed)]
        assert {pixels[raw] for raw in known if raw in pixels} == {label}


def test_folders_of_numbers_are_in_their_order(tmp_path: Path, sets_dir: Path) -> None:
    found = imported(write_folder(tmp_path / "in", {"10": 5, "9": 5, "b": 5, "a": 5}), sets_dir)
    assert found.manifest.classes == ["9", "10", "a", "b"]


def test_files_without_sub_folders_have_no_labels(tmp_path: Path, sets_dir: Path) -> None:
    found = imported(write_folder(tmp_path / "in", {"": 10}), sets_dir)
    assert found.manifest.classes == [] and found.manifest.counts == {"train": [9], "test": [1]}


def test_the_identity_is_the_sha256_of_what_is_stored(tmp_path: Path, sets_dir: Path) -> None:
    found = imported(write_folder(tmp_path / "in", {"a": 5, "b": 5}, side=40), sets_dir)
    data = load_set(sets_dir, "mine")
    header = {"format": "gan-train set 1", "side": 28, "channels": 1, "classes": ["a", "b"], "train": 8, "test": 2}
    content = json.dumps(header, sort_keys=True).encode() + b"\n"
    for labels, images in ((data.train_labels, data.train_images), (data.test_labels, data.test_images)):
        content += labels.astype("<u2").tobytes() + images.tobytes()
    assert hashlib.sha256(content).hexdigest() == found.manifest.sha256 == found.folder.name
    for name, file in found.manifest.files.items():
        assert hashlib.sha256((found.folder / name).read_bytes()).hexdigest() == file.sha256
    assert np.load(found.folder / "train-images-000.npy", allow_pickle=False).shape == (8, 28, 28)


def test_the_same_pixels_are_the_same_set_whatever_the_files_are_called(tmp_path: Path, sets_dir: Path) -> None:
    first = imported(write_folder(tmp_path / "in", {"a": 10}), sets_dir)
    for number, path in enumerate((tmp_path / "in" / "a").iterdir()):
        path.rename(path.with_name(f"other-{number * 7 % 10}.PNG"))
    before = tree(sets_dir)
    again = imported(tmp_path / "in", sets_dir)
    assert (first.is_new, again.is_new) == (True, False) and again.folder == first.folder
    assert tree(sets_dir) == before


def test_other_pixels_get_a_folder_beside_the_first(tmp_path: Path, sets_dir: Path) -> None:
    one = imported(write_folder(tmp_path / "one", {"a": 10}), sets_dir)
    two = imported(write_folder(tmp_path / "two", {"a": 11}), sets_dir)
    assert one.folder.parent == two.folder.parent and one.folder != two.folder
    with pytest.raises(
        DataError, match=f"2 data sets have the name mine.*\n.*mine@{min(one[1].sha256, two[1].sha256)}"
    ):
        load_set(sets_dir, "mine")
    assert len(load_set(sets_dir, f"mine@{two.manifest.sha256[:8]}").train_images) == 10


def test_facts_that_are_given_later_change_no_pixel(tmp_path: Path, sets_dir: Path) -> None:
    source = write_folder(tmp_path / "in", {"": 10})
    first = imported(source, sets_dir, source="a camera")
    page = (first.folder / "card.html").read_text()
    assert "data:image/png" in page and "a camera" in page
    again = imported(source, sets_dir, license="CC0", private=True)
    assert not again.is_new
    facts = SetManifest.read(first.folder).facts
    assert (facts.source, facts.license, facts.private) == ("a camera", "CC0", True)
    assert DataCard.read(first.folder).set.facts == facts
    page = (first.folder / "card.html").read_text()
    assert "data:image/png" not in page and "CC0" in page and "a camera" in page


def test_idx_files_keep_their_split_and_their_order(tmp_path: Path, sets_dir: Path) -> None:
    data = load_dataset(write_mnist(tmp_path / "in"), pinned=False)
    found = imported(tmp_path / "in", sets_dir)
    again = load_set(sets_dir, "mine")
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert (getattr(again, name) == getattr(data, name)).all() and getattr(again, name).dtype == np.uint8
    assert found.manifest.test_share is None and found.manifest.classes == list("0123456789")
    assert again.class_counts.tolist() == data.class_counts.tolist()


def test_the_train_pair_alone_is_split_by_content(tmp_path: Path, sets_dir: Path) -> None:
    source = write_mnist(tmp_path / "in")
    for path in source.glob("t10k*"):
        path.unlink()
    found = imported(source, sets_dir)
    assert found.manifest.test_share == 0.1
    assert sum(found.manifest.counts["train"]) + sum(found.manifest.counts["test"]) == 256
    (source / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="found neither train-labels-idx1-ubyte.gz nor"):
        open_source(source)


def test_idx_labels_must_match(tmp_path: Path) -> None:
    write_mnist(tmp_path / "in")
    write_mnist(tmp_path / "other", num_train=100)
    shutil.copy(tmp_path / "other" / "train-labels-idx1-ubyte.gz", tmp_path / "in")
    with pytest.raises(DataError, match="has 100 labels, expected 256"):
        open_source(tmp_path / "in")


def test_a_set_in_colour_has_its_channels_first(tmp_path: Path, sets_dir: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, shade in enumerate(range(0, 250, 25)):
        (tmp_path / "in" / f"{number}.png").write_bytes(png(Image.new("RGB", (32, 32), (shade, 1, 2))))
    imported(tmp_path / "in", sets_dir, form=COLOUR)
    data = load_set(sets_dir, "mine")
    assert data.train_images.shape == (9, 3, 32, 32)
    assert (data.train_images[:, 1] == 1).all() and (data.train_images[:, 2] == 2).all()
    assert (data.side, data.channels, data.classes, data.background) == (32, 3, (), (255, 255, 255))


def test_images_of_several_sizes_are_counted(tmp_path: Path, sets_dir: Path) -> None:
    write_folder(tmp_path / "in" / "x", {"": 8}, side=40)
    write_folder(tmp_path / "in" / "y", {"": 6}, side=20)
    manifest = imported(tmp_path / "in", sets_dir).manifest
    assert [(size.width, size.count) for size in manifest.sizes_before] == [(40, 8), (20, 6)]
    assert manifest.num_sizes_before == 2


def test_shards_hold_as_many_images_as_fit(tmp_path: Path, sets_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = imported(write_folder(tmp_path / "in", {"": 30}), sets_dir)
    expected = load_set(sets_dir, "mine").train_images
    monkeypatch.setattr("gan.sets.set_manifest.SHARD_BYTES", 10 * 784)
    parts = imported(tmp_path / "in", tmp_path / "parts")
    assert parts.manifest.sha256 == whole.manifest.sha256
    assert [name for name in parts.manifest.files if name.startswith("train-images")] == [
        f"train-images-{number:03d}.npy" for number in range(3)
    ]
    assert (load_set(tmp_path / "parts", "mine").train_images == expected).all()


def test_progress_counts_images(tmp_path: Path, sets_dir: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    source = open_source(write_folder(tmp_path / "in", {"": 120}))
    import_set(source, sets_dir, "mine", GREY, progress=lambda *now: seen.append(now))
    assert seen == [("images", 100, 120), ("images", 120, 120)]


def test_a_set_that_the_disk_cannot_hold_is_refused_before_a_file_is_read(
    tmp_path: Path, sets_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(write_folder(tmp_path / "in", {"": 10}))
    monkeypatch.setattr(source, "num_items", 10**12)
    monkeypatch.setattr(source, "read", lambda form: pytest.fail("read"))
    with pytest.raises(StorageError, match="1,000,000,000,000 images of 784 bytes are 784,000,000,000,000 bytes"):
        import_set(source, sets_dir, "mine", GREY)
    assert list(sets_dir.iterdir()) == []


def test_an_import_that_breaks_off_leaves_nothing(
    tmp_path: Path, sets_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "in", {"": 10})
    monkeypatch.setattr(set_import, "publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        imported(source, sets_dir)
    assert list(sets_dir.iterdir()) == []


def test_what_a_killed_import_has_left_is_deleted_by_the_next(tmp_path: Path, sets_dir: Path) -> None:
    old, young = sets_dir / ".0123456789abcdef.tmp", sets_dir / ".fedcba9876543210.tmp"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "pixels.raw").write_bytes(b"half")
    os.utime(old, (0, 0))
    found = imported(write_folder(tmp_path / "in", {"": 10}), sets_dir)
    assert sorted(path.name for path in sets_dir.iterdir()) == [young.name, "mine"]
    assert [path.name for path in (sets_dir / "mine").iterdir()] == [found.manifest.sha256]


def test_a_damaged_set_is_not_taken_for_the_import(tmp_path: Path, sets_dir: Path) -> None:
    source = write_folder(tmp_path / "in", {"": 10})
    shard = imported(source, sets_dir).folder / "train-images-000.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="Remove the folder of the set"):
        imported(source, sets_dir)
