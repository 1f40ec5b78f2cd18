"""What has a run written so far, and with which content?

A run in training has a folder `journal/` of numbered pieces: one for each snapshot, and a few more. A piece is written
before the files that it names, and is never changed. It holds the SHA-256 of these files, the losses and the lines of
metrics.jsonl since the piece before, and the text of small files that cannot be computed again. So a file that was
damaged later is found, and another machine resumes from checkpoints and pieces. When the run has its manifest, which
has the SHA-256 of every file, the journal is deleted.
"""

import base64
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from gan.errors import CheckpointError, RunError
from gan.files import atomic_write, sha256_bytes, write_new
from gan.runs import layout
from gan.runs.manifest import Sha256
from gan.runs.run_dir import MetricsLine

TEXTS = {layout.CONFIG, layout.PROVENANCE, layout.PROCESSES}  # files that cannot be computed again


class Interval(BaseModel):
    """The steps that a piece adds to those before it. `rewinds` is explained at gan.runs.checkpoint.Position."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rewinds: tuple[NonNegativeInt, ...] = ()
    after_step: int = Field(description="What earlier pieces hold of later steps is discarded.")
    step: int
    losses: str = Field(description="g_loss and d_loss of each step, float32, little-endian, in base64.")
    lines_kept: int = Field(description="So many lines of metrics.jsonl stay of those before.")
    lines: tuple[MetricsLine, ...]

    @classmethod
    def of(cls, losses: np.ndarray, **fields: object) -> Self:
        """Return an interval with these losses, float32 (N, 2)."""
        return cls.model_validate({"losses": base64.b64encode(losses.astype("<f4").tobytes()).decode(), **fields})

    def read_losses(self) -> np.ndarray:
        """Return g_loss and d_loss, float32 (N, 2). Raises ValueError where the text is no losses."""
        return np.frombuffer(base64.b64decode(self.losses, validate=True), "<f4").reshape(-1, 2).astype(np.float32)


class Piece(BaseModel):
    """One piece of a journal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    files: dict[str, Sha256]
    texts: dict[str, str] = {}
    interval: Interval | None = None

    def to_bytes(self) -> bytes:
        """Return the piece as a line of JSON, and its SHA-256 as another line."""
        line = self.model_dump_json().encode()
        return line + b"\n" + sha256_bytes(line).encode() + b"\n"

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read a piece. Raises ValueError, of which a ValidationError is one, where it is damaged."""
        line, _, end = content.partition(b"\n")
        if end != sha256_bytes(line).encode() + b"\n":
            raise ValueError("its SHA-256 is another")
        piece = cls.model_validate_json(line)
        if unknown := piece.texts.keys() - TEXTS:
            raise ValueError(f"it has the text of {', '.join(unknown)}")
        return piece


class History(NamedTuple):
    """The losses and the lines of metrics.jsonl up to a point of a run."""

    losses: np.ndarray  # float32 (step, 2): g_loss and d_loss
    lines: list[MetricsLine]


class Journal:
    """Read the journal of a run directory, and add pieces to it."""

    def __init__(self, run_path: Path) -> None:
        """Read every piece. `lost` are the numbers of damaged ones, and the first of each gap.

        Raises:
            RunError: a piece cannot be read.
        """
        self.run_path = run_path
        self.pieces: dict[int, Piece] = {}
        self.lost: list[int] = []
        self._next = 1
        for name in names(run_path):
            number = layout.journal_number(name) or 0
            if number > self._next:
                self.lost.append(self._next)
            try:
                self.pieces[number] = Piece.parse(self._path(number).read_bytes())
            except ValueError:
                self.lost.append(number)
            except OSError as error:
                raise unreadable(run_path, error) from error
            self._next = number + 1

    def __bool__(self) -> bool:
        """Return whether the run has a journal. Finished runs have none, nor have those of older versions."""
        return self._next > 1

    def begin(self, texts: Mapping[str, bytes], hashes: Mapping[str, str]) -> None:
        """Add the first piece: the SHA-256 of files on the disk, and the content of small ones. Raises as `enter`."""
        self._add({}, hashes, texts)

    def enter(
        self,
        contents: Mapping[str, bytes] = {},
        *,
        hashes: Mapping[str, str] = {},
        texts: Mapping[str, bytes] = {},
        interval: Interval | None = None,
    ) -> None:
        """Add a piece with the SHA-256 of contents and texts, which are written next, and of files on the disk.

        The texts are small files that cannot be computed again: the piece holds their content, too. A run that has no
        journal, because it is finished, gets none. Nothing to enter makes no piece.

        Raises:
            StorageError: the disk refuses the write.
        """
        if self and (contents or hashes or texts or interval):
            self._add(contents, hashes, texts, interval)

    def write(self, name: str, content: bytes) -> None:
        """Enter a file, then write it. Raises StorageError where the disk refuses that."""
        self.enter({name: content})
        atomic_write(self.run_path / name, content)

    def hashes(self) -> dict[str, list[str]]:
        """Return each SHA-256 that was entered for a file, by its name, the last one at the end.

        A killed process may have entered a file that it did not write. So the file may have an earlier one.
        """
        found: dict[str, list[str]] = defaultdict(list)
        for piece in self.pieces.values():
            for name, sha256 in piece.files.items():
                found[name].append(sha256)
        return found

    def differing(self, found: Mapping[str, str]) -> list[str]:
        """List the files that were entered, and of which `found` has another SHA-256."""
        hashes = self.hashes()
        return [name for name, sha256 in found.items() if name in hashes and sha256 not in hashes[name]]

    def texts(self) -> dict[str, str]:
        """Return the newest text of each small file that cannot be computed again."""
        return {name: text for piece in self.pieces.values() for name, text in piece.texts.items()}

    def history(self, rewinds: tuple[int, ...], step: int) -> History:
        """Return the losses and lines up to a position, as the last piece that ends there has them.

        Raises:
            CheckpointError: no piece ends there, or one that is needed is damaged or missing.
        """
        ends = [
            number
            for number, piece in self.pieces.items()
            if piece.interval and (piece.interval.rewinds, piece.interval.step) == (rewinds, step)
        ]
        found = self._replay(ends[-1]) if ends else None
        if found is None:
            lost = ", ".join(layout.journal_piece(number) for number in self.lost)
            why = f" ({lost}: damaged or missing)" if lost else ""
            raise CheckpointError(f"the journal does not have the losses of all its steps{why}.")
        return found

    def newest(self) -> History | None:
        """Return the losses and lines up to the last piece; None where the journal has none, or they are damaged."""
        return self._replay(self._next)

    def _replay(self, last: int) -> History | None:
        """Put the intervals up to a piece together; return None where there is none, or one is missing."""
        intervals = [piece.interval for number, piece in self.pieces.items() if piece.interval and number <= last]
        losses = np.empty((0, 2), np.float32)
        lines: list[MetricsLine] = []
        is_whole = False
        # What a later interval discards is not needed.
        for interval in intervals:
            is_whole = interval.after_step <= len(losses) and interval.lines_kept <= len(lines)
            kept = interval.after_step if is_whole else 0
            losses = np.concatenate([losses[:kept], interval.read_losses()])
            lines = [*lines[: interval.lines_kept], *interval.lines] if is_whole else []
        return History(losses, lines) if is_whole else None

    def _add(
        self,
        contents: Mapping[str, bytes],
        hashes: Mapping[str, str],
        texts: Mapping[str, bytes],
        interval: Interval | None = None,
    ) -> None:
        files = {name: sha256_bytes(content) for name, content in [*contents.items(), *texts.items()]}
        kept = {name: content.decode() for name, content in texts.items()}
        piece = Piece(files=files | dict(hashes), texts=kept, interval=interval)
        while not write_new(self._path(self._next), piece.to_bytes()):
            self._next += 1  # of another process, which draws a report
        self.pieces[self._next] = piece
        self._next += 1

    def _path(self, number: int) -> Path:
        return self.run_path / layout.journal_piece(number)


def pieces_after(run_path: Path, number: int) -> Iterator[tuple[int, Piece]]:
    """Yield the whole pieces after a number, in order, up to the first one that is missing.

    With the number 0, all whole pieces are yielded.
    """
    if not number:
        yield from Journal(run_path).pieces.items()
        return
    with suppress(FileNotFoundError):
        for later in count(number + 1):
            content = (run_path / layout.journal_piece(later)).read_bytes()
            with suppress(ValueError):
                yield later, Piece.parse(content)


def names(run_path: Path) -> list[str]:
    """List the names of the pieces in a run directory, in order."""
    found = (f"{layout.JOURNAL}{path.name}" for path in (run_path / layout.JOURNAL).glob("*"))
    numbers = sorted(filter(None, map(layout.journal_number, found)))
    return [layout.journal_piece(number) for number in numbers]


def unreadable(run_path: Path, error: OSError) -> RunError:
    """Return the error for a file of a run directory that cannot be read."""
    return RunError(f"{error.filename or run_path}: cannot be read ({error.strerror}). Check its permissions and disk.")


def delete(run_path: Path) -> None:
    """Delete the journal of a run, whose manifest has the SHA-256 of every file."""
    shutil.rmtree(run_path / layout.JOURNAL, ignore_errors=True)
