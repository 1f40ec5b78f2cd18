"""Does a report name the data set of its run, with licence, source, attribution and classes, and without the set?"""

from pathlib import Path

import pytest

from gan.data.data_note import DataNote
from gan.errors import RunError
from gan.report.page import render
from gan.runs.run_dir import RunDir
from tests.gan.report.test_page import HOSTILE, Page
from tests.support.sample_run import write_sample_run

NOTE = DataNote(
    name="pets",
    sha256="a" * 64,
    classes=["cat", "ant & co", *"cdefgh", HOSTILE, "last"],
    license="CC BY 4.0",
    source=f"a {HOSTILE} box",
    attribution="A.\nPainter\x1b[2J \udcff",
)


def page_of(path: Path, note: DataNote | None, data: str | None = NOTE.address, **provenance: object) -> Page:
    run = write_sample_run(path, evaluated=[3000], data_set=note, **provenance)
    run.write_config(run.read_config().model_copy(update={"data": data}))
    render(run)
    return Page(run)


def test_the_data_set_is_named_and_every_text_is_escaped(tmp_path: Path) -> None:
    page = page_of(tmp_path / "run", NOTE)
    for said in (
        "Data pets, A.\\nPainter\\x1b[2J \\udcff",
        "licence CC BY 4.0",
        f"source a {HOSTILE} box",
        "attribution A.\\nPainter\\x1b[2J \\udcff",
        f"classes 0: cat, 1: ant & co, 2: c, 3: d, 4: e, 5: f, 6: g, 7: h, 8: {HOSTILE}, 9: last",
    ):
        assert said in page.text
    assert page.count("script") == 2 and not any("onerror" in attrs for _, attrs in page.elements)
    [chart] = [attrs["aria-label"] for tag, attrs in page.elements if tag == "svg" and attrs.get("role") == "img"]
    assert chart and chart.startswith("cat: 10.0%, ant & co: 10.0%, ")


def test_what_a_card_did_not_say_is_said(tmp_path: Path) -> None:
    page = page_of(tmp_path / "run", DataNote.at(NOTE.address))
    assert "licence not given source not given attribution not given classes none is known" in page.text


def test_a_run_of_before_names_its_set_only(tmp_path: Path) -> None:
    page = page_of(tmp_path / "run", None)
    assert "Data pets " in page.text and "licence not given" in page.text
    with pytest.raises(RunError, match="its config names the data set pets, expected NAME@SHA-256"):
        page_of(tmp_path / "odd", None, data="pets")


def test_the_page_of_a_private_set_says_why_it_shows_no_image(tmp_path: Path) -> None:
    page = page_of(tmp_path / "run", NOTE.model_copy(update={"private": True}))
    assert "The real images are not shown: the data set is private" in page.text
    assert "Real, from the data set" not in page.text


def test_a_run_on_mnist_says_what_it_said(tmp_path: Path) -> None:
    page = page_of(tmp_path / "run", None, data=None)
    assert "SHA-256 of each file's raw content." in page.text and "licence" not in page.text
    assert "data_set" not in RunDir(tmp_path / "run").provenance_path.read_text()
