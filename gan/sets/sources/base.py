"""What does every source of a data set give: its pictures, its classes, and what it leaves out?"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

MAX_EXAMPLES = 100  # of what is left out, by name
MAX_CLASSES = 1 << 16  # labels are stored in 16 bits
MAX_PIXELS = 50_000_000  # of one picture, as large cameras take them: 200 MB while it is decoded

Split = str | None  # "train" or "test", where the source has a split of its own


class Form(NamedTuple):
    """The form in which every image of a set is stored."""

    side: int
    channels: int  # 1: grey, 3: red, green, blue
    background: tuple[int, int, int]  # what transparent pixels show

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one image: (side, side), or (3, side, side)."""
        return (self.side, self.side) if self.channels == 1 else (self.channels, self.side, self.side)

    @property
    def num_bytes(self) -> int:
        return self.channels * self.side * self.side


class Picture(NamedTuple):
    """One image in its canonical form."""

    name: str
    pixels: NDArray[np.uint8]  # Form.shape
    label: int  # index into Source.classes; 0 in a source without labels
    split: Split
    size: tuple[int, int]  # width and height before
    changes: frozenset[str]  # what else was converted: palette, transparent, ...


@dataclass
class LeftOut:
    """What a source leaves out: how many by reason, and the first of them by name."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)  # name, reason

    def add(self, name: str, reason: str, detail: str = "") -> None:
        self.counts[reason] += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append((printable(name), f"{reason}: {printable(detail)}" if detail else reason))


class Source(Protocol):
    """Images to import. They are counted when a source is opened, and read one by one."""

    classes: tuple[str, ...]  # () in a source without labels
    num_items: int
    left_out: LeftOut

    def read(self, form: Form) -> Iterator[Picture | None]:
        """Yield each image; None for one that is left out. Raises DataError where the source is damaged."""


def printable(text: str) -> str:
    """Return a name that can be shown and stored: what cannot be printed is escaped, and different names stay so."""
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text)
