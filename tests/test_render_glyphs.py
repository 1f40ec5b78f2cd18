"""Are all letters of a font rendered?

A font that is there twice counts once. A file that is no font is left out.
"""

from pathlib import Path

import pytest
from PIL import Image, ImageFont

from benchmarks.render_glyphs import SIDES, licenses_of, main


@pytest.fixture
def fonts(tmp_path: Path) -> Path:
    """Return a folder with Pillow's own font, twice, and a file that is none."""
    font = ImageFont.load_default(20)
    assert isinstance(font, ImageFont.FreeTypeFont)
    (tmp_path / "fonts/more").mkdir(parents=True)
    for name in ("first.ttf", "more/same.otf"):
        (tmp_path / "fonts" / name).write_bytes(font.font_bytes)
    (tmp_path / "fonts/broken.ttf").write_bytes(font.font_bytes[:100])
    return tmp_path / "fonts"


def test_each_letter_of_a_font_becomes_an_image_of_its_class(
    fonts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(fonts), str(tmp_path / "glyphs")])
    written = sorted(str(path.relative_to(tmp_path / "glyphs")) for path in tmp_path.rglob("*.png"))
    assert len(written) == 52 and written[:2] == ["A/0000-first-l.png", "A/0000-first-u.png"]
    with Image.open(tmp_path / "glyphs/A/0000-first-u.png") as picture:
        assert picture.size == (SIDES[0], SIDES[0]) and picture.getextrema() == (0, 255)
    assert capsys.readouterr().out == "1 fonts of 1 packages: in its copyright file (1 fonts)\n"
    assert (tmp_path / "glyphs.licenses.txt").read_text() == "of no package: 1 fonts; in its copyright file\n"


def test_the_licences_of_a_package_are_those_of_its_copyright_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.render_glyphs.DOCS", tmp_path)
    (tmp_path / "fonts-x").mkdir()
    text = "License: MIT or OFL-1.1\n text\nLicense: GPL-2+\nLicense: " + "a sentence, " * 9
    (tmp_path / "fonts-x/copyright").write_text(text)
    assert licenses_of("fonts-x") == ["GPL-2+", "MIT or OFL-1.1"]


def test_a_folder_that_exists_and_one_without_fonts_are_refused(
    fonts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, out, said in (
        (fonts, fonts, "Name a new folder"),
        (tmp_path / "none", tmp_path / "new", "has no font"),
    ):
        with pytest.raises(SystemExit):
            main([str(folder), str(out)])
        assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
