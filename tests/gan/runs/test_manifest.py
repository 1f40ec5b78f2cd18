"""Does a manifest list every file of a run, and is a changed manifest refused?"""

import hashlib
import json
from pathlib import Path

import pytest

from gan.errors import CheckpointError, StorageError
from gan.runs.manifest import Best, Manifest, best_of, read_measured
from tests.support.failing_disk import FailingDisk, failing
from tests.support.small_run import FILES, NAMES, flip_bit, write_run


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


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
def test_an_invalid_manifest_is_refused(raw: bytes, message: str) -> None:
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
def test_a_run_id_that_is_not_a_folder_name_is_refused(run_path: Path, run_id: str) -> None:
    with pytest.raises(StorageError, match="run id"):
        Manifest.of(run_path, run_id)
    with pytest.raises(StorageError, match="run id"):
        Manifest.parse(edited(Manifest.of(run_path, "a"), run_id=run_id), "here")


@pytest.mark.parametrize("target", ["grids", "config.json", "nowhere"])
def test_a_link_is_refused(run_path: Path, target: str) -> None:
    (run_path / "more").symlink_to(run_path / target)
    with pytest.raises(StorageError, match="more is not a regular file"):
        Manifest.of(run_path, "a")


def test_any_read_that_fails_is_named(run_path: Path) -> None:
    with failing(counted := FailingDisk(run_path, reads=True)):
        Manifest.of(run_path, "run")
    assert counted.num_done > len(NAMES)
    for number in range(1, counted.num_done + 1):
        with failing(FailingDisk(run_path, number, reads=True)), pytest.raises(StorageError, match="cannot be read"):
            Manifest.of(run_path, "run")


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


METRICS = """{"version": 1, "step": 10, "evaluation": {"distance": 9.5}}
{"version": 1, "step": 20, "evaluation": null}
{"version": 1, "step": 30}
{"version": 1, "step": 40, "evaluation": {"distance": 7.25}}
{"version": 1, "step": 50, "evaluation": {"distance": 7.25}}
nonsense
[1]
{"version": 1, "step": 60, "evaluation": {"dist"""


def test_the_least_distance_is_the_best_and_the_first_of_equals(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(METRICS + "\n" + "[" * 100_000)
    assert [each.step for each in read_measured(path)] == [10, 40, 50]
    assert best_of(read_measured(path)) == Best(step=40, distance=7.25)


@pytest.mark.parametrize("content", ["", '{"step": 30}\n', '{"step": "1", "evaluation": {"distance": 1.5}}\n'])
def test_without_a_measurement_there_is_no_best(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(content)
    assert best_of(read_measured(tmp_path / "metrics.jsonl")) is None


def test_without_metrics_there_is_no_best(tmp_path: Path) -> None:
    assert best_of(read_measured(tmp_path / "metrics.jsonl")) is None
