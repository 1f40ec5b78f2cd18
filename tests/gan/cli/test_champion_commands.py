"""Can a person see, serve, evaluate and change the champion of a store, from the store alone?"""

import json
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gan.config import TrainConfig
from gan.data import mnist
from gan.data.dataset import Dataset
from gan.data.download import download_dataset, mirrors_from_env
from gan.data.shared import upload_to_store
from gan.errors import RunError
from gan.registry.champion import read_champion
from gan.registry.promotion import Challenger, Decision, measure, promote
from gan.registry.prune import plan, prune
from gan.runs.provenance import check_trained_on
from gan.runs.run_dir import RunDir
from gan.storage.address import open_store
from gan.storage.base import Store
from gan.sync.stored_run import StoredRun
from gan.training.runner import open_run
from tests.support import digits
from tests.support.challengers import NOTHING_SEEN, by_figures, evaluation
from tests.support.command import run_gan
from tests.support.publishing import publish
from tests.support.real_digits import real_digits
from tests.support.s3_server import READER, S3Server, new_address

pytestmark = pytest.mark.usefixtures("small_networks")

CONFIG = TrainConfig(num_steps=4, snapshot_steps=2, num_threads=1)


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run"
    with open_run(path, CONFIG, digits.mnist()) as run:
        list(run.train())
    return path


def fill(store: Store, run_path: Path) -> None:
    """Publish the run twice, as `first` and `second`, and promote one after the other."""
    for run_id, distance in (("first", 30.0), ("second", 20.0)):
        (run_path / "manifest.json").unlink(missing_ok=True)
        publish(run_path, StoredRun(store, run_id))
        manifest = StoredRun(store, run_id).manifest()
        assert manifest
        digest = manifest.files["checkpoints/step-000004.safetensors"].sha256
        better = Challenger(run_id, 4, digest, evaluation(distance), NOTHING_SEEN)
        assert promote(store, better, by_figures(better), "me@here").outcome == "promoted"


@pytest.fixture
def place(tmp_path: Path, run_path: Path) -> Path:
    """Return a folder with a store in it whose champion is `second`."""
    fill(open_store(tmp_path / "store"), run_path)
    return tmp_path


@pytest.fixture
def bucket(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, run_path: Path) -> str:
    """Return a bucket whose champion is `second`, with credentials that may only read."""
    seaweedfs.use(monkeypatch)
    address = new_address()
    fill(open_store(address), run_path)
    seaweedfs.use(monkeypatch, keys=READER)
    return address


