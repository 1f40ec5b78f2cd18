"""Does each command about a champion take the data set whose champion it is?"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gan.evaluation.evaluator import Evaluator
from gan.registry.champion import Change
from gan.registry.promotion import Challenger, measure
from gan.sets.catalog import find_set
from gan.sets.set_store import put_set
from gan.storage.address import open_store
from gan.sync.stored_run import StoredRun
from tests.support.command import run_gan
from tests.support.judged_set import import_digits, train_judge
from tests.support.publishing import publish
from tests.support.s3_server import READER, S3Server, new_address

pytestmark = pytest.mark.usefixtures("small_networks")

OPTIONS = ["--num-steps", "4", "--snapshot-steps", "2", "--batch-size", "25", "--num-threads", "1"]


def measure_few(run: StoredRun, evaluator: Evaluator, champion: Change | None = None, _: int = 300) -> Challenger:
    return measure(run, evaluator, champion, 300)


def gan(folder: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    return run_gan(folder, *options, XDG_CACHE_HOME=str(folder / "cache"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two runs on a set that has a judge, and one on a set that has none."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("numerals", "unjudged"):
        import_digits(folder / "data/sets", name)
    train_judge(folder / "data/sets", "numerals")
    for run_id, name in (("first", "numerals"), ("other", "unjudged")):
        done = gan(folder, "train", "--run-dir", f"store/runs/{run_id}", "--data", name, *OPTIONS)
        assert done.returncode == 0, done.stderr
    shutil.copytree(folder / "store/runs/first", folder / "store/runs/second")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the folder. Few samples are measured."""
    monkeypatch.setattr("gan.registry.promotion.measure", measure_few)
    monkeypatch.setattr("gan.evaluation.evaluator.NUM_SAMPLES", 300)
    return shutil.copytree(made, tmp_path / "place")


@pytest.fixture
def promoted(place: Path) -> Path:
    """Let both runs of the set be its champion, one after the other."""
    for options in (["store/runs/first"], ["store/runs/second", "--force", "--data", "numerals"]):
        done = gan(place, "champion", "promote", *options)
        assert done.returncode == 0, done.stderr
    return place


def test_a_run_says_which_champion_it_challenges(place: Path) -> None:
    promoted = gan(place, "champion", "promote", "store/runs/first")
    assert promoted.stdout == "first is the champion of numerals now: it is the first one\n", promoted.stderr
    kept = gan(place, "champion", "promote", "store/runs/second", "--json")
    assert kept.returncode in (0, 1), kept.stderr
    decision = json.loads(kept.stdout)
    assert decision["data"]["name"] == "numerals" and decision["meeting"]["comparison"]["judge"]
    assert sorted(path.name for path in (place / "store").iterdir()) == ["champions", "runs"]


def test_show_and_history_are_of_the_set(promoted: Path) -> None:
    shown = gan(promoted, "champion", "show", "--data", "numerals").stdout.splitlines()
    assert "promoted  second step 4  by " in shown[0] and shown[1].startswith("judge ")
    assert shown[2].startswith("data numerals@")
    assert shown[-1].startswith("0: ") and "classes covered: " in shown[-2] and " of 10" in shown[-2]
    assert shown[3:6] == ["licence CC0", "source a <b>box</b>", "attribution A. Painter"]
    as_json = json.loads(gan(promoted, "champion", "show", "--data", "numerals", "--json").stdout)
    assert (as_json["data"]["license"], as_json["data"]["classes"]) == ("CC0", list("0123456789"))
    listed = gan(promoted, "champion", "history", "--data", "numerals").stdout.splitlines()
    assert [line.split()[2] for line in listed] == ["first", "second"]
    assert gan(promoted, "champion", "history").stderr == "no champion in store yet\n"
    mnists = gan(promoted, "champion", "show")
    assert mnists.returncode == 1 and "store has no champion yet" in mnists.stderr
    nobodys = gan(promoted, "champion", "show", "--data", "boats")
    assert nobodys.returncode == 1 and "store has no champion of boats yet" in nobodys.stderr


def test_a_rollback_is_of_the_set(promoted: Path) -> None:
    back = gan(promoted, "champion", "rollback", "--data", "numerals")
    assert "rolled back  first step 4 " in back.stdout, back.stderr
    again = gan(promoted, "champion", "rollback", "--data", "numerals")
    assert again.returncode == 1 and "has no champion of numerals@" in again.stderr


def test_the_champion_of_a_set_is_sampled_and_evaluated(promoted: Path) -> None:
    sampled = gan(promoted, "sample", "champion", "--data", "numerals", "--out", "f.png")
    assert sampled.stdout == "f.png: 25 samples of step 4\n", sampled.stderr
    direct = gan(promoted, "sample", "store/runs/second", "--out", "g.png")
    assert direct.returncode == 0
    assert (promoted / "f.png").read_bytes() == (promoted / "g.png").read_bytes()
    evaluated = gan(promoted, "evaluate", "champion", "--data", "numerals", "--json")
    champion = json.loads(gan(promoted, "champion", "show", "--data", "numerals", "--json").stdout)
    assert json.loads(evaluated.stdout) == champion["evaluation"], evaluated.stderr
    refused = gan(promoted, "sample", "store/runs/first", "--data", "numerals", "--out", "f.png")
    assert refused.returncode == 2 and "only for a champion" in refused.stderr


def test_a_machine_without_the_set_evaluates_the_champion_from_the_bucket(
    place: Path, tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seaweedfs.use(monkeypatch)
    store = open_store(new_address())
    (place / "store/runs/first/manifest.json").unlink()
    publish(place / "store/runs/first", StoredRun(store, "first"))
    put_set(store, find_set(place / "data/sets", "numerals"))  # as gan-train does
    done = gan(place, "champion", "promote", f"{store.address}/runs/first")
    assert done.returncode == 0, done.stderr
    there = tmp_path / "there"
    there.mkdir()
    seaweedfs.use(monkeypatch, keys=READER)
    evaluated = gan(there, "evaluate", f"{store.address}/champion", "--data", "numerals", "--json")
    shown = gan(there, "champion", "show", store.address, "--data", "numerals", "--json")
    assert json.loads(evaluated.stdout) == json.loads(shown.stdout)["evaluation"], evaluated.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["store/runs/other"], "store/runs/other cannot be measured: unjudged@"),
        (["store/runs/other"], "has no judge yet; `gan judge train --data unjudged@"),
        (["store/runs/first", "--data", "unjudged"], "store/runs/first was not trained on unjudged@"),
        (["store/runs/first", "--data", "boats"], "data/sets has no data set boats"),
    ],
)
def test_what_cannot_be_measured_is_not_promoted(place: Path, options: list[str], says: str) -> None:
    done = gan(place, "champion", "promote", *options)
    assert done.returncode == 1 and says in done.stderr
    assert [path.name for path in (place / "store").iterdir()] == ["runs"]


def test_prune_names_the_file_of_the_champion(promoted: Path) -> None:
    kept = gan(promoted, "prune", "--keep-last", "0").stdout
    assert "second  stays: a champion, by champions/" in kept and "other  would be deleted" in kept
