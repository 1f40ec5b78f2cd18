"""How does a run go on from a store, on a machine that has not its directory?

What comes from the store is checked before it is used: names that would leave the directory are refused, damaged
files are left out. The newest checkpoint is downloaded last, after all that it vouches for, so that a download that
is cut short can be told from a whole one.
"""

import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from gan.config import TrainConfig
from gan.errors import CheckpointError, ChecksumError, ConfigMismatchError, RunError, StorageError
from gan.files import atomic_write
from gan.runs.manifest import MANIFEST, read_manifest
from gan.runs.run_dir import PNG_SIZE, RunDir, losses_npz
from gan.runs.tensorboard import EventLog
from gan.storage.base import Store, check_key
from gan.sync.fetch import download, fetch_published
from gan.sync.listing import CHECKPOINT
from gan.sync.publish import run_prefix
from gan.sync.uploader import FIXED, METRICS, stored_place
from gan.training import checkpoint
from gan.training.checkpoint import Place

CONFIG = "config.json"

log = logging.getLogger(__name__)


def fetch_run(store: Store, run_id: str, run_path: Path, *, from_scratch: bool = False) -> None:
    """Bring a run directory up to what a store has of its run; leave it alone where it is as far, or the run is new.

    With `from_scratch` only its config, provenance and real digits are taken.

    Raises:
        ConfigMismatchError: directory and store have runs of different configs under this id.
        CheckpointError: there are checkpoints in the store, and none that verifies.
        ChecksumError: the config, or a file of a published run, is damaged.
        RunError: the run is published, and the directory holds another state of it.
        StorageError: the store cannot be read, or names a file that would leave the directory.
    """
    prefix = run_prefix(run_id)
    names = {info.key.removeprefix(prefix) for info in store.list(prefix)}
    for name in names:
        check_key(name, f"{prefix} in {store.address}")
    if CONFIG not in names:
        return
    _check_same_config(store, prefix, RunDir(run_path))
    manifest = read_manifest(store, prefix)
    if manifest is not None:
        if from_scratch:
            raise RunError(f"{prefix} in {store.address} is published: start another run instead of --from-scratch")
        newest = max(_steps(names), default=0)
        if not (run_path / MANIFEST).exists() and (newest > _newest_on_disk(run_path).step or not _is_begun(run_path)):
            fetch_published(store, prefix, manifest, run_path)
    elif from_scratch:
        _take_fixed(store, prefix, names, run_path)
    else:
        newest_place, steps = _history(store, prefix, names)
        if newest_place.progress > _newest_on_disk(run_path).progress:
            log.info("fetching run %s, step %d, from %s", run_id, newest_place.step, store.address)
            _drop_other_tries(RunDir(run_path), newest_place)
            _fetch_unfinished(store, prefix, names, RunDir(run_path), steps)


def _history(store: Store, prefix: str, names: set[str]) -> tuple[Place, list[int]]:
    """Return the place of a store's furthest checkpoint, of the last try, and the steps of those on the way there.

    One whose place cannot be read may be on the way: who takes it will see that it is damaged.
    """
    places = {step: stored_place(store, prefix, step) for step in sorted(_steps(names))}
    known = [place or Place((), step) for step, place in places.items()]
    newest = max(known, key=lambda place: place.progress, default=Place())
    return newest, [step for step, place in places.items() if place is None or place.is_before(newest.rewinds)]


def _drop_other_tries(run: RunDir, newest: Place) -> None:
    """Delete the checkpoints of a directory that are not on the way to a place."""
    for path in checkpoint.newest_first(run.checkpoints_dir):
        place = checkpoint.place_of(path)
        if place and not place.is_before(newest.rewinds):
            path.unlink()
            checkpoint.sidecar_of(path).unlink(missing_ok=True)


def _fetch_unfinished(store: Store, prefix: str, names: set[str], run: RunDir, steps: list[int]) -> None:
    """Download what training goes on from: the newest checkpoint that verifies and has all grids before it."""
    _take_fixed(store, prefix, names, run.path)
    if METRICS in names:
        _take(store, prefix, METRICS, run.path)
    good = _take_grids(store, prefix, names, run, steps[-1])
    taken = [step for step in steps if step <= good and _take_checkpoint(store, prefix, run, step)]
    if not taken:
        raise CheckpointError(
            f"{prefix}checkpoints/ in {store.address}: none of the {len(steps)} verifies and has all grids before it. "
            "Restore them from a copy, or train the run anew with --from-scratch."
        )
    _rebuild(run)


