"""Is a run begun, resumed and protected as it should be?"""

import errno
import fcntl
import gc
import logging
import os
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gan.cli.progress import distance_note
from gan.config import TrainConfig
from gan.data.dataset import Dataset
from gan.data.mnist import FILES
from gan.errors import CheckpointError, ConfigMismatchError, DataError, DeviceError, RunError
from gan.evaluation.results import QuickEvaluation
from gan.runs import checkpoint, layout, runner
from gan.runs.run_dir import RunDir
from gan.runs.runner import Run, open_run
from gan.runs.sampling import load_sampler
from gan.sync.publish import seal
from gan.training import periodic as quick
from tests.support.configs import run_config
from tests.support.digits import mnist
from tests.support.killing import differing
from tests.support.small_run import tree

CONFIG = TrainConfig(num_steps=40, snapshot_steps=10, num_threads=1)
DATA = mnist()


def train(path: Path, config: TrainConfig = CONFIG, stop_at: int | None = None, **options: bool) -> Run:
    """Train a run, to its end or to a step."""
    with open_run(path, config, DATA, **options) as run:
        for _ in run.train(lambda: run.state.step == stop_at):
            pass
    return run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "undisturbed"
    train(path)
    return path


def test_a_run_leaves_what_the_design_says(undisturbed: Path) -> None:
    names = {p.relative_to(undisturbed).as_posix() for p in undisturbed.rglob("*") if p.is_file()}
    assert {name for name in names if "tensorboard" not in name} == {
        "config.json", "provenance.json", "processes.jsonl", "reals.png", "neighbours.png", "losses.npz",
        "metrics.jsonl",
        *(f"grids/step-0000{step}.png" for step in (10, 20, 30, 40)),
        *(f"checkpoints/step-0000{step}.safetensors{end}" for step in (20, 30, 40) for end in ("", ".sha256")),
    }  # fmt: skip


def test_a_run_is_freed_without_a_garbage_collection(tmp_path: Path) -> None:
    """Its data and state take 150 MB, and the film and the report are made after training."""
    gc.disable()
    try:
        freed = weakref.ref(train(tmp_path / "run", stop_at=1).state)
    finally:
        gc.enable()
    assert freed() is None


def test_the_losses_of_every_step_are_kept(undisturbed: Path) -> None:
    losses = np.load(RunDir(undisturbed).losses_path)
    assert {name: (losses[name].dtype, losses[name].shape) for name in losses} == {
        "g_loss": (np.float32, (40,)),
        "d_loss": (np.float32, (40,)),
    }


def test_metrics_have_a_line_a_snapshot(undisturbed: Path) -> None:
    metrics = RunDir(undisturbed).read_metrics()
    losses = np.load(RunDir(undisturbed).losses_path)
    assert [line.step for line in metrics] == [10, 20, 30, 40]
    assert metrics[1].g_loss == pytest.approx(losses["g_loss"][10:20].mean())


@pytest.mark.parametrize("stop_at", [1, 10, 17, 39])
def test_a_stopped_run_resumes_to_the_same_bytes(tmp_path: Path, undisturbed: Path, stop_at: int) -> None:
    assert train(tmp_path / "run", stop_at=stop_at).state.step == stop_at
    assert differing(tmp_path / "run", undisturbed) != []
    assert train(tmp_path / "run", TrainConfig(), resume=True).finished
    assert differing(tmp_path / "run", undisturbed) == []


@torch.no_grad()
def test_a_run_of_dcgan_resumes_to_the_same_bytes_and_is_sampled(tmp_path: Path) -> None:
    config = TrainConfig(
        recipe="dcgan", num_steps=12, snapshot_steps=5, batch_size=25, augment_translate=1, num_threads=1
    )
    once = train(tmp_path / "once", config)
    train(tmp_path / "twice", config, stop_at=7)
    train(tmp_path / "twice", TrainConfig(), resume=True)
    assert differing(tmp_path / "twice", tmp_path / "once") == []
    network, _, step = load_sampler(tmp_path / "twice")
    assert step == 12 and torch.equal(network(once.state.fixed_z), once.state.sampler.eval()(once.state.fixed_z))


def test_an_evaluated_run_resumes_to_the_same_bytes_and_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "MIN_STEPS", 50)
    config = TrainConfig(num_steps=70, snapshot_steps=10, batch_size=25, num_threads=1)
    known = replace(DATA, sha256={file.name: file.sha256 for file in FILES})  # evaluated as if it were MNIST
    runs: dict[str, Run] = {}
    for name, stops in {"once": [None], "stopped-at-50": [50, None], "stopped-at-57": [57, None]}.items():
        for stop in stops:
            with open_run(tmp_path / name, config, known, resume=True) as run:
                list(run.train(lambda stop=stop, run=run: run.state.step == stop))
        runs[name] = run
    expected = evaluations(tmp_path / "once")
    assert list(expected) == [50, 70]
    for name, run in runs.items():
        assert differing(tmp_path / name, tmp_path / "once") == []
        assert evaluations(tmp_path / name) == expected
        assert run.last_evaluated is not None
        assert (run.last_evaluated.step, run.last_evaluated.evaluation) == (70, expected[70])
    events = b"".join(path.read_bytes() for path in (tmp_path / "once/tensorboard").iterdir())
    assert events.count(b"judge/distance_floor") == 2


def evaluations(run_path: Path) -> dict[int, QuickEvaluation]:
    return {line.step: line.evaluation for line in RunDir(run_path).read_metrics() if line.evaluation}


