"""Render the letters of fonts as a folder of images: 26 classes, upper and lower case, of several sizes.

    python -m benchmarks.render_glyphs /usr/share/fonts glyphs

A font that lacks a letter is left out, and so is one whose letters are those of another font. glyphs.licenses.txt says
which Debian packages the fonts are of, and which licences their copyright files name.
"""

import argparse
import functools
import hashlib
import re
import string
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFont

SIDES = (28, 32, 40, 56, 80)  # of the pictures, in turn
FILL = 0.72  # of the side, by the font's size
MISSING = "\U0010fffe"  # no font has it, so its picture is that of every letter that is missing
SUFFIXES = (".ttf", ".otf", ".pfb")
DOCS = Path("/usr/share/doc")
MAX_LICENSE = 40  # letters of a licence's name


def letter_picture(font: ImageFont.FreeTypeFont, letter: str, side: int) -> Image.Image:
    """Draw a letter, white on black, in the middle of a square picture."""
    picture = Image.new("L", (side, side))
    left, top, right, bottom = font.getbbox(letter)
    place = ((side - left - right) / 2, (side - top - bottom) / 2)
    ImageDraw.Draw(picture).text(place, letter, fill=255, font=font)
    return picture


def alphabet(path: Path, side: int) -> list[Image.Image]:
    """Return the pictures of all letters; none where the font lacks one of them or cannot be read."""
    try:
        font = ImageFont.truetype(path, round(FILL * side))
        missing = letter_picture(font, MISSING, side)
        pictures = [letter_picture(font, letter, side) for letter in string.ascii_letters]
    except (OSError, ValueError):
        return []
    is_whole = all(each.getbbox() and ImageChops.difference(each, missing).getbbox() for each in pictures)
    return pictures if is_whole else []


def fonts(folder: Path) -> Iterator[tuple[Path, list[Image.Image]]]:
    """Yield the fonts of a folder with their letters, each alphabet once."""
    seen: set[bytes] = set()
    paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and not path.is_symlink())
    for path in paths:
        compared = alphabet(path, SIDES[0])
        digest = hashlib.sha256(b"".join(each.tobytes() for each in compared)).digest()
        if compared and digest not in seen:
            yield path, alphabet(path, SIDES[len(seen) % len(SIDES)])
            seen.add(digest)


@functools.cache
def packages_by_file() -> dict[str, str]:
    """Return the Debian package of each file of the font packages; dpkg keeps a list of files for each package."""
    lists = Path("/var/lib/dpkg/info").glob("fonts-*.list")
    return {line: listed.stem for listed in lists for line in listed.read_text().splitlines()}


def licenses_of(package: str) -> list[str]:
    """Return the licences that a package's copyright file names; a line that is longer than a name is none."""
    path = DOCS / package / "copyright"
    text = path.read_text(errors="replace") if path.exists() else ""
    found = re.findall(rf"^License:[ \t]*(\S.{{0,{MAX_LICENSE}}})$", text, re.MULTILINE)
    return sorted({name.strip() for name in found}) or ["in its copyright file"]


def render(folder: Path, out: Path) -> Counter[str]:
    """Write OUT/LETTER/NUMBER-FONT-u.png and -l.png for each font and letter. Return the fonts of each package."""
    packages: Counter[str] = Counter()
    for number, (path, pictures) in enumerate(fonts(folder)):
        packages[packages_by_file().get(str(path), "of no package")] += 1
        for letter, picture in zip(string.ascii_letters, pictures, strict=True):
            (out / letter.upper()).mkdir(parents=True, exist_ok=True)
            case = "u" if letter.isupper() else "l"
            picture.save(out / letter.upper() / f"{number:04d}-{path.stem}-{case}.png")
    return packages


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the images and their licences, and print how many there are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("fonts", type=Path, help="folder of fonts")
    parser.add_argument("out", type=Path, help="new folder of the images")
    options = parser.parse_args(arguments)
    if options.out.exists():
        parser.error(f"{options.out} exists. Name a new folder, so that its images are of these fonts alone.")
    packages = render(options.fonts, options.out)
    if not packages:
        parser.error(f"{options.fonts} has no font with all letters, a to z and A to Z.")
    licenses: Counter[str] = Counter()
    lines = []
    for name, count in sorted(packages.items()):
        found = licenses_of(name)
        licenses.update(dict.fromkeys(found, count))
        lines.append(f"{name}: {count} fonts; {', '.join(found)}\n")
    Path(f"{options.out}.licenses.txt").write_text("".join(lines))
    summary = ", ".join(f"{name} ({count} fonts)" for name, count in licenses.most_common())
    sys.stdout.write(f"{packages.total()} fonts of {len(packages)} packages: {summary}\n")


if __name__ == "__main__":
    main()
