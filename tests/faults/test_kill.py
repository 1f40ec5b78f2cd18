"""After SIGKILLs at each stage and at random moments, is every byte the same, and does no process remain?

`make faults` kills the life of a run in a bucket: once at each stage, and once at random, 50 with FAULTS=long.
`make test-kill` kills the commands 18 times at random, 52 with FAULTS=long.
"""

import random
import shutil
import sys
from pathlib import Path

import pytest
from torch import Tensor

from gan.config import TrainConfig
from gan.data.dataset import load_dataset
from gan.engine.state import TrainState
from gan.registry.champion import read_champion
from gan.storage.address import open_store
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from gan.training.runner import open_run
from tests.support.digits import write_mnist
from tests.support.fault_form import num
from tests.support.killing import differing, kill_until_done
from tests.support.life import RUN_ID, Machine, Patch
from tests.support.s3_server import S3Server, new_address
from tests.support.stages import STAGES, Stage, send_begun, stopped_at, write_begun

BIN = Path(sys.executable).parent
NUM_STEPS = 240
SHORT = 96  # steps of the campaign that `make test` runs, and of bfloat16: a CPU without it takes a second a step
NUM_THREADS = {"float32": 1, "bfloat16": 2}  # in bfloat16 two threads share a step
NUM_RANDOM = num(1, 50)  # kills of lives
NUM_WORKFLOW = num(4, 10)  # kills of gan-train
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
        pytest.param("float32", NUM_STEPS, num(10, 30), marks=pytest.mark.kill),
        pytest.param("bfloat16", num(SHORT, NUM_STEPS), num(4, 12), marks=pytest.mark.kill),
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
    while killed < NUM_WORKFLOW:
        num_runs += 1
        where = ["--run-id", f"run-{num_runs}", "--data-dir", data_dir, "--num-threads", "1"]
        command = [BIN / "gan-train", *where, *options(NUM_STEPS)]
        left, max_delay = NUM_WORKFLOW - killed, 3 * MAX_DELAY[NUM_STEPS]
        killed += kill_until_done(command, tmp_path, left, max_delay, chance, **environment)
        assert differing(tmp_path / "store" / "runs" / f"run-{num_runs}", undisturbed) == []
    print(f"{killed} kills over {num_runs} runs of gan-train")  # noqa: T201


@pytest.fixture(scope="module")
def whole_life(tmp_path_factory: pytest.TempPathFactory, seaweedfs: S3Server) -> Path:
    """Return the directory of a run that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    machine = Machine(folder, seaweedfs.environment())
    assert machine.live(new_address()).ended() == 0, machine.log
    return machine.run_path


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_begun(tmp_path_factory.mktemp("begun") / RUN_ID)


@pytest.fixture
def address(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    seaweedfs.use(monkeypatch)
    return new_address()


def differing_after_a_kill(
    stage: Stage, machines: list[Machine], server: S3Server, address: str, whole_life: Path, patch: Patch | None = None
) -> list[str]:
    """Kill a life on the first machine at a stage, and end the run on the last one; return the files that differ."""
    with stopped_at(stage, server, machines[0].folder, address) as (first, _):
        first.kill()
    last = machines[-1].live(address, patch)
    assert last.ended() == 0, last.log
    run = StoredRun(open_store(address), RUN_ID)
    assert verify(run).problems == []
    assert [change.run_id for change in read_champion(run.store).history.history] == [RUN_ID]
    return differing(machines[-1].run_path, whole_life)


@pytest.mark.faults
@pytest.mark.parametrize("stage", STAGES, ids=str)
def test_a_run_that_was_killed_at_a_stage_ends_with_the_same_bytes(
    tmp_path: Path, seaweedfs: S3Server, address: str, begun: Path, whole_life: Path, stage: Stage
) -> None:
    send_begun(begun, address)
    folders = ["first", "second"] if STAGES.index(stage) % 2 else ["first"]  # on another machine, or on the same one
    machines = [Machine(tmp_path / name, seaweedfs.environment()) for name in folders]
    assert differing_after_a_kill(stage, machines, seaweedfs, address, whole_life) == []


@pytest.mark.faults
def test_a_run_that_was_killed_at_random_moments_ends_with_the_same_bytes(
    tmp_path: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, whole_life: Path
) -> None:
    seaweedfs.use(monkeypatch)
    chance, killed = random.Random(5), 0
    while killed < NUM_RANDOM:
        address, machines = new_address(), [Machine(tmp_path / name, seaweedfs.environment()) for name in "ab"]
        code = -9
        while code == -9:
            life = chance.choice(machines).live(address)
            life.process.join(chance.uniform(0, 8) if killed < NUM_RANDOM else None)
            killed += life.process.is_alive()
            life.kill()
            code = life.process.exitcode
        assert code == 0, life.log
        assert verify(StoredRun(open_store(address), RUN_ID)).problems == []
        assert differing(life.machine.run_path, whole_life) == []
        for machine in machines:
            shutil.rmtree(machine.folder, ignore_errors=True)


def forget_the_random_stream() -> None:
    """Take a part of the exact resume away: the stream of random numbers begins anew."""
    load = TrainState.load

    def lossy(state: TrainState, tensors: dict[str, Tensor]) -> TrainState:
        return load(state, tensors | {"random": state.rng.get_state()})

    TrainState.load = lossy  # type: ignore[method-assign]


@pytest.mark.faults
def test_without_the_random_stream_other_bytes_are_seen(
    tmp_path: Path, seaweedfs: S3Server, address: str, begun: Path, whole_life: Path
) -> None:
    send_begun(begun, address)
    stage = next(stage for stage in STAGES if stage.name == "train")
    machines = [Machine(tmp_path / "first", seaweedfs.environment())]
    found = differing_after_a_kill(stage, machines, seaweedfs, address, whole_life, forget_the_random_stream)
    assert "losses.npz" in found
