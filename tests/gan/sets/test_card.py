"""Does the card say what a set has, and does its page escape all of it?"""

import base64
import html
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan.errors import DataError
from gan.sets.card import CARD, PAGE, DataCard
from gan.sets.contact_sheet import GAP, contact_sheet
from gan.sets.loading import load_set
from gan.sets.set_import import Imported
from tests.support.pictures import COLOUR, GREY, imported, write_folder

EVIL = "<script>alert(1)</script>\"'&"


def sheet_of(found: Imported) -> np.ndarray:
    [encoded] = re.findall(r'data:image/png;base64,([^"]+)"', (found.folder / PAGE).read_text())
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))


def test_the_page_says_what_the_set_has(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", {"cat": 20, "ant": 10})
    (tmp_path / "in" / "cat" / "bad.png").write_bytes(b"x")
    facts = {"license": "CC0", "source": "a box", "attribution": "me"}
    page = (imported(tmp_path / "in", tmp_path / "sets", **facts).folder / PAGE).read_text()
    for said in (
        "27 training and 3 test images of 28x28 grey, 2 classes",
        '<tr><th scope="row">cat</th><td>18</td><td>2</td></tr>',
        '<tr><th scope="row">28x28</th><td>30</td></tr>',
        '<tr><th scope="row">unreadable</th><td>1</td></tr>',
        "cat/bad.png",
        "<dt>Licence</dt><dd>CC0</dd>",
        "<dt>Source</dt><dd>a box</dd>",
        "<dt>Attribution</dt><dd>me</dd>",
    ):
        assert said in page, said


def test_the_page_needs_no_other_file_and_runs_no_script(tmp_path: Path) -> None:
    page = (imported(write_folder(tmp_path / "in", {"": 10}), tmp_path / "sets").folder / PAGE).read_text()
    page = html.unescape(page)
    assert "default-src 'none'; style-src 'sha256-" in page
    assert re.findall(r'(?:src|href)="(?!data:)', page) == [] and "<script" not in page


def test_what_people_write_is_escaped(tmp_path: Path) -> None:
    facts = {"license": EVIL, "source": EVIL, "attribution": EVIL}
    page = (imported(write_folder(tmp_path / "in", {"<b>": 10}), tmp_path / "sets", **facts).folder / PAGE).read_text()
    assert "<script" not in page and "<b>" not in page
    assert page.count("&lt;script&gt;") == 4 and "&lt;b&gt;" in page  # attribution: also below the images


def test_the_sheet_shows_training_images_of_each_class(tmp_path: Path) -> None:
    found = imported(write_folder(tmp_path / "in", {"a": 200, "b": 8}), tmp_path / "sets")
    sheet = sheet_of(found)
    cell = 28 + GAP
    assert sheet.shape == (10 * cell + GAP, 10 * cell + GAP)
    data = load_set(tmp_path / "sets", "mine")
    shown = [
        sheet[GAP + row * cell :][:28, GAP + column * cell :][:, :28].tobytes()
        for row in range(10)
        for column in range(10)
    ]
    label = {image.tobytes(): label for image, label in zip(data.train_images, data.train_labels, strict=True)}
    assert [label[each] for each in shown] == [0] * 93 + [1] * 7


def test_the_sheet_of_a_set_in_colour_is_in_colour(tmp_path: Path) -> None:
    found = imported(write_folder(tmp_path / "in", {"": 12}), tmp_path / "sets", form=COLOUR)
    assert sheet_of(found).shape == (2 * (32 + GAP) + GAP, 10 * (32 + GAP) + GAP, 3)


def test_many_classes_are_shown_by_their_first_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1500, 28, 28), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(1500) % 150)
    found = imported(tmp_path / "a.npz", tmp_path / "sets", form=GREY)
    assert len(contact_sheet(found.folder, found.manifest)) > 10_000
    assert sheet_of(found).shape == (302, 302)


def test_the_card_of_a_private_set_shows_no_image(tmp_path: Path) -> None:
    found = imported(write_folder(tmp_path / "in", {"": 10}), tmp_path / "sets", private=True)
    page = (found.folder / PAGE).read_text()
    assert "image/png" not in page and "The set is private: no page shows its images." in page


def test_a_damaged_card_is_refused(tmp_path: Path) -> None:
    found = imported(write_folder(tmp_path / "in", {"": 10}), tmp_path / "sets")
    assert DataCard.read(found.folder).set == found.manifest
    (found.folder / CARD).write_text("{}")
    with pytest.raises(DataError, match="card.json is damaged"):
        DataCard.read(found.folder)
