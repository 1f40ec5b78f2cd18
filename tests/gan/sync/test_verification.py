"""Is every change to any byte of a published run found and named?"""

import hashlib
from pathlib import Path

import pytest

from gan.errors import StorageError
from gan.runs.manifest import Manifest
from gan.storage.local import LocalStore
from gan.sync.stored_run import StoredRun
from gan.sync.verification import Problem, verify
from tests.support.small_run import FILES, NAMES, flip_bit, write_run


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture
def sealed(run_path: Path) -> LocalStore:
    (run_path / "manifest.json").write_bytes(Manifest.of(run_path, "a").to_bytes())
    return LocalStore(run_path)


def test_a_complete_run_verifies(sealed: LocalStore) -> None:
    seen: list[tuple[int, int]] = []
    verification = verify(StoredRun(sealed), lambda done, total: seen.append((done, total)))
    total = sum((sealed.root / name).stat().st_size for name in NAMES)
    assert verification.problems == []
    assert (verification.run_id, verification.num_files, verification.num_bytes) == ("a", len(NAMES), total)
    assert len(seen) == len(NAMES) and seen[-1] == (total, total)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_in_any_file_is_found_and_named(sealed: LocalStore, name: str) -> None:
    flip_bit(sealed.root / name)
    [problem] = verify(StoredRun(sealed)).problems
    assert problem.file == name
    assert problem.expected != problem.found


def test_a_flipped_bit_in_the_manifest_is_found_and_named(sealed: LocalStore) -> None:
    flip_bit(sealed.root / "manifest.json")
    with pytest.raises(StorageError, match=r"manifest\.json in .* is damaged"):
        verify(StoredRun(sealed))


def test_a_manifest_that_is_a_link_is_not_a_file_of_the_run(sealed: LocalStore, tmp_path: Path) -> None:
    manifest = (sealed.root / "manifest.json").rename(tmp_path / "elsewhere.json")
    (sealed.root / "manifest.json").symlink_to(manifest)
    [problem] = verify(StoredRun(sealed)).problems
    assert problem == Problem(file="manifest.json", problem="missing", expected=manifest.stat().st_size, found=None)


def test_all_problems_are_reported(sealed: LocalStore) -> None:
    (sealed.root / "config.json").unlink()
    (sealed.root / "grids/step-001000.png").write_bytes(b"\x89PNG uno")
    (sealed.root / "metrics.jsonl").write_bytes(b"{}")
    (sealed.root / "notes.txt").write_bytes(b"hello")
    found = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    uno = hashlib.sha256(b"\x89PNG uno").hexdigest()
    assert verify(StoredRun(sealed)).problems == [
        Problem(file="config.json", problem="missing", expected=53, found=None),
        Problem(file="grids/step-001000.png", problem="sha256", expected=found["grids/step-001000.png"], found=uno),
        Problem(file="metrics.jsonl", problem="size", expected=29, found=2),
        Problem(file="notes.txt", problem="unlisted", expected=None, found=5),
    ]


def test_a_problem_says_what_was_expected_and_found() -> None:
    problems = [
        Problem(file="a", problem="missing", expected=33_000_000, found=None),
        Problem(file="a", problem="size", expected=1000, found=2),
        Problem(file="a", problem="sha256", expected="ab", found="cd"),
        Problem(file="a", problem="unlisted", expected=None, found=5000),
    ]
    assert [str(problem) for problem in problems] == [
        "a: missing; expected 33,000,000 bytes, found no regular file",
        "a: expected 1,000 bytes, found 2",
        "a: expected SHA-256 ab, found cd",
        "a: 5,000 bytes, not listed in manifest.json",
    ]


def test_a_run_without_a_manifest_is_unfinished(run_path: Path) -> None:
    with pytest.raises(StorageError, match=r"manifest\.json in .* is missing: .*unfinished"):
        verify(StoredRun.at(run_path))
