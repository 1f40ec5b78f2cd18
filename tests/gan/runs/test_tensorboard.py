"""Does TensorBoard read what a run writes: every loss, every grid, also after a resume?"""

import shutil
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan.config import TrainConfig
from gan.runs.run_dir import RunDir
from gan.runs.tensorboard import EventLog
from gan.training.runner import open_run
from tests.support.digits import mnist

pytestmark = pytest.mark.usefixtures("small_networks")

CONFIG = TrainConfig(num_steps=30, snapshot_steps=10, num_threads=1)


def read(directory: Path) -> EventAccumulator:
    return EventAccumulator(str(directory), size_guidance={"scalars": 0, "images": 0}).Reload()


def read_losses(directory: Path) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(directory).Scalars("g_loss")]


def write_losses(directory: Path, first_step: int, last_step: int, loss: float) -> None:
    """Write losses as a run does that resumes just before `first_step`."""
    with EventLog(directory, resumed_at=first_step - 1) as events:
        for step in range(first_step, last_step + 1):
            events.scalars(step, g_loss=loss)


def test_every_loss_grid_and_throughput_is_there_once_after_a_resume(tmp_path: Path) -> None:
    for stop_at in (13, None):
        with open_run(tmp_path / "run", CONFIG, mnist(), resume=True) as run:
            list(run.train(lambda stop_at=stop_at, run=run: run.state.step == stop_at))
    events = read(tmp_path / "run" / "tensorboard")
    for tag, losses in (("g_loss", run.state.g_losses), ("d_loss", run.state.d_losses)):
        assert [event.step for event in events.Scalars(tag)] == list(range(1, 31))
        assert [event.value for event in events.Scalars(tag)] == pytest.approx(losses.tolist())
    assert [event.step for event in events.Images("samples")] == [10, 20, 30]
    assert [event.step for event in events.Scalars("steps_per_second")] == [10, 20, 30]
    name = RunDir(tmp_path / "run").read_name()
    assert name.startswith("tuned, 30 steps, seed 0, 20") and name.endswith(" UTC")
    (text,) = events.Tensors("run")
    assert text.tensor_proto.string_val[0].decode() == f"run: {name}"
    png = (tmp_path / "run" / "grids" / "step-000030.png").read_bytes()
    assert events.Images("samples")[-1].encoded_image_string == png


def test_events_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    """A killed run may have written events of steps that it trains again."""
    write_losses(tmp_path, 1, 15, -1.0)
    write_losses(tmp_path, 11, 20, 1.0)
    assert read_losses(tmp_path) == [(step, -1.0 if step <= 10 else 1.0) for step in range(1, 21)]


def test_many_resumes_within_a_second_keep_their_order(tmp_path: Path) -> None:
    for step in range(1, 31):
        write_losses(tmp_path, step, step, float(step))
    assert read_losses(tmp_path) == [(step, float(step)) for step in range(1, 31)]


def test_a_resume_where_the_clock_is_behind_keeps_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_losses(tmp_path, 1, 15, -1.0)
    an_hour_ago = time.time() - 3600
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: an_hour_ago)
        write_losses(tmp_path, 11, 20, 1.0)
    assert read_losses(tmp_path) == [(step, -1.0 if step <= 10 else 1.0) for step in range(1, 21)]


def test_without_its_folder_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_run(tmp_path / "run", CONFIG, mnist()) as run:
        folder = run.run_dir.tensorboard_dir
        for snapshot in run.train():
            if snapshot.step == 10:
                shutil.rmtree(folder)
    assert [event.step for event in read(folder).Scalars("g_loss")] == list(range(11, 31))
    assert "cannot be written" not in caplog.text


def test_where_it_cannot_be_written_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_run(tmp_path / "run", CONFIG, mnist()) as run:
        folder = run.run_dir.tensorboard_dir
        for snapshot in run.train():
            if snapshot.step == 10:
                shutil.rmtree(folder)
                folder.write_bytes(b"")
        assert run.finished
    assert caplog.text.count(f"{folder} cannot be written (Not a directory); training goes on without it") == 1


def test_the_name_and_the_config_are_on_the_hparams_page(tmp_path: Path) -> None:
    with EventLog(tmp_path, resumed_at=0) as events:
        events.describe("mine", "tuned, 30 steps", {"recipe": "tuned", "learning_rate": 2e-4, "seed": None})
    content = read(tmp_path).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    for word in (b"run", b"mine", b"name", b"tuned, 30 steps", b"learning_rate", b"mine: tuned, 30 steps"):
        assert word in content
    assert b"seed" not in content
