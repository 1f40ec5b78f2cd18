"""Do all machines measure runs of a data set by one judge?"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan.errors import DataError
from gan.evaluation.judge import WEIGHTS_SHA256, read_card
from gan.registry.judging import evaluator_of, fetch_judged_set, no_judge, share_judge
from gan.sets.loading import JUDGE, load_set
from gan.sets.set_manifest import Facts, SetManifest
from gan.sets.set_store import put_set
from gan.storage.address import open_store
from gan.storage.base import Store
from tests.support.judged_set import import_digits, train_judge
from tests.support.real_digits import real_digits
from tests.support.s3_server import S3Server, new_address
from tests.support.small_run import tree


@pytest.fixture(scope="module")
def sets_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with a set that has a judge."""
    folder = tmp_path_factory.mktemp("here") / "sets"
    train_judge(folder, import_digits(folder).name)
    yield folder


@pytest.fixture
def bucket(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> Store:
    seaweedfs.use(monkeypatch)
    return open_store(new_address())


def folder_of(sets_dir: Path) -> Path:
    [folder] = (sets_dir / "numerals").iterdir()
    return folder


def test_a_machine_without_the_judge_gets_it_from_the_bucket(sets_dir: Path, bucket: Store, tmp_path: Path) -> None:
    put_set(bucket, folder_of(sets_dir))
    share_judge(bucket, folder_of(sets_dir))
    address = fetch_judged_set(bucket, tmp_path / "there", "numerals")
    assert address == SetManifest.read(folder_of(sets_dir)).address
    assert tree(tmp_path / "there") == tree(sets_dir)
    here, there = (evaluator_of(load_set(folder, address), "cpu") for folder in (sets_dir, tmp_path / "there"))
    assert here and there and here.judge.sha256 == there.judge.sha256 != WEIGHTS_SHA256


def test_the_first_judge_of_a_bucket_stays(sets_dir: Path, bucket: Store, tmp_path: Path) -> None:
    share_judge(bucket, folder_of(sets_dir))
    before = sorted(bucket.list(""))
    import_digits(tmp_path / "there")
    train_judge(tmp_path / "there", "numerals", num_epochs=2)
    mine = read_card(folder_of(tmp_path / "there") / JUDGE)
    share_judge(bucket, folder_of(tmp_path / "there"))
    assert sorted(bucket.list("")) == before
    assert read_card(folder_of(tmp_path / "there") / JUDGE) == mine != read_card(folder_of(sets_dir) / JUDGE)


def test_a_judge_of_a_private_set_stays_on_its_machine(bucket: Store, tmp_path: Path) -> None:
    import_digits(tmp_path / "sets", facts=Facts(private=True))
    train_judge(tmp_path / "sets", "numerals")
    share_judge(bucket, folder_of(tmp_path / "sets"))
    assert list(bucket.list("")) == []


def test_a_set_without_a_judge_is_not_measured(bucket: Store, tmp_path: Path) -> None:
    manifest = import_digits(tmp_path / "sets")
    share_judge(bucket, folder_of(tmp_path / "sets"))
    assert list(bucket.list("")) == []
    assert evaluator_of(load_set(tmp_path / "sets", manifest.address), "cpu") is None
    assert no_judge("numerals") == "numerals has no judge yet; `gan judge train --data numerals` trains it"


def test_mnist_is_measured_by_the_judge_of_the_package() -> None:
    found = evaluator_of(real_digits(), "cpu")
    assert found and found.judge.sha256 == WEIGHTS_SHA256


@pytest.mark.parametrize("damaged", ["judge.json", "weights"])
def test_a_damaged_judge_is_not_taken(sets_dir: Path, bucket: Store, tmp_path: Path, damaged: str) -> None:
    put_set(bucket, folder_of(sets_dir))
    share_judge(bucket, folder_of(sets_dir))
    card = json.loads((folder_of(sets_dir) / JUDGE / "judge.json").read_bytes())
    [prefix] = {info.key.rpartition("/")[0] for info in bucket.list("datasets/") if "/judge/" in info.key}
    key = f"{prefix}/{'judge.json' if damaged == 'judge.json' else card['weights_sha256'] + '.safetensors'}"
    bucket.delete(key)
    bucket.put_new(key, b"{")
    with pytest.raises(DataError, match=r"judge.*train the judge again"):
        fetch_judged_set(bucket, tmp_path / "there", "numerals")
    assert not (folder_of(tmp_path / "there") / JUDGE / "judge.json").exists()
