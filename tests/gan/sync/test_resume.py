"""Is a run resumed from a store alone, with the same bytes, and only from files that are not damaged?"""

import logging
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from gan.config import TrainConfig
from gan.data.batches import Batches, Real
from gan.errors import CheckpointError, ChecksumError, ConfigMismatchError, RunError, StorageError
from gan.runs import checkpoint, layout
from gan.runs.derived import write_missing_events
from gan.runs.journal import Journal
from gan.runs.manifest import Best
from gan.runs.run_dir import RunDir
from gan.storage.address import open_store
from gan.storage.base import ObjectInfo, Store
from gan.sync.lease import hold
from gan.sync.stored_run import StoredRun
from gan.sync.uploader import uploading
from gan.sync.verification import verify
from gan.training import runner
from gan.training.runner import open_run
from tests.support.digits import mnist
from tests.support.killing import differing
from tests.support.publishing import fetch_run, newest_version, publish
from tests.support.s3_server import S3Server, new_address
from tests.support.small_run import tree
from tests.support.spooled_run import CONFIG, SpooledRun, spooled

pytestmark = pytest.mark.usefixtures("small_networks")

DATA = mnist()


@pytest.fixture
def store(folder_or_bucket: Store) -> Store:
    return folder_or_bucket


@pytest.fixture
def sent(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> SpooledRun:
    """Upload a run of 70 steps to the store. It keeps the checkpoints of every third snapshot and of the last three."""
    monkeypatch.setattr(checkpoint, "KEEP_EVERY", 3)
    run = SpooledRun(tmp_path / "elsewhere" / "a")
    with hold(StoredRun(store, "a")) as lease, uploading(run.dir.path, lease) as uploader:
        for step in range(10, 80, 10):
            run.snapshot(step)
        uploader.flush(30)
    return run


def damage(store: Store, name: str) -> None:
    """Flip one bit of an object. The store itself does not notice."""
    run = StoredRun(store, "a")
    key = (run if run.manifest() else newest_version(run)).key(name)
    content = store.read(key) or b""
    store.delete(key)
    store.put_new(key, bytes([content[0] ^ 1]) + content[1:])


def newest(run_path: Path) -> int:
    return layout.checkpoint_steps_in(run_path)[0]


def test_a_run_resumed_on_other_machines_ends_with_the_same_bytes(tmp_path: Path, store: Store) -> None:
    config = TrainConfig(num_steps=8, snapshot_steps=2, num_threads=1)

    def train(path: Path, stop_at: int | None = None) -> None:
        fetch_run(StoredRun(store, path.name), path)
        with (
            hold(StoredRun(store, path.name)) as lease,
            open_run(path, config, DATA, resume=True) as run,
            uploading(path, lease) as uploader,
        ):
            for _ in run.train(lambda: run.state.step == stop_at):
                uploader.wake()
            uploader.flush(60)

    train(tmp_path / "undisturbed")
    for machine, stop_at in (("first", 3), ("second", 6), ("third", None)):
        train(tmp_path / machine / "run", stop_at)
    assert differing(tmp_path / "third/run", tmp_path / "undisturbed") == []
    steps = [line.step for line in RunDir(tmp_path / "third/run").read_metrics()]
    assert steps == [2, 4, 6, 8]


def test_a_run_restarted_on_its_second_machine_ends_on_the_third_with_the_same_bytes(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seaweedfs.use(monkeypatch)
    monkeypatch.setattr(runner, "Batches", NanBatches)
    config = TrainConfig(num_steps=6, snapshot_steps=2, num_threads=1, on_collapse="restart")
    bucket = open_store(new_address())

    def train(path: Path, stop_at: tuple[int, int] | None = None) -> None:
        fetch_run(StoredRun(bucket, path.name), path)
        with (
            hold(StoredRun(bucket, path.name)) as lease,
            open_run(path, config, DATA, resume=True) as run,
            uploading(path, lease) as uploader,
        ):
            for _ in run.train(lambda: (len(run.state.health.rewinds), run.state.step) == stop_at):
                uploader.wake()
            uploader.flush(60)

    train(tmp_path / "undisturbed")
    for machine, stop_at in (("first", (0, 5)), ("second", (1, 3)), ("third", None)):
        train(tmp_path / machine / "run", stop_at)
    third = RunDir(tmp_path / "third/run")
    assert differing(third.path, tmp_path / "undisturbed") == []
    assert [line.step for line in third.read_metrics()] == [2, 4, 6]
    assert [(event.event, event.step, event.to_step) for event in third.read_events()] == [("not_finite", 6, 0)]


class NanBatches(Batches):
    """Give NaN at step 6 of an attempt with seed 0."""

    def __call__(self, step: int) -> Real:
        real = super().__call__(step)
        return real._replace(images=real.images * float("nan")) if (self.seed, step) == (0, 6) else real


def made_events(run_path: Path) -> bytes:
    """Return TensorBoard's events as the training makes them for a run that was fetched."""
    run, journal = RunDir(run_path), Journal(run_path)
    write_missing_events(run, journal, journal.history((), newest(run_path)))
    return b"".join(path.read_bytes() for path in run.tensorboard_dir.iterdir())


def test_all_uploaded_files_are_fetched(tmp_path: Path, store: Store, sent: SpooledRun) -> None:
    fetch_run(StoredRun(store, "a"), tmp_path / "a")
    assert spooled(tmp_path / "a") == spooled(sent.dir.path)
    assert newest(tmp_path / "a") == 70
    losses = np.load(tmp_path / "a" / "losses.npz")
    assert losses["g_loss"].tolist() == list(range(70)) and len(losses["d_loss"]) == 70
    events = made_events(tmp_path / "a")
    assert events.count(b"g_loss") == 70 and events.count(b"\x89PNG") == 7


def test_the_best_checkpoint_and_its_distance_are_fetched(tmp_path: Path, store: Store) -> None:
    run = SpooledRun(tmp_path / "elsewhere" / "a")
    with hold(StoredRun(store, "a")) as lease, uploading(run.dir.path, lease) as uploader:
        for step in range(10, 80, 10):
            run.snapshot(step, distance=5.0 if step == 20 else None)
        uploader.flush(30)
    fetch_run(StoredRun(store, "a"), tmp_path / "a")
    fetched = RunDir(tmp_path / "a")
    assert fetched.best_checkpoint(fetched.read_metrics()) == Best(step=20, distance=5.0)
    assert checkpoint.load(checkpoint.path_of(fetched.path, 20))
    assert b"judge/distance" in made_events(tmp_path / "a")


def test_a_run_of_an_older_version_is_fetched(tmp_path: Path, store: Store) -> None:
    run = SpooledRun(tmp_path / "elsewhere" / "a", is_old=True)
    for step in (10, 20, 30):
        run.snapshot(step)
    for name, content in tree(run.dir.path).items():
        store.put_new(f"runs/a/{name}", content)
    fetch_run(StoredRun(store, "a"), tmp_path / "a")
    assert tree(tmp_path / "a").items() >= tree(run.dir.path).items()
    assert len(np.load(tmp_path / "a" / "losses.npz")["g_loss"]) == 30


def test_a_damaged_file_is_restored_from_the_store(
    store: Store, sent: SpooledRun, caplog: pytest.LogCaptureFixture
) -> None:
    before = tree(sent.dir.path)
    for path in (sent.dir.grid_path(20), sent.dir.config_path):
        path.write_bytes(path.read_bytes().replace(b"I", b"i").replace(b"1", b"2"))
    fetch_run(StoredRun(store, "a"), sent.dir.path)
    assert tree(sent.dir.path) == before
    assert "step-000020.png was damaged; it is restored from attempts/a/" in caplog.text


def test_fetching_again_changes_nothing(tmp_path: Path, store: Store, sent: SpooledRun) -> None:
    fetch_run(StoredRun(store, "a"), tmp_path / "a")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    fetch_run(StoredRun(store, "a"), tmp_path / "a")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")} == before


def test_an_incomplete_fetch_is_completed(tmp_path: Path, store: Store, sent: SpooledRun) -> None:
    fetch_run(StoredRun(store, "a"), tmp_path / "a")
    for name in ("grids/step-000070.png", "checkpoints/step-000070.safetensors", "losses.npz"):
        (tmp_path / "a" / name).unlink()
    fetch_run(StoredRun(store, "a"), tmp_path / "a")
    assert spooled(tmp_path / "a") == spooled(sent.dir.path)


def test_a_run_that_the_store_does_not_know_is_new(tmp_path: Path, store: Store, sent: SpooledRun) -> None:
    fetch_run(StoredRun(store, "b"), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_directory_with_a_later_step_is_not_changed(store: Store, sent: SpooledRun) -> None:
    sent.snapshot(80)
    before = tree(sent.dir.path)
    fetch_run(StoredRun(store, "a"), sent.dir.path)
    assert tree(sent.dir.path) == before


def test_a_directory_with_an_earlier_step_gets_the_later_ones(tmp_path: Path, store: Store, sent: SpooledRun) -> None:
    SpooledRun(tmp_path / "a").snapshot(10)
    fetch_run(StoredRun(store, "a"), tmp_path / "a")
    assert newest(tmp_path / "a") == 70
    assert [line.step for line in RunDir(tmp_path / "a").read_metrics()] == list(range(10, 80, 10))


@pytest.mark.parametrize("what", ["checkpoints/step-000070.safetensors", "checkpoints/step-000070.safetensors.sha256"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    tmp_path: Path, store: Store, sent: SpooledRun, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage(store, what)
    fetch_run(StoredRun(store, "a"), tmp_path / "a")
    assert newest(tmp_path / "a") == 60
    assert "step-000070.safetensors" in caplog.text and "Trying the other checkpoints" in caplog.text
    assert checkpoint.load_newest(tmp_path / "a")


def test_if_no_checkpoint_verifies_only_from_scratch_trains(tmp_path: Path, store: Store, sent: SpooledRun) -> None:
    for path in sent.dir.checkpoints_dir.glob("*.safetensors"):
        damage(store, f"checkpoints/{path.name}")
    with pytest.raises(CheckpointError, match="none of the 4 verifies"):
        fetch_run(StoredRun(store, "a"), tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    fetch_run(StoredRun(store, "a"), tmp_path / "a", from_scratch=True)
    assert sorted(tree(tmp_path / "a")) == ["config.json", "provenance.json", "reals.png"]


def test_a_missing_grid_is_drawn_again(
    tmp_path: Path, store: Store, sent: SpooledRun, caplog: pytest.LogCaptureFixture
) -> None:
    newest_version(StoredRun(store, "a")).delete("grids/step-000060.png")
    fetch_run(StoredRun(store, "a"), tmp_path / "a")
    assert newest(tmp_path / "a") == 50
    assert "grids/step-000060.png" in caplog.text and "to draw it again" in caplog.text


def test_a_damaged_grid_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: SpooledRun, store: Store
) -> None:
    monkeypatch.setattr(type(store), "get", _damaging(type(store), "grids/step-000070.png"))
    fetch_run(StoredRun(store, "a"), tmp_path / "a")
    assert newest(tmp_path / "a") == 60


def _damaging(kind: type, name: str) -> object:
    get = kind.get  # type: ignore[attr-defined]

    def get_damaged(self: Store, key: str) -> Iterator[bytes]:
        yield from get(self, key)
        if key.endswith(name):
            raise ChecksumError(f"{key} is damaged")

    return get_damaged


@pytest.mark.parametrize("name", ["../escaped", "/etc/cron.d/x", "a/../../../escaped", "a\\b", "grids/../../../x"])
def test_a_name_that_leaves_the_directory_is_refused(
    tmp_path: Path, store: Store, sent: SpooledRun, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = type(store).list
    liar = ObjectInfo(f"runs/a/{name}", 1, datetime.now(UTC))
    monkeypatch.setattr(type(store), "list", lambda self, prefix: [*honest(self, prefix), liar])
    with pytest.raises(StorageError, match="cannot name a file of a run"):
        fetch_run(StoredRun(store, "a"), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_two_runs_under_one_id_are_not_mixed(tmp_path: Path, store: Store, sent: SpooledRun) -> None:
    other = SpooledRun(tmp_path / "a", CONFIG.model_copy(update={"seed": 5}))
    before = tree(other.dir.path)
    with pytest.raises(
        ConfigMismatchError, match="two runs, with different configs:\n  seed: the run has 0, asked for 5"
    ):
        fetch_run(StoredRun(store, "a"), other.dir.path)
    assert tree(other.dir.path) == before


def test_a_published_run_is_fetched_completely(tmp_path: Path, store: Store, sent: SpooledRun) -> None:
    publish(sent.dir.path, StoredRun(store, "a"))
    fetch_run(StoredRun(store, "a"), tmp_path / "a")
    assert tree(tmp_path / "a") == tree(sent.dir.path)
    assert verify(StoredRun.at(tmp_path / "a")).problems == []
    (tmp_path / "a/manifest.json").unlink()
    (tmp_path / "a/checkpoints/step-000070.safetensors").unlink()
    fetch_run(StoredRun(store, "a"), tmp_path / "a")  # as after a fetch that was cut short
    assert tree(tmp_path / "a") == tree(sent.dir.path)
    with pytest.raises(RunError, match="is published. Start another run"):
        fetch_run(StoredRun(store, "a"), tmp_path / "b", from_scratch=True)


@pytest.mark.parametrize("rewinds", [(), (0,)])
def test_an_earlier_state_of_a_published_run_becomes_the_published_run(
    tmp_path: Path, store: Store, sent: SpooledRun, rewinds: tuple[int, ...]
) -> None:
    """A process was killed here; others sent the run back to a step, finished it and published it."""
    publish(sent.dir.path, StoredRun(store, "a"))
    here = SpooledRun(tmp_path / "a")
    here.rewinds = rewinds
    here.snapshot(10)  # its checkpoint is not among those that the published run keeps
    here.dir.processes_path.write_text("of this process")
    fetch_run(StoredRun(store, "a"), tmp_path / "a")
    assert tree(tmp_path / "a") == tree(sent.dir.path)
    assert verify(StoredRun.at(tmp_path / "a")).problems == []


def test_a_file_of_somebody_is_not_deleted_for_a_published_run(tmp_path: Path, store: Store, sent: SpooledRun) -> None:
    publish(sent.dir.path, StoredRun(store, "a"))
    SpooledRun(tmp_path / "a").snapshot(10)
    (tmp_path / "a/notes.txt").write_text("mine")
    before = tree(tmp_path / "a")
    with pytest.raises(RunError, match=r"notes\.txt is no file of run a, .* Move it out of the run directory"):
        fetch_run(StoredRun(store, "a"), tmp_path / "a")
    assert tree(tmp_path / "a") == before


def test_a_damaged_published_run_is_not_fetched(tmp_path: Path, store: Store, sent: SpooledRun) -> None:
    publish(sent.dir.path, StoredRun(store, "a"))
    damage(store, "grids/step-000040.png")
    with pytest.raises(ChecksumError, match=r"runs/a/grids/step-000040\.png in .* is damaged"):
        fetch_run(StoredRun(store, "a"), tmp_path / "a")
    assert not (tmp_path / "a/manifest.json").exists() and not (tmp_path / "a/grids/step-000040.png").exists()


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
