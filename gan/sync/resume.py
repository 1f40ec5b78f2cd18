"""How does a run resume from a store, on a machine that does not have its directory?

Everything from the store is checked before it is used: names that would leave the directory are refused, damaged files
are left out. The newest checkpoint is downloaded last, after all other files that a resume from it needs. So an
interrupted download is recognised: its directory does not have the newest checkpoint.
"""

import logging
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np

from gan.engine.state import LOSSES, read_health
from gan.errors import CheckpointError, ChecksumError, ConfigMismatchError, RunError
from gan.files import atomic_write, temporary_folder
from gan.runs import checkpoint, journal, layout
from gan.runs.checkpoint import Position
from gan.runs.config_file import parse_config
from gan.runs.derived import read_lines, whole_checkpoint, write_losses_and_metrics
from gan.runs.journal import History, Journal
from gan.runs.repair import damaged_files
from gan.runs.run_dir import RunDir
from gan.storage.base import check_key
from gan.sync.fetch import download, fetch_published
from gan.sync.lease import Lease
from gan.sync.publish import complete, is_decided
from gan.sync.stored_run import StoredRun
from gan.sync.uploader import stored_position

log = logging.getLogger(__name__)


def fetch_run(lease: Lease, run_path: Path, *, from_scratch: bool = False) -> None:
    """Download what a run's directory lacks. Change nothing where it is as far as the store, or the run is new.

    With `from_scratch`, download only what is written once: config, provenance and real images.

    Raises:
        ConfigMismatchError: directory and store have runs of different configs under this id.
        CheckpointError: the store has checkpoints, but none can be resumed from.
        ChecksumError: a file that is written once, or a file of a published run, is damaged.
        RunError: the config is damaged; or the run is published, and the directory has a file that no run writes.
        StorageError: the store cannot be read, or a name in it would leave the directory.
    """
    manifest = complete(lease) if is_decided(lease) else None
    versions = lease.versions(discarded=from_scratch)
    for run, names in versions.items():
        for name in names:
            check_key(name, run.where())
    versions = {run: names for run, names in versions.items() if layout.CONFIG in names}
    if manifest is None and not from_scratch:
        _restore_damaged(versions, run_path)
    for run in versions:
        _check_same_config(run, RunDir(run_path))
    if manifest is not None:
        if from_scratch:
            raise RunError(f"{lease.run.where()} is published. Start another run instead of using --from-scratch.")
        newest_step = max(layout.checkpoint_steps(manifest.files), default=0)
        is_complete = _has_config(run_path) and newest_step <= _position_on_disk(run_path).step
        if not is_complete and not (run_path / layout.MANIFEST).exists():
            fetch_published(lease.run, manifest, run_path)
    elif from_scratch:
        for run, names in list(versions.items())[:1]:
            _fetch_written_once(run, names, run_path)
    else:
        _fetch_newest(versions, run_path)


def _fetch_newest(versions: dict[StoredRun, set[str]], run_path: Path) -> None:
    """Download the version that is furthest; where it cannot be resumed from, the next one."""
    failure = None
    histories = {run: _stored_history(run, names) for run, names in versions.items()}
    for run, (newest, steps) in sorted(histories.items(), key=lambda item: item[1][0].progress, reverse=True):
        if newest.progress <= _position_on_disk(run_path).progress:
            return
        log.info("downloading run %s, step %d, from %s", run.run_id, newest.step, run.store.address)
        _delete_other_attempts(run_path, newest)
        try:
            return _fetch_unfinished(run, versions[run], RunDir(run_path), steps)
        except CheckpointError as error:
            log.warning("%s", error)
            failure = failure or error
    if failure:
        raise failure


def _stored_history(run: StoredRun, names: set[str]) -> tuple[Position, list[int]]:
    """Return the position of the store's furthest checkpoint, and the steps of those that lead to it, ascending.

    A checkpoint with a damaged header may lead to it; it is downloaded and then found to be damaged.
    """
    positions = {step: stored_position(run, step) for step in layout.checkpoint_steps(names)}
    known = [position or Position((), step) for step, position in positions.items()]
    newest = max(known, key=lambda position: position.progress, default=Position())
    steps = [step for step, position in positions.items() if position is None or position.leads_to(newest.rewinds)]
    return newest, steps


def _delete_other_attempts(run_path: Path, newest: Position) -> None:
    """Delete the checkpoints of a directory that do not lead to a position."""
    for step in layout.checkpoint_steps_in(run_path):
        position = checkpoint.position_of(run_path, step)
        if position and not position.leads_to(newest.rewinds):
            checkpoint.delete(run_path, step)


