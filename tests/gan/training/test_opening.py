"""Is a run opened only where it can be trained, and is what differs refused or said?"""

import errno
import fcntl
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gan.config import TrainConfig
from gan.data.dataset import Dataset
from gan.errors import ConfigMismatchError, DataError, DeviceError, RunError
from gan.files import atomic_write
from gan.runs import checkpoint
from gan.runs.run_dir import RunDir
from gan.runs.sampling import load_sampler
from gan.training import resolving
from gan.training.runner import Run, open_run
from tests.support.configs import run_config
from tests.support.digits import mnist
from tests.support.small_run import tree
from tests.support.training import CONFIG, DATA, train

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.mark.parametrize("name", ["-x", ".hidden", "$(id)", "[x](http:", "a b", "é", "a" * 129])
def test_a_new_run_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="a new run cannot have the id .*Give it another id, or its directory another"):
        train(tmp_path / name, resume=True)
    assert list(tmp_path.iterdir()) == []
    train(tmp_path / "run", stop_at=1)
    (tmp_path / "run").rename(tmp_path / name)  # of a version that took such names
    assert train(tmp_path / name, stop_at=2, resume=True).state.step == 2


def test_a_folder_with_the_name_of_a_temporary_file_stays(tmp_path: Path) -> None:
    train(tmp_path / "run", stop_at=1)
    (tmp_path / "run/.notes.tmp").mkdir()
    train(tmp_path / "run", stop_at=2, resume=True)
    assert (tmp_path / "run/.notes.tmp").is_dir()


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    train(tmp_path / "run", stop_at=5)
    with pytest.raises(RunError, match="exists already. Use --resume"):
        train(tmp_path / "run")


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="not a run directory"):
        train(tmp_path, from_scratch=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_path_that_leads_back_to_a_folder_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="exists already"):
        train(tmp_path / "new" / "..")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_kill_left_before_there_was_a_config_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".config.json.x1.tmp").write_text("{")
    train(tmp_path, stop_at=1)
    assert not list(tmp_path.glob(".*"))


def test_a_file_that_is_being_written_is_no_leftover(tmp_path: Path) -> None:
    train(tmp_path / "run", stop_at=1)

    def write() -> Iterator[bytes]:
        yield b"one "
        train(tmp_path / "run", stop_at=2, resume=True)
        yield b"two"

    atomic_write(tmp_path / "run/report/index.html", write())
    assert (tmp_path / "run/report/index.html").read_bytes() == b"one two"


@pytest.mark.parametrize("place", ["/proc/nope/run", "/dev/null/run", "/dev/null"])
def test_a_place_that_cannot_hold_a_run_is_named(place: str) -> None:
    with pytest.raises(RunError, match=f"{place} cannot hold a run: .*Check the path"):
        train(Path(place), resume=True)


def test_a_set_smaller_than_a_batch_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="256 training images do not fill one batch of 300"):
        train(tmp_path / "some" / "run", TrainConfig(batch_size=300, num_threads=1))
    assert not list(tmp_path.iterdir())
    train(tmp_path / "some" / "run", stop_at=1)


def test_a_run_that_is_there_stays_where_it_cannot_be_opened(tmp_path: Path) -> None:
    train(tmp_path / "run", stop_at=5)
    before = tree(tmp_path)
    few = mnist(num_train=20)
    with pytest.raises(DataError), open_run(tmp_path / "run", CONFIG, few, resume=True):
        pass
    assert tree(tmp_path) == before


def test_a_file_system_that_cannot_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_args: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    run = tmp_path / "run"
    with pytest.raises(RunError, match=f"{run}: its file system cannot lock a folder: Function not implemented. Check"):
        train(run)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("checkpoints", "checkpoints is not a regular file"),
        ("pipe", "pipe is not a regular file"),
        ("my\\notes", "cannot name a file of a run"),
        ("my\tnotes", "cannot name a file of a run"),
        ("my\xa0notes", "cannot name a file of a run"),
        ("my\udcffnotes", "cannot name a file of a run"),
    ],
)
def test_what_no_manifest_can_list_is_named_before_the_training(tmp_path: Path, name: str, said: str) -> None:
    train(tmp_path / "run", stop_at=5)
    path = tmp_path / "run" / name
    if name == "checkpoints":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif name == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"")
    with pytest.raises(RunError, match=said):
        train(tmp_path / "run", resume=True)
    assert RunDir(tmp_path / "run").grids() == []


