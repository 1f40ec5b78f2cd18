"""Does a run begin with the weights of another one, and refuse those that do not fit?"""

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from gan.config import TrainConfig
from gan.errors import CheckpointError, ConfigMismatchError
from gan.files import sha256_file
from gan.recipes.custom import importing
from gan.recipes.custom.importing import permit
from gan.report.page import render
from gan.runs import checkpoint
from gan.runs.manifest import Manifest
from gan.storage.address import open_store
from gan.sync.publish import seal
from gan.sync.stored_run import StoredRun
from tests.support.command import run_gan
from tests.support.custom_recipe import ADDRESS, write_package
from tests.support.custom_recipe import fresh as fresh
from tests.support.digits import write_mnist
from tests.support.killing import differing
from tests.support.publishing import fetch_run, publish
from tests.support.s3_server import S3Server, new_address
from tests.support.training import CONFIG, train

SHORT = CONFIG.model_copy(update={"num_steps": 10, "snapshot_steps": 5})


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the run to begin from."""
    path = tmp_path_factory.mktemp("other") / "run"
    train(path, SHORT)
    return path


def begun_from(path: Path, **fields: object) -> TrainConfig:
    return TrainConfig(**{**SHORT.model_dump(exclude_unset=True), "init_from": str(path), **fields})


def network(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    tensors = safetensors.torch.load_file(path)
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}


def test_a_run_begins_with_the_weights_of_another_one(tmp_path: Path, other: Path) -> None:
    run = train(tmp_path / "run", begun_from(other), stop_at=0)
    newest = other / "checkpoints" / "step-000010.safetensors"
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["init_from"], config["init_sha256"]) == (str(other), sha256_file(newest))
    assert (tmp_path / "run" / "initial.safetensors").read_bytes() == newest.read_bytes()
    assert run.state.ema is not None and run.state.step == 0
    for prefix, module in (
        ("generator.", run.state.generator),
        ("discriminator.", run.state.discriminator),
        ("ema.", run.state.ema),
    ):
        expected = network(newest, prefix)
        assert expected and all(torch.equal(each, expected[name]) for name, each in module.state_dict().items())
    assert not any(moments.exp_avg.any() for moments in run.state.g_moments.values())


def test_resume_and_from_scratch_read_the_copy(tmp_path: Path, other: Path) -> None:
    copy = shutil.copytree(other, tmp_path / "copy")
    asked = begun_from(copy)
    train(tmp_path / "whole", asked)
    train(tmp_path / "parts", asked, stop_at=3)
    shutil.rmtree(copy)
    train(tmp_path / "parts", asked, resume=True)
    assert differing(tmp_path / "parts", tmp_path / "whole") == []
    train(tmp_path / "again", begun_from(other), stop_at=7)
    train(tmp_path / "again", SHORT, from_scratch=True)
    losses = [(tmp_path / name / "losses.npz").read_bytes() for name in ("again", "whole")]
    assert losses[0] == losses[1]
    seal(tmp_path / "again", "again")
    assert "initial.safetensors" in Manifest.of(tmp_path / "again", "again").files


def test_a_damaged_copy_is_refused(tmp_path: Path, other: Path) -> None:
    train(tmp_path / "run", begun_from(other), stop_at=0)
    path = tmp_path / "run" / "initial.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(
        CheckpointError, match=r"initial.safetensors: damaged: SHA-256 expected .* by config.json, found"
    ):
        train(tmp_path / "run", SHORT, resume=True)


def test_one_checkpoint_may_be_named(tmp_path: Path, other: Path) -> None:
    path = checkpoint.path_of(other, 5)
    run = train(tmp_path / "run", begun_from(path, recipe="published", conditional=True, ema_decay=0), stop_at=0)
    expected = network(path, "generator.")
    assert all(torch.equal(each, expected[name]) for name, each in run.state.generator.state_dict().items())


def test_without_an_average_it_begins_with_the_generator(tmp_path: Path) -> None:
    train(tmp_path / "other", SHORT.model_copy(update={"ema_decay": 0.0}))
    run = train(tmp_path / "run", begun_from(tmp_path / "other"), stop_at=0)
    assert run.state.ema is not None
    live = run.state.generator.state_dict()
    assert all(torch.equal(each, live[name]) for name, each in run.state.ema.state_dict().items())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"latent_dim": 50},
            r"generator.layers.0.weight is \(128, 100\), expected \(128, 50\). Give the options",
        ),
        ({"conditional": False}, "conditional is True, and this run has False"),
        ({"recipe": "dcgan"}, r"generator.layers.0.weight is .*; generator.layers.1.weight is .*; and \d+ more"),
    ],
)
def test_other_shapes_and_classes_are_refused_by_name(
    tmp_path: Path, other: Path, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigMismatchError, match=f"--init-from: .* does not fit this run: .*{message}") as raised:
        train(tmp_path / "run", begun_from(other, **fields))
    assert str(raised.value).count("expected") <= 3 and not (tmp_path / "run").exists()


def test_what_is_not_there_is_refused_before_the_download(tmp_path: Path, other: Path) -> None:
    for path in ("nowhere", str(tmp_path)):
        done = run_gan(tmp_path, "train", "--run-dir", "run", "--init-from", path, "--mirror", "file:///no/such/folder")
        assert done.returncode == 1 and "there is no" in done.stderr and "mirror" not in done.stderr
    mismatch = run_gan(tmp_path, "train", "--run-dir", "run", "--init-from", other, "--latent-dim", "20")
    assert mismatch.returncode == 2 and list(tmp_path.iterdir()) == []


def test_a_resume_that_asks_for_other_weights_is_refused(tmp_path: Path, other: Path) -> None:
    train(tmp_path / "run", SHORT, stop_at=5)
    with pytest.raises(ConfigMismatchError, match=f"init_from: the run has None, asked for {other}"):
        train(tmp_path / "run", begun_from(other), resume=True)


def test_a_run_in_a_bucket_is_begun_from_and_resumed(
    tmp_path: Path, other: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seaweedfs.use(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = open_store(new_address())
    copy = shutil.copytree(other, tmp_path / "other")
    render(train(copy, SHORT, resume=True).run_dir)
    publish(copy, StoredRun(store, "other"))
    write_mnist(tmp_path / "data")
    address = StoredRun(store, "other").address
    options = ["--num-steps", "4", "--snapshot-steps", "2", "--num-threads", "1", "--no-pinned-hash"]
    done = run_gan(tmp_path, "train", "--run-dir", "mine", "--init-from", address, *options)
    assert done.returncode == 0, done.stderr
    publish(tmp_path / "mine", StoredRun(store, "mine"))
    fetch_run(StoredRun(store, "mine"), tmp_path / "fetched")
    assert (tmp_path / "fetched" / "initial.safetensors").read_bytes() == checkpoint.path_of(copy, 10).read_bytes()


@pytest.mark.usefixtures("fresh")
def test_the_code_of_the_other_run_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(write_package(tmp_path / "place"))
    permit(ADDRESS)
    train(tmp_path / "other", TrainConfig(recipe=ADDRESS, num_steps=2, snapshot_steps=2, num_threads=1))
    importing._permitted.clear()
    with pytest.raises(ConfigMismatchError, match="generator.network.layers.0.weight|generator.layers.0.weight"):
        train(tmp_path / "run", begun_from(tmp_path / "other", conditional=False))


def test_a_built_in_config_has_no_new_key(other: Path) -> None:
    assert {"init_from", "init_sha256"}.isdisjoint(json.loads((other / "config.json").read_text()))
    assert not (other / "initial.safetensors").exists()


@pytest.mark.parametrize("begins", [True, False])
def test_what_a_kill_leaves_before_the_config_is_no_run_yet(tmp_path: Path, other: Path, begins: bool) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "initial.safetensors").write_bytes(b"of a killed process")
    run = train(tmp_path / "run", begun_from(other) if begins else SHORT, stop_at=0, resume=True)
    assert (tmp_path / "run" / "initial.safetensors").exists() is begins and (
        run.config.init_sha256 is not None
    ) is begins