def test_evaluations_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Path) -> None:
    monkeypatch.setattr(quick, "MIN_STEPS", 40)
    known = replace(DATA, sha256={**DATA.sha256, **{file.name: file.sha256 for file in FILES}})
    with open_run(tmp_path / "run", CONFIG, known) as run:
        list(run.train())
    found = run.last_evaluated
    assert found is not None and found.evaluation is not None and found.step == 40
    assert distance_note(run) == f"distance {found.evaluation.distance:.1f} at step 40"
    assert differing(tmp_path / "run", undisturbed) == []


def test_the_neighbours_are_drawn_at_the_end_and_again_where_they_are_missing(
    tmp_path: Path, undisturbed: Path
) -> None:
    train(tmp_path / "run", stop_at=39)
    neighbours = RunDir(tmp_path / "run").neighbours_path
    assert not neighbours.exists()
    train(tmp_path / "run", resume=True)
    assert neighbours.read_bytes() == RunDir(undisturbed).neighbours_path.read_bytes()
    neighbours.unlink()
    train(tmp_path / "run", resume=True)
    assert neighbours.exists()
    neighbours.unlink()
    seal(tmp_path / "run", "run")
    train(tmp_path / "run", resume=True)
    assert not neighbours.exists()


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(
    tmp_path: Path, undisturbed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path / "run", stop_at=35)
    newest = checkpoint.path_of(tmp_path / "run", layout.checkpoint_steps_in(tmp_path / "run")[0])
    newest.write_bytes(newest.read_bytes()[:-1])
    with caplog.at_level(logging.INFO):
        train(tmp_path / "run", resume=True)
    assert "step-000035.safetensors: damaged" in caplog.text and "training steps 31 to 40" in caplog.text
    assert differing(tmp_path / "run", undisturbed) == []


def test_checkpoints_that_are_not_of_this_run_are_passed_over(
    tmp_path: Path, undisturbed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run"
    train(path, stop_at=15)
    tensors, config = checkpoint.load(checkpoint.path_of(path, 15))
    checkpoint.save(path, {**tensors, "step": torch.tensor(20)}, {**config, "learning_rate": 0.5})
    checkpoint.save(path, {**tensors, "step": torch.tensor(25)}, config)  # with the losses of 15 steps
    with caplog.at_level(logging.INFO):
        train(path, resume=True)
    assert "step-000020.safetensors: its config is of another run: it differs in learning_rate" in caplog.text
    assert "step-000025.safetensors: the checkpoint does not fit this version: g_losses is" in caplog.text
    assert "training steps 16 to 40" in caplog.text
    assert differing(path, undisturbed) == []


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


def test_where_no_checkpoint_verifies_only_from_scratch_continues(tmp_path: Path, undisturbed: Path) -> None:
    path = tmp_path / "run"
    train(path, stop_at=25)
    for step in layout.checkpoint_steps_in(path):
        checkpoint.path_of(path, step).write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the 3 checkpoints verifies"):
        train(path, resume=True)
    train(path, from_scratch=True)
    assert differing(path, undisturbed) == []


LEFT_OUT: dict[str, Callable[[str], bool]] = {
    "generator's weights": lambda name: name.startswith("generator") and name.endswith(("weight", "bias")),
    "generator's batch statistics": lambda name: name.startswith("generator") and "running" in name,
    "discriminator": lambda name: name.startswith("discriminator"),
    "averaged generator": lambda name: name.startswith("ema"),
    "averaged batch statistics": lambda name: name.startswith("ema") and "running" in name,
    "G's first moments": lambda name: name.startswith("g_adam") and name.endswith("exp_avg"),
    "G's second moments": lambda name: name.startswith("g_adam") and name.endswith("exp_avg_sq"),
    "G's Adam steps": lambda name: name.startswith("g_adam") and name.endswith("step"),
    "D's first moments": lambda name: name.startswith("d_adam") and name.endswith("exp_avg"),
    "D's second moments": lambda name: name.startswith("d_adam") and name.endswith("exp_avg_sq"),
    "D's Adam steps": lambda name: name.startswith("d_adam") and name.endswith("step"),
    "random stream": lambda name: name == "random",
    "g_losses": lambda name: name == "g_losses",
    "d_losses": lambda name: name == "d_losses",
}


@pytest.fixture(scope="module")
def stopped_at_15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "stopped"
    train(path, stop_at=15)
    return path


@pytest.mark.parametrize("item", [None, *LEFT_OUT])
def test_leaving_out_any_item_of_the_state_shows(
    tmp_path: Path, undisturbed: Path, stopped_at_15: Path, item: str | None
) -> None:
    """The control of every resume test: with one item not restored, the bytes differ; with all, they do not.

    A step that does not match the number of losses is refused, see above.
    """
    shutil.copytree(stopped_at_15, tmp_path / "run")
    with open_run(tmp_path / "run", CONFIG, DATA, resume=True) as run:
        fresh = type(run.state)(run.config).tensors()
        restored = {name: tensor.clone() for name, tensor in run.state.tensors().items()}
        if item:
            names = [name for name in restored if LEFT_OUT[item](name)]
            assert names
            restored |= {name: fresh[name] if fresh[name].numel() else restored[name] * 0 for name in names}
        run.state.load(restored)
        list(run.train())
    assert (differing(tmp_path / "run", undisturbed) == []) == (item is None)


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    train(tmp_path / "run", stop_at=5)
    with pytest.raises(RunError, match="exists already. Use --resume"):
        train(tmp_path / "run")


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="not a run directory"):
        train(tmp_path, from_scratch=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_kill_left_before_there_was_a_config_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".config.json.x1.tmp").write_text("{")
    train(tmp_path, stop_at=1)
    assert not list(tmp_path.glob(".*"))


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
    monkeypatch.setattr(runner, "choose_precision", lambda kind: "bfloat16")
    train(tmp_path / "run", auto, stop_at=1)
    monkeypatch.setattr(runner, "choose_precision", lambda kind: "float32")  # as on another machine
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