def test_a_name_that_no_manifest_takes_is_refused_on_resume(tmp_path: Path) -> None:
    train(tmp_path / "run", stop_at=5)
    (tmp_path / "run").rename(tmp_path / "my\trun")
    with pytest.raises(RunError, match="run id"):
        train(tmp_path / "my\trun", resume=True)


def test_another_config_is_refused_field_by_field(tmp_path: Path) -> None:
    train(tmp_path / "run", stop_at=5)
    with pytest.raises(ConfigMismatchError, match=r"(?s)num_steps: the run has 40, asked for 50.*seed: .* 0, .* 9"):
        train(tmp_path / "run", TrainConfig(num_steps=50, seed=9), resume=True)


def test_other_data_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "run", stop_at=5)
    other = Dataset(*(getattr(DATA, n) for n in ("train_images", "train_labels", "test_images", "test_labels")),
                  sha256={"train-images-idx3-ubyte": "1" * 64})  # fmt: skip
    with pytest.raises(ConfigMismatchError, match="made from other data: train-images-idx3-ubyte"), \
         open_run(tmp_path / "run", CONFIG, other, resume=True):  # fmt: skip
        pass


def test_two_processes_do_not_train_one_run(tmp_path: Path) -> None:
    with (
        open_run(tmp_path / "run", CONFIG, DATA),
        pytest.raises(RunError, match="another process is training"),
        open_run(tmp_path / "run", CONFIG, DATA, resume=True),
    ):
        pass
    train(tmp_path / "run", resume=True)


def test_the_thread_count_is_the_runs_own(tmp_path: Path) -> None:
    train(tmp_path / "run", stop_at=5)
    torch.set_num_threads(2)
    train(tmp_path / "run", TrainConfig(), resume=True)
    assert torch.get_num_threads() == 1


def test_auto_precision_is_chosen_when_a_run_begins_and_kept_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = CONFIG.model_copy(update={"precision": "auto", "batch_size": 25})
    monkeypatch.setattr(resolving, "choose_precision", lambda kind: "bfloat16")
    train(tmp_path / "run", auto, stop_at=1)
    monkeypatch.setattr(resolving, "choose_precision", lambda kind: "float32")  # as on another machine
    assert train(tmp_path / "run", auto, resume=True, stop_at=2).config.precision == "bfloat16"
    assert RunDir(tmp_path / "run").read_config().precision == "bfloat16"


ONE_DIGIT = replace(DATA, train_labels=np.full_like(DATA.train_labels, 3))


def asked_classes(run: Run) -> list[int]:
    """Return the classes that the generator in training and its average are asked for."""
    networks = [network for network in (run.state.generator, run.state.ema) if network]
    return torch.cat([network.labels(torch.randn(500, 100)) for network in networks]).unique().tolist()


def test_the_generator_is_asked_for_the_classes_of_the_training_images_alone(tmp_path: Path) -> None:
    for step in (10, 20):
        with open_run(tmp_path / "run", CONFIG, ONE_DIGIT, resume=True) as run:
            assert asked_classes(run) == [3]
            for _ in run.train(lambda stop_at=step: run.state.step == stop_at):
                pass
    assert load_sampler(tmp_path / "run")[0].class_counts.tolist() == [0, 0, 0, 256, 0, 0, 0, 0, 0, 0]


def test_a_run_that_asks_for_classes_without_images_is_resumed_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Older versions asked for MNIST's classes, whatever the data was. Their runs keep their bytes."""
    run = train(tmp_path / "run", stop_at=10)
    tensors = run.state.tensors()
    del tensors["class_counts"]
    checkpoint.save(tmp_path / "run", tensors, run.config.model_dump(mode="json"))
    with open_run(tmp_path / "run", CONFIG, ONE_DIGIT, resume=True) as run:
        assert asked_classes(run) == [*range(10)]
    assert "the training images have no 0, 1, 2, 4, 5, 6, 7, 8, 9, and this run of an older version" in caplog.text


def test_a_run_of_a_gpu_is_not_resumed_without_one_and_no_option_is_advised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    run = RunDir(tmp_path / "run")
    run.write_config(run_config(num_steps=40).model_copy(update={"device": "cuda"}))
    with pytest.raises(
        DeviceError, match=r"run was made on cuda, which cannot .*: resume it on a machine with a GPU"
    ) as e:
        train(run.path, TrainConfig(), resume=True)
    assert "--device" not in str(e.value)
