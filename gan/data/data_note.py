"""What does a run, or a champion, say about the imported data set that it is of?"""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from gan.data.dataset import Dataset


class DataNote(BaseModel):
    """What a run, and a champion, say about the imported data set that they are of, where it is not at hand."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="The identity of the set.")
    classes: list[str] = Field([], description="Their names, by label. Empty: there are no labels, or none is known.")
    license: str | None = Field(None, description="The licence of the images.")
    source: str | None = Field(None, description="Where the images come from.")
    attribution: str | None = Field(None, description="Who must be named where the images are shown.")
    private: bool = Field(False, description="No file of a run shows its images.")

    @field_validator("classes")
    @classmethod
    def _escape_each(cls, names: list[str]) -> list[str]:
        return [one_line(name) for name in names]

    @field_validator("license", "source", "attribution")
    @classmethod
    def _escape(cls, text: str | None) -> str | None:
        return text and one_line(text)

    @classmethod
    def of(cls, data: Dataset) -> Self | None:
        """Return what there is to say of a data set; None where it is MNIST, or the files of a folder."""
        if data.judge_folder is None or data.address is None:
            return None
        name, sha256 = data.address.split("@")
        classes, rights = list(data.classes), data.rights._asdict()
        return cls(name=name, sha256=sha256, classes=classes, private=data.is_private, **rights)

    @classmethod
    def at(cls, address: str) -> Self:
        """Return what NAME@SHA-256 alone says. Raises ValueError for anything else."""
        name, _, sha256 = address.partition("@")
        return cls(name=name, sha256=sha256)

    @property
    def address(self) -> str:
        """Return NAME@SHA-256."""
        return f"{self.name}@{self.sha256}"

    @property
    def rights(self) -> dict[str, str]:
        """Return licence, source and attribution as pages show them, by name; nothing is left out silently."""
        found = {"licence": self.license, "source": self.source, "attribution": self.attribution}
        return {name: text or "not given" for name, text in found.items()}


def one_line(text: str) -> str:
    """Return a text of a set's card as it can be shown in one line: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
