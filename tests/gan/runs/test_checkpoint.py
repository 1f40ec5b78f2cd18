"""Is a checkpoint written completely, checked when it is read, and deleted in time?"""

import hashlib
import io
import logging
import random
import subprocess
from pathlib import Path

import pytest
import torch

from gan.errors import CheckpointError, StorageError
from gan.runs import checkpoint, layout
from tests.support.configs import run_config

CONFIG: dict[str, object] = {"recipe": "tuned", "num_steps": 100}


def save(run_path: Path, step: int) -> Path:
    return checkpoint.save(run_path, {"step": torch.tensor(step), "w": torch.arange(4.0)}, CONFIG)


def put(path: Path, data: bytes) -> Path:
    """Write a file and a sidecar with its SHA-256."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    checkpoint.sidecar_of(path).write_text(hashlib.sha256(data).hexdigest())
    return path


def flip_bit(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_a_saved_checkpoint_is_loaded_unchanged(tmp_path: Path) -> None:
    tensors, config = checkpoint.load(save(tmp_path, 1000))
    assert torch.equal(tensors["w"], torch.arange(4.0))
    assert config == CONFIG


def test_sha256sum_checks_the_sidecar(tmp_path: Path) -> None:
    save(tmp_path, 1000)
    checked = subprocess.run(
        ["sha256sum", "-c", "step-001000.safetensors.sha256"], cwd=tmp_path / "checkpoints", check=False
    )
    assert checked.returncode == 0


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    assert save(tmp_path / "a", 1).read_bytes() == save(tmp_path / "b", 1).read_bytes()


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    path = save(tmp_path, 1000)
    for position in range(0, path.stat().st_size, 7):
        flip_bit(path, position)
        with pytest.raises(CheckpointError, match="step-001000.*damaged"):
            checkpoint.load(path)
        flip_bit(path, position)
    checkpoint.load(path)


def test_the_newest_good_one_is_taken_and_the_damaged_one_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1000)
    flip_bit(save(tmp_path, 2000), -1)
    with caplog.at_level(logging.WARNING):
        newest = checkpoint.load_newest(tmp_path)
    assert newest is not None and int(newest[0]["step"]) == 1000
    assert "step-002000.safetensors: damaged" in caplog.text


def test_when_no_checkpoint_verifies_loading_fails(tmp_path: Path) -> None:
    flip_bit(save(tmp_path, 1000), 9)
    checkpoint.sidecar_of(save(tmp_path, 2000)).unlink()
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints verifies.*--from-scratch"):
        checkpoint.load_newest(tmp_path)


def test_a_run_without_checkpoints_loads_none(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path / "none") is None


def test_a_sidecar_alone_is_not_a_checkpoint(tmp_path: Path) -> None:
    """As after a kill between the two writes of a save."""
    save(tmp_path, 1000).unlink()
    assert checkpoint.load_newest(tmp_path) is None


def test_retention_is_the_last_3_every_10th_and_the_final_one(tmp_path: Path) -> None:
    for step in [*range(1000, 25_000, 1000), 24_500]:
        save(tmp_path, step)
        checkpoint.prune(tmp_path, snapshot_steps=1000, last_step=24_500)
    kept = layout.checkpoint_steps_in(tmp_path)
    assert kept == [24_500, 24_000, 23_000, 20_000, 10_000]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2 * len(kept)


def test_the_best_one_is_kept_until_there_is_a_better_one(tmp_path: Path) -> None:
    kept = {}
    for step in range(1000, 8000, 1000):
        save(tmp_path, step)
        checkpoint.prune(tmp_path, snapshot_steps=1000, last_step=50_000, best_step=2000 if step < 7000 else 7000)
        kept[step] = layout.checkpoint_steps_in(tmp_path)
    assert kept[6000] == [6000, 5000, 4000, 2000]
    assert kept[7000] == [7000, 6000, 5000]


def test_a_run_that_is_sent_back_keeps_only_what_was_before(tmp_path: Path) -> None:
    for step in (0, 1000, 2000, 3000):
        save(tmp_path, step)
    checkpoint.discard_after(tmp_path, 1000)
    assert sorted(path.name for path in tmp_path.glob("checkpoints/*.safetensors")) == [
        "step-000000.safetensors", "step-001000.safetensors",
    ]  # fmt: skip
    assert len(list((tmp_path / "checkpoints").iterdir())) == 4


def test_the_beginning_of_an_attempt_is_not_kept(tmp_path: Path) -> None:
    for step in (0, 1000, 2000, 3000):
        save(tmp_path, step)
        checkpoint.prune(tmp_path, snapshot_steps=1000, last_step=9000)
    assert layout.checkpoint_steps_in(tmp_path) == [3000, 2000, 1000]


@pytest.mark.parametrize(
    ("rewinds", "step", "leads_there"),
    [
        ((), 9000, False),  # of the first attempt, which was sent back to 4000
        ((), 4000, True),
        ((4000,), 7000, False),
        ((4000,), 6000, True),
        ((4000, 6000), 9000, True),
        ((5000,), 6000, False),
        ((4000, 6000, 0), 0, False),
    ],
)
def test_whether_training_leads_from_one_position_to_another(
    rewinds: tuple[int, ...], step: int, leads_there: bool
) -> None:
    assert checkpoint.Position(rewinds, step).leads_to((4000, 6000)) is leads_there


def test_a_checkpoint_has_its_position(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"step": torch.tensor(5)}, CONFIG, (4000, 0))
    assert checkpoint.position_of(tmp_path, 5) == checkpoint.Position((4000, 0), 5)


def test_the_newest_good_snapshot_before_a_step_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1000, 2000, 2345, 3000):
        save(tmp_path, step)
    assert checkpoint.newest_good_snapshot(tmp_path, before_step=3000, snapshot_steps=1000) == 2000
    flip_bit(checkpoint.path_of(tmp_path, 2000), -1)
    assert checkpoint.newest_good_snapshot(tmp_path, before_step=3000, snapshot_steps=1000) == 1000
    assert "step-002000.safetensors: damaged" in caplog.text
    assert checkpoint.newest_good_snapshot(tmp_path, before_step=1000, snapshot_steps=1000) == 0


def test_an_interruptions_checkpoint_is_deleted_after_a_newer_one(tmp_path: Path) -> None:
    for step in (1000, 1234):
        save(tmp_path, step)
        checkpoint.prune(tmp_path, snapshot_steps=1000, last_step=9000)
    assert layout.checkpoint_steps_in(tmp_path) == [1234, 1000]
    save(tmp_path, 2000)
    checkpoint.prune(tmp_path, snapshot_steps=1000, last_step=9000)
    assert layout.checkpoint_steps_in(tmp_path) == [2000, 1000]


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1000)
    (tmp_path / "checkpoints/step-002000.safetensors").mkdir()  # a rename onto a folder fails, also for root
    with pytest.raises(StorageError, match=r"step-002000\.safetensors"):
        save(tmp_path, 2000)
    assert not list(tmp_path.rglob(".*"))
    checkpoint.load(checkpoint.path_of(tmp_path, 1000))


SWAPS = [
    (b'"F32"', b'"F4"'), (b'"F32"', b'"C64"'), (b'"I64"', b'"BOOL"'), (b'"I64"', b'"F64"'), (b"[4]", b"[2,2]"),
    (b"[4]", b"[-4]"), (b"[]", b"[1]"), (b'"step"', b'"stop"'), (b'"gan"', b'"gin"'), (b"version", b"versions"),
    (b'\\"version\\": 1', b'\\"version\\": null'), (b"[7]", b"7"), (b"[7]", b"[{}]"), (b"[7]", b"[-7]"),
    (b'{\\"config', b'[[[{\\"config'), (b"__metadata__", b"__metadata"), (b'{"__m', b"[" * 3000 + b'{"__m'),
]  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return a checkpoint with a header that is damaged, or that somebody has written to do damage."""
    end = 8 + int.from_bytes(data[:8], "little")
    header, at = bytearray(data[8:end]), rng.randrange(8, end)
    kind = rng.randrange(4)
    if kind == 0:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if kind == 1:
        return data[: rng.randrange(end)] if rng.random() < 0.3 else rng.randbytes(8) + data[8:]
    if kind == 2:
        del header[at - 8 : at - 8 + rng.randrange(1, 9)]
    else:
        header = header.replace(*rng.choice(SWAPS))
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


