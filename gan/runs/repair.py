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
from gan.runs.journal import Journal

MADE_AGAIN = (layout.REALS, layout.NEIGHBOURS, layout.REPORT_FOLDER)  # each time that they are missing
FROM_JOURNAL = (layout.METRICS, layout.LOSSES)  # the run writes them anew from its journal

log = logging.getLogger(__name__)


def damaged_files(journal: Journal) -> list[str]:
    """List the files of a run directory that do not have the content with which they were entered.

    Raises:
        OSError: one of them cannot be read.
    """
    paths = {name: journal.run_path / name for name in journal.hashes() if name not in FROM_JOURNAL}
    found = {name: sha256_file(path) for name, path in sorted(paths.items()) if path.is_file()}
    return journal.differing(found)


def check_entered(run_path: Path, found: Mapping[str, str] | None = None) -> None:
    """Raise RunError where a file of a run directory is damaged. A run without a journal passes.

    `found` are the SHA-256 of the files where they are known already. Then metrics.jsonl and losses.npz, which the end
    of a training enters, are compared, too.
    """
    journal = Journal(run_path)
    if damaged := damaged_files(journal) if found is None else journal.differing(found):
        raise _damaged(run_path, damaged)


def mend(run_path: Path, *, from_scratch: bool = False) -> None:
    """Make the damaged files of a run in training again, or go back to the checkpoint before them.

    With `from_scratch`, mend only the small files that stay then.

    Raises:
        RunError: there is no checkpoint before a damaged file. Nothing of the training was deleted.
        StorageError: the directory cannot be read or written.
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