def _fetch_unfinished(run: StoredRun, names: set[str], run_dir: RunDir, steps: list[int]) -> None:
    """Download what a resume needs: good checkpoints up to the newest one that has all grids before it."""
    _fetch_written_once(run, names, run_dir.path)
    pieces = [name for name in names if layout.journal_number(name) is not None]
    for name in (layout.PROCESSES, *([] if pieces else [layout.METRICS])):
        if name in names:
            _fetch(run, name, run_dir.path)
    _fetch_journal(run, pieces, run_dir.path)
    last_good = _fetch_grids(run, names, run_dir, steps[-1])
    fetched = [step for step in steps if step <= last_good and _fetch_checkpoint(run, run_dir.path, step)]
    if not fetched:
        raise CheckpointError(
            f"{run.where(layout.CHECKPOINTS)}: none of the {len(steps)} verifies and has all grids before it. "
            "Restore them from a copy, or train the run again from the start with --from-scratch."
        )
    _rebuild(run_dir)


def _fetch_written_once(run: StoredRun, names: set[str], run_path: Path) -> None:
    """Download what is written once. The config comes last, since it makes the folder a run directory."""
    for name in reversed(layout.WRITTEN_ONCE):
        if name in names:
            atomic_write(run_path / name, run.get(name))


def _fetch(run: StoredRun, name: str, run_path: Path) -> bool:
    """Download a file; return False, with a warning, where it is damaged."""
    try:
        atomic_write(run_path / name, run.get(name))
    except ChecksumError as error:
        log.warning("%s", error)
        return False
    return True


def _fetch_journal(run: StoredRun, pieces: list[str], run_path: Path) -> None:
    """Replace the journal of the directory, whose last pieces may be of another holder, once all pieces are here."""
    with temporary_folder() as folder:
        fetched = [name for name in pieces if _fetch(run, name, folder)]
        journal.delete(run_path)
        for name in fetched:
            atomic_write(run_path / name, (folder / name).read_bytes())


def _fetch_grids(run: StoredRun, names: set[str], run_dir: RunDir, newest_step: int) -> int:
    """Download the grids up to a step; return the step up to which none is missing or damaged."""
    config = run_dir.read_config()
    steps = list(range(config.snapshot_steps, newest_step + 1, config.snapshot_steps))
    if newest_step == config.num_steps and newest_step not in steps:
        steps.append(newest_step)
    for step in steps:
        name = layout.grid(step)
        if name not in names or not _fetch(run, name, run_dir.path):
            log.warning("%s is missing or damaged: resuming before step %d to draw it again", run.where(name), step)
            return step - 1
    return newest_step


def _fetch_checkpoint(run: StoredRun, run_path: Path, step: int) -> bool:
    """Download a checkpoint and its sidecar; return False, with a warning, where its SHA-256 is not the sidecar's."""
    name = layout.checkpoint(step)
    path = run_path / name
    sidecar = checkpoint.sidecar_of(path)
    try:
        sha256 = layout.sha256_in(run.read(layout.sidecar(name)) or b"")
        if not sha256:
            raise ChecksumError(f"{run.where(name)} has no sidecar with its SHA-256.")
        atomic_write(sidecar, layout.sidecar_content(path.name, sha256))
        download(run, name, path, sha256)
    except ChecksumError as error:
        sidecar.unlink(missing_ok=True)
        log.warning("%s Trying the other checkpoints.", error)
        return False
    return True


def _rebuild(run_dir: RunDir) -> None:
    """Write the losses and metrics that the checkpoint leads on from; the training makes TensorBoard's events again."""
    ours = Journal(run_dir.path)
    found = checkpoint.use_newest(run_dir.path, lambda found: whole_checkpoint(ours, found))
    assert found is not None
    losses = np.stack([found.tensors[name].numpy() for name in LOSSES], 1)
    lines = read_lines(ours, read_health(found.tensors).rewinds, found.step)
    shutil.rmtree(run_dir.tensorboard_dir, ignore_errors=True)
    with run_dir.disk_errors():
        write_losses_and_metrics(run_dir, History(losses, lines))


def _restore_damaged(versions: dict[StoredRun, set[str]], run_path: Path) -> None:
    """Download damaged files of the run directory, where the store has them as they were entered in the journal."""
    ours = Journal(run_path)
    hashes = ours.hashes()
    for name in damaged_files(ours):
        for run in (run for run, names in versions.items() if name in names):
            with suppress(ChecksumError):
                download(run, name, run_path / name, hashes[name][-1])
                log.warning("%s was damaged; it is restored from %s", run_path / name, run.where(name))
                break


def _check_same_config(run: StoredRun, run_dir: RunDir) -> None:
    """Raise ConfigMismatchError where the run directory and the store hold two different runs."""
    if not _has_config(run_dir.path):
        return
    ours = run_dir.read_config()
    theirs = parse_config(run.read(layout.CONFIG) or b"", run.where(layout.CONFIG))
    if lines := ours.differences(theirs):
        raise ConfigMismatchError(
            f"{run_dir.path} and {run.where()} are two runs, with different configs:\n  "
            + "\n  ".join(lines)
            + "\nGive one of them another run id, or another store."
        )


def _has_config(run_path: Path) -> bool:
    return (run_path / layout.CONFIG).exists()


def _position_on_disk(run_path: Path) -> Position:
    """Return the position of the newest checkpoint on disk whose header is readable; the beginning without one."""
    positions = (checkpoint.position_of(run_path, step) for step in layout.checkpoint_steps_in(run_path))
    return next((position for position in positions if position), Position())
