"""Which files of a run in training are damaged, and how are they made again?

The journal has the SHA-256 with which each file was written.
"""

import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from gan.errors import RunError
from gan.files import atomic_write, sha256_file
from gan.runs import checkpoint, layout
from gan.runs.journal import Journal, unreadable

IN_REPORT = (layout.CONFIG, layout.PROVENANCE, layout.REALS, layout.GRIDS, layout.NEIGHBOURS)
MADE_AGAIN = (layout.REALS, layout.NEIGHBOURS, layout.REPORT_FOLDER)  # each time that they are missing
FROM_JOURNAL = (layout.METRICS, layout.LOSSES)  # the run writes them anew from its journal

log = logging.getLogger(__name__)


def damaged_files(journal: Journal, prefixes: tuple[str, ...] = ("",)) -> list[str]:
    """List the files whose names begin so, and which do not have the content with which they were entered.

    Raises:
        RunError: one of them cannot be read.
    """
    names = (name for name in journal.hashes() if name.startswith(prefixes) and name not in FROM_JOURNAL)
    paths = {name: journal.run_path / name for name in sorted(names)}
    try:
        return journal.differing({name: sha256_file(path) for name, path in paths.items() if path.is_file()})
    except OSError as error:
        raise unreadable(journal.run_path, error) from error


def check_report_files(run_path: Path) -> None:
    """Raise RunError where a file that a report shows is damaged. A run without a journal passes.

    Other files may change meanwhile, since a run in training can be reported on.
    """
    if damaged := damaged_files(Journal(run_path), IN_REPORT):
        raise _damaged(run_path, damaged)


def check_entered(run_path: Path, hashes: Mapping[str, str]) -> None:
    """Raise RunError where one of these files, with their SHA-256, is damaged. A run without a journal passes."""
    if damaged := Journal(run_path).differing(hashes):
        raise _damaged(run_path, damaged)


def mend(run_path: Path, *, from_scratch: bool = False) -> None:
    """Make the damaged files of a run in training again, or go back to the checkpoint before them.

    With `from_scratch`, mend only the small files that stay then.

    Raises:
        RunError: a file cannot be read; or a damaged one has no checkpoint before it. Then no checkpoint was deleted.
        StorageError: the directory cannot be written.
    """
    journal = Journal(run_path)
    if not journal or (run_path / layout.MANIFEST).exists():
        return
    texts = journal.texts()
    damaged = damaged_files(journal)
    for name in texts.keys() & damaged:
        log.warning("%s was damaged; it is written again from the journal", run_path / name)
        atomic_write(run_path / name, texts[name].encode())
    if not from_scratch:
        _discard_what_is_made_again(run_path, damaged)
        _go_back(run_path, [name for name in damaged if _step_of(name) is not None])


def _discard_what_is_made_again(run_path: Path, damaged: list[str]) -> None:
    for name in damaged:
        if name.startswith(MADE_AGAIN):
            log.warning("%s was damaged; it is made again", run_path / name)
            (run_path / name).unlink()
    if any(name.startswith(layout.TENSORBOARD) for name in damaged):  # one attempt's losses may be in several files
        log.warning("%s was damaged; it is made again", run_path / layout.TENSORBOARD)
        shutil.rmtree(run_path / layout.TENSORBOARD)


def _go_back(run_path: Path, damaged: list[str]) -> None:
    """Delete the checkpoints from the first damaged file on, so that the training makes these files again.

    Checkpoints after the newest good one stay: the run finds by itself that they are damaged.
    """
    broken = {step for name in damaged if (step := _step_of(name)) is not None}
    good = [step for step in layout.checkpoint_steps_in(run_path) if not broken & {step}]
    again = [name for name in damaged if _step_of(name) in {step for step in broken if good and step <= good[0]}]
    if not again:
        return
    first = min(filter(None, map(_step_of, again)), default=0)
    before = next((step for step in good if step < first), None)
    if before is None:
        raise _damaged(run_path, again)
    log.warning("%s: damaged; the training resumes after step %d to make it again", ", ".join(again), before)
    checkpoint.discard_after(run_path, before)


def _step_of(name: str) -> int | None:
    """Return the step of a grid, a checkpoint or its sidecar; None for another file."""
    step = layout.grid_step(name)
    return layout.checkpoint_step(name.removesuffix(".sha256")) if step is None else step


def _damaged(run_path: Path, names: Iterable[str]) -> RunError:
    return RunError(
        f"{run_path}: damaged since it was written: {', '.join(names)}. Restore it from a copy, or resume the run: "
        "what a checkpoint leads to is then made again. Without one, train again with --from-scratch."
    )
