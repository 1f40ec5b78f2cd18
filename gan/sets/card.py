"""What is on the card of a data set?

The card is card.json, and the page card.html with a sheet of images. Both lie beside set.json and can be written again.
"""

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError

from gan.errors import DataError
from gan.files import atomic_write
from gan.sets.card_page import html_page
from gan.sets.contact_sheet import contact_sheet
from gan.sets.duplicates import Duplicates
from gan.sets.set_manifest import SPLITS, SetManifest, Strict
from gan.sets.sources.base import printable

CARD, PAGE = "card.json", "card.html"


class Example(Strict):
    """A file that is not in the set."""

    name: str
    reason: str


class DataCard(Strict):
    """What people should know of a data set before they train on it."""

    version: Literal[1] = 1
    set: SetManifest
    duplicates: Duplicates
    left_out: list[Example] = Field(description="The first files that are not in the set, at most 100.")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the card of a set. Raises DataError where it is missing or damaged."""
        try:
            return cls.model_validate(json.loads((folder / CARD).read_bytes()))
        except OSError as error:
            raise DataError(f"{printable(str(folder / CARD))} cannot be read ({error.strerror}).") from error
        except (ValidationError, ValueError, RecursionError) as error:
            raise DataError(f"{printable(str(folder / CARD))} is damaged. Import the set again.") from error

    def __str__(self) -> str:
        """Return the lines that the command shows."""
        facts, found = self.set.facts, self.duplicates
        lines = [
            f"source {printable(facts.source or 'not given')}",
            f"licence {printable(facts.license or 'not given')}",
            f"attribution {printable(facts.attribution or 'not given')}",
        ]
        if facts.private:
            lines.append("private: no page shows its images")
        train, test = (self.set.counts[split] for split in SPLITS)
        for name, in_train, in_test in zip(self.set.classes, train, test, strict=False):
            lines.append(f"class {name}: {in_train:,} training, {in_test:,} test")
        lines += [
            f"identical: {found.exact_in_train:,} in training, {found.exact_in_test:,} in test, "
            f"{found.exact_between:,} test images in training",
            f"nearly identical: {found.near_in_train:,} in training, {found.near_in_test:,} in test, "
            f"{found.near_between:,} test images in training",
        ]
        lines += [f"left out: {count:,} {reason}" for reason, count in self.set.left_out.items()]
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write card.json and card.html into the folder of the set, which has its pixels. Raises StorageError."""
        document = json.dumps(self.model_dump(), indent=2, ensure_ascii=True).encode() + b"\n"
        sheet = None if self.set.facts.private else contact_sheet(folder, self.set)
        atomic_write(folder / CARD, document)
        page = html_page(self.set, self.duplicates, [(each.name, each.reason) for each in self.left_out], sheet)
        atomic_write(folder / PAGE, page.encode())