def _take_fixed(store: Store, prefix: str, names: set[str], run_path: Path) -> None:
    """Download what is written once; the config last, since it makes the folder a run directory."""
    for name in reversed(FIXED):
        if name in names:
            atomic_write(run_path / name, store.get(prefix + name))


def _take(store: Store, prefix: str, name: str, run_path: Path) -> bool:
    """Download a file unless it is missing or damaged, and tell whether it could be."""
    try:
        atomic_write(run_path / name, store.get(prefix + name))
    except ChecksumError as error:
        log.warning("%s", error)
        return False
    return True


def _take_grids(store: Store, prefix: str, names: set[str], run: RunDir, newest: int) -> int:
    """Download the grids up to a step, and return the step up to which they are all good."""
    config = run.read_config()
    steps = list(range(config.snapshot_steps, newest + 1, config.snapshot_steps))
    if newest == config.num_steps and newest not in steps:
        steps.append(newest)
    for step in steps:
        name = run.grid_path(step).relative_to(run.path).as_posix()
        if name not in names or not _take(store, prefix, name, run.path):
            log.warning("%s%s in %s is missing or damaged: going back to before step %d to draw it again",
                        prefix, name, store.address, step)  # fmt: skip
            return step - 1
    return newest


def _take_checkpoint(store: Store, prefix: str, run: RunDir, step: int) -> bool:
    """Download a checkpoint that is what its sidecar says, and tell whether it is."""
    path = checkpoint.path_of(run.checkpoints_dir, step)
    sidecar = checkpoint.sidecar_of(path)
    key = f"{prefix}checkpoints/{path.name}"
    try:
        words = (store.read(f"{prefix}checkpoints/{sidecar.name}") or b"").decode("ascii", "replace").split()
        if len(words) != 2:
            raise ChecksumError(f"{key} in {store.address} has no sidecar that says its SHA-256")
        atomic_write(sidecar, f"{words[0]}  {path.name}\n".encode())
        download(store, key, path, words[0])
    except ChecksumError as error:
        sidecar.unlink(missing_ok=True)
        log.warning("%s; trying the others", error)
        return False
    return True


def _rebuild(run: RunDir) -> None:
    """Write what the store does not get while training goes on, and the checkpoint and the grids tell."""
    newest = checkpoint.load_newest(run.checkpoints_dir)
    assert newest is not None
    g_losses, d_losses = newest[0]["g_losses"].numpy(), newest[0]["d_losses"].numpy()
    atomic_write(run.losses_path, losses_npz(g_losses, d_losses))
    shutil.rmtree(run.tensorboard_dir, ignore_errors=True)
    with EventLog(run.tensorboard_dir, 0) as events:
        events.hparams(run.read_config().model_dump(mode="json"))
        events.losses(1, g_losses, d_losses)
        for step, path in run.grids():
            events.image(step, "samples", path.read_bytes(), *PNG_SIZE)
        for metrics in run.read_metrics():
            events.scalars(metrics.step, **metrics.scalars())


def _check_same_config(store: Store, prefix: str, run: RunDir) -> None:
    """Raise ConfigMismatchError where directory and store hold two runs."""
    if not _is_begun(run.path):
        return
    ours, raw = run.read_config(), store.read(prefix + CONFIG) or b"{}"
    try:
        fields = json.loads(raw)
        del fields["version"]
        theirs = TrainConfig.model_validate(fields)
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{prefix}{CONFIG} in {store.address} is no config of this version ({error})") from error
    if lines := ours.differences(theirs):
        raise ConfigMismatchError(
            f"{run.path} and {prefix} in {store.address} are two runs, with different configs:\n  "
            + "\n  ".join(lines)
            + "\nGive one of them another run id, or another store."
        )


def _is_begun(run_path: Path) -> bool:
    return (run_path / CONFIG).exists()


def _newest_on_disk(run_path: Path) -> Place:
    places = map(checkpoint.place_of, checkpoint.newest_first(RunDir(run_path).checkpoints_dir))
    return next(filter(None, places), Place())


def _steps(names: Iterable[str]) -> list[int]:
    return [int(match[1]) for name in names if (match := CHECKPOINT.fullmatch(name))]
