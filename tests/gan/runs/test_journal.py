"""Does the journal of a run hold its losses and lines, and is damage to it noticed?"""

import json
from pathlib import Path

import numpy as np
import pytest

from gan.errors import CheckpointError
from gan.files import sha256_bytes
from gan.health import HealthEvent
from gan.runs import layout
from gan.runs.journal import Interval, Journal, Piece, delete, pieces_after

EVENT = HealthEvent(event="not_finite", attempt=1, step=20, since=20, finding="", action="rolled_back", to_step=10,
                    seed=None, vitals=None)  # fmt: skip


def losses(step: int) -> np.ndarray:
    return np.arange(2 * step, dtype=np.float32).reshape(step, 2)


def enter(journal: Journal, after_step: int, step: int, rewinds: tuple[int, ...] = (), **fields: object) -> None:
    given = {"rewinds": rewinds, "after_step": after_step, "step": step, "lines_kept": 0, "lines": (), **fields}
    journal.enter(interval=Interval.of(losses(step)[after_step:], **given))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return a journal with the losses of 10, 20 and 30 steps, in the pieces 2 to 4."""
    journal = Journal(tmp_path)
    journal.begin({layout.CONFIG: b"{}"}, {layout.REALS: "0" * 64})
    for step in (10, 20, 30):
        enter(journal, step - 10, step)
    return journal


def flip_bit(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_pieces_are_read_back(journal: Journal) -> None:
    found = Journal(journal.run_path)
    assert found.pieces == journal.pieces and not found.lost
    assert found.texts() == {layout.CONFIG: "{}"}
    assert found.hashes() == {layout.CONFIG: [sha256_bytes(b"{}")], layout.REALS: ["0" * 64]}
    for step in (10, 20, 30):
        np.testing.assert_array_equal(found.history((), step).losses, losses(step))


def test_a_piece_is_never_changed(journal: Journal) -> None:
    """A second process that reports on the run adds its piece beside those of the training."""
    other = Journal(journal.run_path)
    journal.enter({"a": b"1"})
    other.enter({"b": b"2"})
    journal.enter({"c": b"3"})
    found = Journal(journal.run_path)
    assert [list(piece.files) for piece in found.pieces.values()][4:] == [["a"], ["b"], ["c"]]


def test_what_a_run_was_sent_back_over_is_discarded(journal: Journal) -> None:
    enter(journal, 10, 10, (10,), lines=(EVENT,))
    enter(journal, 10, 20, (10,), lines_kept=1)
    found = Journal(journal.run_path)
    assert found.history((10,), 20).lines == [EVENT]
    np.testing.assert_array_equal(found.history((10,), 20).losses, losses(20))
    assert len(found.history((), 30).losses) == 30 and found.history((), 30).lines == []


@pytest.mark.parametrize("is_deleted", [False, True])
def test_without_one_piece_its_losses_and_those_after_it_are_missing(journal: Journal, is_deleted: bool) -> None:
    path = journal.run_path / layout.journal_piece(3)
    path.unlink() if is_deleted else flip_bit(path, 40)
    found = Journal(journal.run_path)
    assert found.lost == [3]
    assert len(found.history((), 10).losses) == 10
    for step in (20, 30):
        with pytest.raises(CheckpointError, match=r"not have the losses of all its steps \(journal/000003\.jsonl: dam"):
            found.history((), step)
    enter(found, 10, 20)  # trained again
    assert len(Journal(journal.run_path).history((), 20).losses) == 20


def test_every_flipped_bit_of_a_piece_is_noticed() -> None:
    content = Piece(files={layout.REALS: "0" * 64}, interval=None).to_bytes()
    for position in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            with pytest.raises(ValueError):
                Piece.parse(bytes(damaged))


@pytest.mark.parametrize("change", [{"version": 2}, {"texts": {"../../a": "x"}}, {"texts": {"grids/a.png": "x"}}])
def test_a_piece_of_another_version_or_with_other_texts_is_not_taken(change: dict[str, object]) -> None:
    line = json.dumps(json.loads(Piece(files={}).to_bytes().splitlines()[0]) | change).encode()
    with pytest.raises(ValueError):
        Piece.parse(line + b"\n" + sha256_bytes(line).encode() + b"\n")


def test_a_damaged_piece_does_not_hide_those_after_it(journal: Journal) -> None:
    flip_bit(journal.run_path / layout.journal_piece(3), 40)
    assert [number for number, _ in pieces_after(journal.run_path, 1)] == [2, 4]


def test_a_number_that_is_far_away_is_no_long_loop(journal: Journal) -> None:
    (journal.run_path / layout.journal_piece(10**15)).write_bytes(b"")
    assert Journal(journal.run_path).lost == [5, 10**15]


def test_a_run_without_a_journal_enters_nothing(journal: Journal) -> None:
    delete(journal.run_path)
    finished = Journal(journal.run_path)
    finished.write("a", b"1")
    assert not finished and (journal.run_path / "a").read_bytes() == b"1"
    assert not (journal.run_path / layout.JOURNAL).exists()
