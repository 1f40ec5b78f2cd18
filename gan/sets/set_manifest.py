"""What does set.json say about a data set?"""

import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gan.errors import DataError
from gan.sets.sources.base import Form, printable

MANIFEST = "set.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHARD_BYTES = 64_000_000  # of pixels
SPLITS: tuple["SplitName", "SplitName"] = ("train", "test")
SplitName = Literal["train", "test"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 in hex.")]


class Strict(BaseModel):
    """A part of set.json or card.json: unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileOfSet(Strict):
    """The size and the SHA-256 of one file of a set."""

    size: int = Field(ge=0, description="Bytes.")
    sha256: Sha256


class SizeBefore(Strict):
    """How many images had one size before they were resized."""

    width: int = Field(ge=1)
    height: int = Field(ge=1)
    count: int = Field(ge=1)


class Facts(Strict):
    """What a person says about a set. It is no part of the set's identity, and can be given again later."""

    license: str | None = Field(None, description="The licence of the images.")
    attribution: str | None = Field(None, description="Who must be named where the images are shown.")
    source: str | None = Field(None, description="Where the images come from.")
    private: bool = Field(
        False, description="No card, report or file of a run shows its images, and no bucket gets them."
    )


class SetManifest(Strict):
    """A data set: what is stored, and how it was made of its source."""

    version: Literal[1] = 1
    name: str = Field(pattern=f"^{NAME.pattern}$")
    sha256: Sha256 = Field(description="The identity of the set: of its pixels, labels, class names and split.")
    side: int = Field(ge=1, le=1024, description="Height and width of an image in pixels.")
    channels: Literal[1, 3] = Field(description="1: grey. 3: red, green, blue.")
    classes: list[str] = Field(description="Names of the classes, by label. Empty: there are no labels.")
    counts: dict[SplitName, list[int]] = Field(description="Images by split and class; one number without labels.")
    files: dict[str, FileOfSet] = Field(description="The files of pixels and labels, by name.")
    test_share: float | None = Field(description="The share of the test images; null: the source had its own split.")
    background: str = Field(pattern="^[0-9a-f]{6}$", description="What transparent pixels show, as RRGGBB.")
    filter: str = Field(description="Pillow's filter that resized the images.")
    pillow: str = Field(description="The version of Pillow that decoded them. Another one may decode other pixels.")
    facts: Facts = Facts()
    sizes_before: list[SizeBefore] = Field(description="The most frequent sizes of the images before, at most 20.")
    num_sizes_before: int = Field(ge=1, description="How many different sizes there were.")
    converted: dict[str, int] = Field(description="Images that were more than resized, by kind: palette, rotated, ...")
    left_out: dict[str, int] = Field({}, description="Files that are not in the set, by reason: unreadable, link, ...")

    @property
    def form(self) -> Form:
        red, green, blue = bytes.fromhex(self.background)
        return Form(self.side, self.channels, (red, green, blue))

    @property
    def shape_words(self) -> str:
        """Return side and channels in words."""
        return f"{self.side}x{self.side} {'grey' if self.channels == 1 else 'colour'}"

    @property
    def address(self) -> str:
        """Return the name by which this set, and no other, is found."""
        return f"{self.name}@{self.sha256}"

    def num_images(self, split: SplitName) -> int:
        return sum(self.counts[split])

    @property
    def num_pixel_bytes(self) -> int:
        """Return the size of all pixels of the set together."""
        return self.form.num_bytes * sum(self.num_images(split) for split in SPLITS)

    def to_bytes(self) -> bytes:
        """Return the bytes of set.json."""
        return json.dumps(self.model_dump(), indent=2, ensure_ascii=True).encode() + b"\n"

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Self:
        """Read a set.json. Raises DataError where it is damaged, of another version, or contradicts itself."""
        try:
            document = json.loads(raw)
            version = document.get("version", 1) if isinstance(document, dict) else 1
            if version != 1:
                raise DataError(
                    f"{where} has version {version!r}, expected 1: another version of gan-train wrote it. Use that one."
                )
            manifest = cls.model_validate(document)
        except (ValidationError, ValueError, RecursionError) as error:
            raise DataError(f"{where} is damaged: {_fault(error)}. Import or fetch the set again.") from error
        if fault := manifest._contradiction():
            raise DataError(f"{where} is damaged: {fault}. Import or fetch the set again.")
        return manifest

    def _contradiction(self) -> str:
        num_labels = max(1, len(self.classes))
        if {len(self.counts.get(split, [])) for split in SPLITS} != {num_labels}:
            return f"counts expected {num_labels} numbers for each split"
        if min(min(counts) for counts in self.counts.values()) < 0:
            return "a count is negative"
        expected = {name for split in SPLITS for name in file_names(self.form, split, self.num_images(split))}
        if self.files.keys() != expected:
            return f"files expected {sorted(expected)}, found {sorted(self.files)}"
        return ""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the set.json of a folder `SETS/NAME/SHA`. Raises DataError; also where the folder has another name."""
        path = folder / MANIFEST
        where = printable(str(path))
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise DataError(f"{where} cannot be read ({error.strerror}). Import or fetch the set again.") from error
        manifest = cls.parse(raw, where)
        if (manifest.name, manifest.sha256) != (folder.parent.name, folder.name):
            raise DataError(f"{where} is of {manifest.address}, which is not the set of its folder. Rename the folder.")
        return manifest


def images_per_shard(form: Form) -> int:
    return max(1, SHARD_BYTES // form.num_bytes)


def shard_name(split: SplitName, number: int) -> str:
    return f"{split}-images-{number:03d}.npy"


def labels_name(split: SplitName) -> str:
    return f"{split}-labels.npy"


def file_names(form: Form, split: SplitName, num_images: int) -> list[str]:
    """Return the names of the files of a split."""
    num_shards = -(-num_images // images_per_shard(form))
    return [labels_name(split), *(shard_name(split, number) for number in range(num_shards))]


def _fault(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return printable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    return f"it is not a JSON document ({printable(str(error))})"