def test_no_header_is_loaded_wrongly_or_stops_the_fall_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each of the mutations has a sidecar with its SHA-256."""
    save(tmp_path, 1000)
    newest = checkpoint.save(tmp_path, {"step": torch.tensor(2000), "w": torch.arange(4.0)}, CONFIG, (7,))
    good, rng, taken = newest.read_bytes(), random.Random(0), []
    for _ in range(300):
        put(newest, mutated(good, rng))
        found = checkpoint.load_newest(tmp_path)
        assert found is not None
        taken.append(found.step)
        assert checkpoint.position_of(tmp_path, 2000) in (None, *(checkpoint.Position(r, 2000) for r in ((), (7,))))
    assert set(taken) == {1000, 2000} and taken.count(1000) > 200
    assert "step-002000.safetensors: not a checkpoint of gan-train, although its SHA-256 is right" in caplog.text


def test_a_file_of_another_kind_is_not_a_checkpoint(tmp_path: Path) -> None:
    pickled = io.BytesIO()
    torch.save({"w": torch.arange(4.0)}, pickled)
    for name, data in (("model.pt", pickled.getvalue()), ("notes.txt", b"notes" * 100), ("empty.safetensors", b"")):
        with pytest.raises(CheckpointError, match=f"{name}: not a checkpoint of gan-train.*Restore it from a copy"):
            checkpoint.load(put(tmp_path / name, data))


def test_a_checkpoint_under_the_name_of_another_step_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(checkpoint.path_of(tmp_path, 3000), save(tmp_path, 2000).read_bytes())
    newest = checkpoint.load_newest(tmp_path)
    assert newest is not None and newest.step == 2000
    assert "step-003000.safetensors: it holds step 2000" in caplog.text


def test_a_checkpoint_of_another_config_is_refused(tmp_path: Path) -> None:
    ours, other = run_config(num_steps=100), run_config(num_steps=100, latent_dim=64, seed=5)
    found = checkpoint.load(checkpoint.save(tmp_path, {"step": torch.tensor(1)}, other.model_dump(mode="json")))
    checkpoint.check_config(found, other)
    with pytest.raises(CheckpointError, match="its config is of another run: it differs in seed, latent_dim"):
        checkpoint.check_config(found, ours)
    with pytest.raises(CheckpointError, match="no run can have its config .num_steps: Input should be a valid integer"):
        checkpoint.config_in(found._replace(config={**found.config, "num_steps": None}))


def test_files_that_only_look_like_checkpoints_are_left_alone(tmp_path: Path) -> None:
    theirs = [
        tmp_path / "checkpoints" / name
        for name in ("step-000100-2.safetensors", "step-000100 copy 2.safetensors", "step-\u096600100.safetensors")
    ]
    for path in theirs:
        put(path, b"theirs")
    lost = put(tmp_path / "checkpoints/best.safetensors", b"theirs")
    lost.unlink()
    for step in (100, 200, 300, 400):
        save(tmp_path, step)
        checkpoint.prune(tmp_path, snapshot_steps=100, last_step=9000)
    assert layout.checkpoint_steps_in(tmp_path) == [400, 300, 200]
    assert all(path.read_bytes() == b"theirs" and checkpoint.sidecar_of(path).exists() for path in theirs)
    assert checkpoint.sidecar_of(lost).exists()
