"""After SIGKILLs at random moments, is every byte the same, and does no process remain?"""

import random
import sys
from pathlib import Path

import pytest

from gan.config import TrainConfig
from gan.data.dataset import load_dataset
from gan.training.runner import open_run
from tests.support.digits import write_mnist
from tests.support.killing import differing, kill_until_done

BIN = Path(sys.executable).parent
NUM_STEPS = 240
SHORT = 96  # steps of the campaign that `make test` runs
NUM_THREADS = {"float32": 1, "bfloat16": 2}  # in bfloat16 two threads share a step
MAX_DELAY = {SHORT: 6.0, NUM_STEPS: 9.0}  # seconds: the start, the training and the end are all hit


def options(num_steps: int) -> list[str]:
    return f"--num-steps {num_steps} --snapshot-steps 12 --no-pinned-hash".split()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mnist(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data_dir: Path, precision: str, num_steps: int) -> Path:
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    num_threads = NUM_THREADS[precision]
    config = TrainConfig(num_steps=num_steps, snapshot_steps=12, precision=precision, num_threads=num_threads)
    with open_run(path, config, load_dataset(data_dir, pinned=False)) as run:
        list(run.train())
    return path


@pytest.mark.parametrize(
    ("precision", "num_steps", "num_kills"),
    [
        ("float32", SHORT, 3),
        pytest.param("float32", NUM_STEPS, 30, marks=pytest.mark.kill),
        pytest.param("bfloat16", NUM_STEPS, 12, marks=pytest.mark.kill),
    ],
    scope="module",
)
def test_killed_gan_train_ends_with_the_same_bytes(
    tmp_path: Path, data_dir: Path, undisturbed: Path, precision: str, num_steps: int, num_kills: int
) -> None:
    chance = random.Random(num_kills)
    killed = num_runs = 0
    while killed < num_kills:
        num_runs += 1
        run_dir = tmp_path / str(num_runs)
        where = ["--run-dir", run_dir, "--data-dir", data_dir]
        computed = ["--precision", precision, "--num-threads", str(NUM_THREADS[precision])]
        command = [BIN / "gan", "train", "--resume", *where, *computed, *options(num_steps)]
        killed += kill_until_done(command, tmp_path, num_kills - killed, MAX_DELAY[num_steps], chance)
        assert differing(run_dir, undisturbed) == []
    print(f"{killed} kills over {num_runs} runs of gan train in {precision}")  # noqa: T201


@pytest.mark.kill
@pytest.mark.parametrize(("precision", "num_steps"), [("float32", NUM_STEPS)], scope="module")
def test_killed_gan_train_workflow_ends_with_the_same_bytes(tmp_path: Path, data_dir: Path, undisturbed: Path) -> None:
    chance = random.Random(1)
    killed = num_runs = 0
    environment = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": ""}
    while killed < 10:
        num_runs += 1
        where = ["--run-id", f"run-{num_runs}", "--data-dir", data_dir, "--num-threads", "1"]
        command = [BIN / "gan-train", *where, *options(NUM_STEPS)]
        killed += kill_until_done(command, tmp_path, 10 - killed, 3 * MAX_DELAY[NUM_STEPS], chance, **environment)
        assert differing(tmp_path / "store" / "runs" / f"run-{num_runs}", undisturbed) == []
    print(f"{killed} kills over {num_runs} runs of gan-train")  # noqa: T201
