"""Does a flow run train on an imported data set, also on a machine that has to copy it from the bucket?"""

from pathlib import Path

import numpy as np
import pytest

from gan.config import TrainConfig
from gan.runs.run_dir import RunDir
from gan.sets.set_import import import_set, open_source
from gan.sets.set_manifest import Facts, SetManifest
from gan.sets.sources.base import Form
from gan.storage.address import open_store
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.digits import digits
from tests.support.flow_run import run
from tests.support.s3_server import S3Server, new_address

pytestmark = pytest.mark.usefixtures("api")


@pytest.fixture
def address(tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name a run in a new bucket, and work in a folder without data."""
    seaweedfs.use(monkeypatch)
    store = new_address()
    monkeypatch.chdir(tmp_path)
    for name, value in (("GAN_STORE", store), ("GAN_RUN_ID", "mine"), ("GAN_SETS_DIR", str(tmp_path / "here"))):
        monkeypatch.setenv(name, value)
    return store


def make_set(folder: Path, *, private: bool = False) -> SetManifest:
    images, labels = digits(64)
    np.savez(folder / "digits.npz", images=images, labels=labels)
    facts = Facts(private=private)
    source = open_source(folder / "digits.npz")
    return import_set(source, folder / "here", "digits", Form(32, 1, (0, 0, 0)), test_share=0.3, facts=facts).manifest


def config(data: str) -> TrainConfig:
    return TrainConfig(recipe="dcgan", data=data, num_steps=2, snapshot_steps=1, batch_size=25, num_threads=1)


@pytest.mark.parametrize("named", ["digits", "digits@{sha}"])
def test_a_machine_without_the_set_copies_it_from_the_bucket(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    made = make_set(tmp_path)
    assert run(config("digits")).is_completed()
    assert RunDir(tmp_path / "store/runs/mine").read_config().data == made.address
    assert verify(StoredRun(open_store(address), "mine")).problems == []
    monkeypatch.setenv("GAN_SETS_DIR", str(tmp_path / "there"))
    monkeypatch.setenv("GAN_RUN_ID", "second")
    assert run(config(named.format(sha=made.sha256))).is_completed()
    assert SetManifest.read(tmp_path / "there/digits" / made.sha256) == made


def test_a_private_set_is_not_copied(tmp_path: Path, address: str) -> None:
    made = make_set(tmp_path, private=True)
    assert run(config(made.address)).is_completed()
    assert list(open_store(address).list("datasets/")) == []


def test_a_set_that_is_nowhere_fails_the_run(address: str) -> None:
    state = run(config("nothing"))
    assert state.is_failed() and "has no data set nothing. Import it" in (state.message or "")