def gan(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_gan(folder, *options, XDG_CACHE_HOME=str(folder / "cache"), **environment)


def test_show_and_history_name_the_person_the_reason_and_the_metrics(place: Path) -> None:
    shown = gan(place, "champion", "show")
    line, classifier, *table = shown.stdout.splitlines()
    assert "promoted  second step 4  by me@here: distance 20.00 against 30.00" in line
    assert classifier.startswith("judge ") and table[1].split() == ["distance", "20.000", "0.500", "1.400"]
    assert json.loads(gan(place, "champion", "show", "store", "--json").stdout)["run_id"] == "second"
    assert [text.split()[2] for text in gan(place, "champion", "history").stdout.splitlines()] == ["first", "second"]
    raw = (place / "store/champion.json").read_bytes()
    assert json.loads(gan(place, "champion", "history", "--json").stdout) == json.loads(raw)


def test_a_rollback_by_hand_keeps_its_reason(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "FILES", ())  # the run's own data
    done = gan(place, "champion", "rollback", "--reason", "its eights look like threes")
    assert done.returncode == 0 and "rolled back  first step 4  by " in done.stdout
    assert done.stdout.endswith(": its eights look like threes\n")
    again = gan(place, "champion", "rollback")
    assert again.returncode == 1 and "has no champion before the present one" in again.stderr


def test_the_advice_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    done = gan(tmp_path, "champion", "show", "my store")
    assert "`gan champion promote 'my store/runs/ID'` promotes a run by hand" in done.stderr


def test_a_store_without_a_champion_says_so(tmp_path: Path) -> None:
    for options in (("champion", "show"), ("sample", "champion", "--out", "f.png"), ("evaluate", "champion")):
        done = gan(tmp_path, *options)
        assert done.returncode == 1 and "store has no champion yet. `gan-train` promotes" in done.stderr
    assert gan(tmp_path, "champion", "history").stderr == "no champion in store yet\n"
    assert json.loads(gan(tmp_path, "champion", "history", "--json").stdout) == {"version": 1, "history": []}


def test_the_champion_is_sampled_from_the_store_alone(place: Path, bucket: str) -> None:
    local = gan(place, "sample", "champion", "--out", "local.png")
    assert local.stdout == "local.png: 25 samples of step 4\n", local.stderr
    remote = gan(place, "sample", f"{bucket}/champion", "--out", "remote.png")
    assert remote.stdout == "remote.png: 25 samples of step 4\n", remote.stderr
    direct = gan(place, "sample", "store/runs/second", "--out", "direct.png")
    assert direct.returncode == 0
    assert len({(place / f"{name}.png").read_bytes() for name in ("local", "remote", "direct")}) == 1


@pytest.mark.parametrize("run", ["first", "store/first", "s3://bucket/runs/first/config.json"])
def test_an_address_that_is_not_a_run_of_a_store_exits_2(place: Path, run: str) -> None:
    wrong = gan(place, "champion", "promote", run)
    assert wrong.returncode == 2 and f"{run} is not a run of a store. Give it as STORE/runs/ID." in wrong.stderr


@pytest.fixture
def small_judge(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Let the commands measure few samples, and compare them with few images. Return the data that they take."""
    data = replace(real_digits(), sha256=digits.mnist().sha256)
    monkeypatch.setattr("gan.data.dataset.load_dataset", lambda *_, **__: data)
    monkeypatch.setattr("gan.registry.promotion.measure", partial(measure, num_samples=300))
    return data


def test_a_copy_of_a_run_is_promoted_under_its_own_name(place: Path, small_judge: Dataset) -> None:
    shutil.copytree(place / "store/runs/first", place / "store/runs/copy")
    promoted = gan(place, "champion", "promote", "store/runs/copy/", "--force")
    assert promoted.stdout == "copy is the champion now: by hand\n", promoted.stderr
    shutil.rmtree(place / "store/runs/first")
    assert gan(place, "sample", "champion", "--out", "f.png").returncode == 0
    kept = gan(place, "prune", "--keep-last", "0").stdout
    assert "copy  stays: a champion" in kept


def test_a_measured_run_is_not_pruned_before_it_is_decided(
    place: Path, small_judge: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(place / "store/runs/first", place / "store/runs/copy")
    store = open_store(place / "store")
    reasons = []

    def prune_first(*arguments: Any, **options: Any) -> Decision:
        reasons.extend(decision.reason for decision in plan(store, 0) if decision.run_id == "copy")
        with pytest.raises(RunError, match="another process is training this run"):
            prune(store, "copy")
        return promote(*arguments, **options)

    monkeypatch.setattr("gan.registry.promotion.promote", prune_first)
    promoted = gan(place, "champion", "promote", "store/runs/copy", "--force")
    assert promoted.stdout == "copy is the champion now: by hand\n", promoted.stderr
    assert len(reasons) == 1 and "another process is training this run" in reasons[0]


@pytest.mark.parametrize("options", [("champion", "promote", "store/runs/first", "--force"), ("evaluate", "champion"),
                                     ("evaluate", "store/runs/first/checkpoints/step-000002.safetensors")])  # fmt: skip
def test_a_run_of_other_data_is_not_measured(place: Path, small_judge: Dataset, options: tuple[str, ...]) -> None:
    small_judge.sha256["train-images-idx3-ubyte"] = "1" * 64
    done = gan(place, *options)
    assert done.returncode == 1 and "train-images-idx3-ubyte has SHA-256 000000" in done.stderr
    assert f"error: {options[-1] if options[0] == 'evaluate' else options[2]} was not trained on MNIST" in done.stderr
    assert [change.run_id for change in read_champion(open_store(place / "store")).history.history] == [
        "first",
        "second",
    ]


def test_a_run_whose_data_is_not_known_is_measured_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    check_trained_on({"train-images-idx3-ubyte": "1" * 64}, None, "store/runs/first")
    assert "store/runs/first has no provenance.json, so it is not known whether it was trained on MNIST" in caplog.text
    with pytest.raises(RunError, match=r"^provenance.json of first: damaged \(version: Input should be 1\)\. Restore"):
        check_trained_on({}, b'{"version": 2}', "first")


@pytest.mark.mnist
def test_a_run_is_promoted_and_evaluated_from_the_bucket_alone(
    tmp_path: Path, run_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seaweedfs.use(monkeypatch)
    store = open_store(new_address())
    download_dataset(tmp_path / "data", mirrors_from_env())
    upload_to_store(store, tmp_path / "data")
    trained = shutil.copytree(run_path, tmp_path / "run")
    (trained / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(trained / "journal", ignore_errors=True)  # it would find the change below
    provenance = RunDir(trained).read_provenance()
    mnist_files = {file.name: file.sha256 for file in mnist.FILES}
    RunDir(trained).write_provenance(provenance.model_copy(update={"data": mnist_files}))
    publish(trained, StoredRun(store, "mine"))
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    promoted = gan(tmp_path / "first", "champion", "promote", f"{store.address}/runs/mine")
    assert promoted.stdout == "mine is the champion now: it is the first one\n", promoted.stderr
    evaluated = gan(tmp_path / "second", "evaluate", f"{store.address}/champion", "--json")
    found = read_champion(store).history.current
    assert found and json.loads(evaluated.stdout) == json.loads(found.evaluation.model_dump_json())
    assert found.evaluation.num_samples == 10_000
