"""Is each file of a folder used as a person expects, or named and left out?"""

import os
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from gan.errors import DataError
from gan.sets.card import DataCard
from gan.sets.set_import import Imported, open_source
from gan.sets.sources.image_folder import ImageFolder
from tests.support.pictures import GREY, huge_png, imported, noise, png, with_bomb, write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder of 10 good images."""
    return write_folder(tmp_path / "in", {"": 10})


def left_out(found: Imported) -> dict[str, str]:
    return {each.name: each.reason for each in DataCard.read(found.folder).left_out}


def run(folder: Path) -> Imported:
    return imported(folder, folder.parent / "sets")


def num_images(found: Imported) -> int:
    return found.manifest.num_images("train") + found.manifest.num_images("test")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (png(Image.fromarray(noise(1, 40)[0]))[:-200], "unreadable: "),
        (b"", "unreadable: no PNG or JPEG"),
        (b"<html>404</html>", "unreadable: no PNG or JPEG"),
        (b"GIF89a" + bytes(100), "unreadable: no PNG or JPEG"),
    ],
)
def test_a_damaged_file_is_named_and_left_out(folder: Path, data: bytes, said: str) -> None:
    (folder / "bad.png").write_bytes(data)
    found = run(folder)
    assert left_out(found)["bad.png"].startswith(said)
    assert found.manifest.left_out == {"unreadable": 1} and num_images(found) == 10


@pytest.mark.parametrize("side", [8_000, 40_000])  # Pillow's own limit lies between them
def test_a_file_that_unpacks_to_gigabytes_is_not_decoded(folder: Path, side: int) -> None:
    (folder / "huge.png").write_bytes(huge_png(side))
    tracemalloc.start()
    found = run(folder)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()
    assert found.manifest.left_out == {"too many pixels": 1} and num_images(found) == 10


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_huge_text_or_profile_does_not_cost_the_image(folder: Path, kind: bytes) -> None:
    image = Image.fromarray(noise(1, seed=9)[0])
    (folder / "text.png").write_bytes(with_bomb(png(image), kind))
    assert num_images(run(folder)) == 11
    picture = next(p for p in ImageFolder(folder).read(GREY) if p and p.name == "text.png")
    assert (picture.pixels == noise(1, seed=9)[0]).all()


def test_a_file_that_is_too_large_is_not_read(folder: Path) -> None:
    with (folder / "large.jpg").open("wb") as file:
        file.truncate(200 << 20)  # a hole
    assert run(folder).manifest.left_out == {"file too large": 1}


def test_links_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "secret", {"": 5})
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "link.png").symlink_to(tmp_path / "secret" / "0.png")
    found = run(folder)
    assert found.manifest.left_out == {"link": 2} and num_images(found) == 10
    assert found.manifest.classes == []


def test_other_files_are_counted(folder: Path) -> None:
    (folder / "notes.txt").write_text("x")
    (folder / ".DS_Store").write_text("x")
    (folder / ".git").mkdir()
    (folder / ".git" / "a.png").write_bytes(b"x")
    os.mkfifo(folder / "pipe.png")
    assert run(folder).manifest.left_out == {"hidden": 2, "no regular file": 1, "not PNG or JPEG": 1}


def test_files_beside_the_classes_belong_to_none(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", {"": 2, "a": 10})
    found = run(tmp_path / "in")
    assert found.manifest.left_out == {"beside the class folders": 2} and found.manifest.classes == ["a"]


def test_a_class_whose_images_are_all_damaged_is_no_class(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", {"a": 5, "c": 5})
    (tmp_path / "in" / "b").mkdir()
    (tmp_path / "in" / "b" / "0.png").write_bytes(b"x")
    found = run(tmp_path / "in")
    assert found.manifest.classes == ["a", "c"] and found.manifest.counts["train"] == [4, 4]


def test_a_class_of_one_image_is_for_training(tmp_path: Path) -> None:
    found = run(write_folder(tmp_path / "in", {"a": 1, "b": 10}))
    assert found.manifest.counts == {"train": [1, 9], "test": [0, 1]}


def test_one_class_is_a_class(tmp_path: Path) -> None:
    assert run(write_folder(tmp_path / "in", {"a": 10})).manifest.classes == ["a"]


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "<script>alert(1)</script>", b"\xff\xfe", "\u202egnp", "a\\nb"])
def test_any_name_is_escaped(tmp_path: Path, name: str | bytes) -> None:
    shown = os.fsdecode(name)
    if "/" in shown:
        shown = shown.replace("/", "_")
    write_folder(tmp_path / "in", {shown: 10, "a": 10})
    (tmp_path / "in" / "a" / f"{shown}.png").write_bytes(b"damaged")
    found = run(tmp_path / "in")
    assert len(found.manifest.classes) == 2 and all(each.isprintable() for each in found.manifest.classes)
    (bad,) = left_out(found)
    assert bad.isprintable()
    page = (found.folder / "card.html").read_bytes().decode()
    assert "<script" not in page and "\x1b" not in page and "\u202e" not in page


def test_names_that_are_escaped_stay_different(tmp_path: Path) -> None:
    found = run(write_folder(tmp_path / "in", {"a\nb": 5, "a\\nb": 5}))
    assert found.manifest.classes == ["a\\nb", "a\\\\nb"]


@pytest.mark.parametrize("names", [[], ["notes.txt"], ["a/notes.txt"]])
def test_a_folder_without_an_image_is_refused(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("x")
    with pytest.raises(DataError, match="found no PNG or JPEG file"):
        run(tmp_path / "in")
    assert not (tmp_path / "sets").exists()


def test_a_folder_whose_images_are_all_damaged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="none of the 1 images can be used:\n  a.png: unreadable"):
        run(tmp_path / "in")
    assert list((tmp_path / "sets").iterdir()) == []


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x")
    with pytest.raises(DataError, match="it is neither"):
        open_source(tmp_path / "a.tar")
    with pytest.raises(DataError, match="no such file"):
        open_source(tmp_path / "none")
