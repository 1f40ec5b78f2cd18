"""Is every change to any byte of a run found and named?"""

import hashlib
import json
from pathlib import Path

import pytest

from gan.errors import CheckpointError, StorageError
from gan.runs.manifest import Best, Manifest
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


def edited(manifest: Manifest, **changes: object) -> bytes:
    """Return a manifest with other fields and the hash that goes with them, as a forger would write it."""
    body = {**manifest.model_dump(exclude={"sha256"}), **changes}
    content = json.dumps(body, indent=2, sort_keys=True).encode() + b"\n"
    document = {**body, "sha256": hashlib.sha256(content).hexdigest()}
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def test_every_file_is_listed_with_its_size_and_hash(run_path: Path) -> None:
    (run_path / "grids/.step-003000.png.x7.tmp").write_bytes(b"cut short")
    manifest = Manifest.of(run_path, "a")
    assert list(manifest.files) == NAMES
    for name, content in FILES.items():
        assert manifest.files[name].model_dump() == {
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }


def test_the_same_run_gives_the_same_bytes(run_path: Path, tmp_path: Path) -> None:
    first = Manifest.of(run_path, "a").to_bytes()
    (run_path / "manifest.json").write_bytes(first)
    assert Manifest.of(run_path, "a").to_bytes() == Manifest.of(write_run(tmp_path / "b"), "a").to_bytes() == first
    assert Manifest.parse(first, "here").to_bytes() == first


def evaluated(run_path: Path, **distances: float) -> Manifest:
    """Return the manifest of a run that was evaluated at steps."""
    lines = [{"step": int(step[1:]), "evaluation": {"distance": value}} for step, value in distances.items()]
    (run_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Manifest.of(run_path, "a")


def test_the_best_checkpoint_is_named(run_path: Path) -> None:
    manifest = evaluated(run_path, _1000=14.5, _2000=20.0)
    assert manifest.best == Best(step=1000, distance=14.5)
    raw = manifest.to_bytes()
    assert json.loads(raw)["best"] == {"step": 1000, "distance": 14.5}
    assert Manifest.parse(raw, "here") == manifest
    with pytest.raises(StorageError, match="here is damaged: SHA-256 of its content"):
        Manifest.parse(raw.replace(b"14.5", b"14.6"), "here")


def test_a_checkpoint_that_is_not_there_is_not_named(run_path: Path) -> None:
    assert evaluated(run_path, _500=1.5, _2000=20.0).best == Best(step=2000, distance=20.0)
    assert evaluated(run_path, _500=1.5).best is None


def test_a_run_that_was_not_evaluated_has_no_best(run_path: Path) -> None:
    assert json.loads(Manifest.of(run_path, "a").to_bytes())["best"] is None


def test_a_manifest_from_before_there_was_a_best_is_read(run_path: Path) -> None:
    document = json.loads(Manifest.of(run_path, "a").to_bytes())
    del document["best"], document["sha256"]
    content = json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"
    document["sha256"] = hashlib.sha256(content).hexdigest()
    old = json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"
    manifest = Manifest.parse(old, "here")
    assert manifest.best is None and manifest.to_bytes() == old
    assert manifest.differences(Manifest.of(run_path, "a")) == []


def test_any_flipped_bit_of_a_manifest_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    raw = Manifest.of(tmp_path, "a").to_bytes()
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StorageError, match=r"^(here|run id)\b"):
            Manifest.parse(bytes(flipped), "here")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "here is damaged: it is not a JSON document"),
        (b"[" * 100_000, "here is damaged: it is not a JSON document"),
        (b"\xff", "here is damaged: it is not a JSON document"),
        (b"[]", "here is damaged"),
        (b"{}", "here is damaged: run_id: Field required"),
        (b'{"version": 2}', "here has version 2, expected 1"),
    ],
)
def test_what_is_no_manifest_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        Manifest.parse(raw, "here")


def test_a_manifest_written_in_another_way_is_refused(run_path: Path) -> None:
    raw = Manifest.of(run_path, "a").to_bytes()
    for other in (raw + b" ", raw[:-1], json.dumps(json.loads(raw)).encode()):
        with pytest.raises(StorageError, match="here is damaged: its content is right, but"):
            Manifest.parse(other, "here")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\\b", "a//b", "", "a\n"])
def test_a_path_that_leaves_the_run_is_refused(run_path: Path, name: str) -> None:
    forged = edited(Manifest.of(run_path, "a"), files={name: {"size": 0, "sha256": "0" * 64}})
    with pytest.raises(StorageError, match=r"here: .* cannot name a file of a run"):
        Manifest.parse(forged, "here")


@pytest.mark.parametrize("run_id", ["", "..", "a/b", "a\\b"])
def test_a_run_id_that_is_no_folder_is_refused(run_path: Path, run_id: str) -> None:
    with pytest.raises(StorageError, match="run id"):
        Manifest.of(run_path, run_id)
    with pytest.raises(StorageError, match="run id"):
        Manifest.parse(edited(Manifest.of(run_path, "a"), run_id=run_id), "here")


@pytest.mark.parametrize("target", ["grids", "config.json", "nowhere"])
def test_a_link_is_refused(run_path: Path, target: str) -> None:
    (run_path / "more").symlink_to(run_path / target)
    with pytest.raises(StorageError, match="more is not a regular file"):
        Manifest.of(run_path, "a")


def test_a_missing_run_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none cannot be read \(No such file"):
        Manifest.of(tmp_path / "none", "a")


@pytest.mark.parametrize("suffix", ["", ".sha256"])
def test_a_checkpoint_that_contradicts_its_sidecar_is_refused(run_path: Path, suffix: str) -> None:
    flip_bit(run_path / f"checkpoints/step-001000.safetensors{suffix}")
    if suffix:
        (run_path / f"checkpoints/step-001000.safetensors{suffix}").write_bytes(b"\xff\x00")
    with pytest.raises(CheckpointError, match=r"step-001000\.safetensors is damaged: SHA-256 expected .* found"):
        Manifest.of(run_path, "a")


def test_a_whole_run_verifies(sealed: LocalStore) -> None:
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
