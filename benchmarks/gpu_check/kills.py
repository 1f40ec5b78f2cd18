"""Is a training that is killed again and again the same, byte for byte, as one that nothing disturbs?"""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu_check.settings import CheckFailedError, Record, Settings
from gan.config import TrainConfig
from gan.data.dataset import load_dataset
from gan.runs import layout
from gan.training.runner import open_run
from tests.support.killing import differing, promised_bytes

NUM_KILLS = 5
SNAPSHOT_STEPS = 500
NUM_SNAPSHOTS = 24
NEW_SNAPSHOTS = 2  # of a process before it is killed
MAX_DELAY = 0.1  # seconds from then on


def kill_and_resume(settings: Settings, record: Record) -> None:
    """Train once undisturbed and once with kills, and compare the bytes that a run promises."""
    snapshot_steps = settings.scaled(SNAPSHOT_STEPS, least=10)
    config = TrainConfig(
        device=settings.device, num_steps=NUM_SNAPSHOTS * snapshot_steps, snapshot_steps=snapshot_steps
    )
    undisturbed, killed = settings.scratch / "undisturbed", settings.scratch / "killed"
    start(undisturbed, config, settings.data_dir).wait()
    chance = random.Random(0)
    for number in range(NUM_KILLS):
        num_grids = num_files(killed, layout.GRIDS) + NEW_SNAPSHOTS
        process = start(killed, config, settings.data_dir)
        wait_for_grids(killed, num_grids, process)
        time.sleep(chance.uniform(0, MAX_DELAY))
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise CheckFailedError(f"the training ended with {process.returncode} before kill {number + 1}")
        record("kills", number + 1)
    if code := start(killed, config, settings.data_dir).wait():
        raise CheckFailedError(f"the last training ended with {code}")
    if different := differing(killed, undisturbed):
        raise CheckFailedError(f"{len(different)} files differ, first {different[0]}")
    record("result", f"every byte of {len(promised_bytes(killed))} files is the same")


def start(run_dir: Path, config: TrainConfig, data_dir: Path) -> subprocess.Popen[bytes]:
    """Start this module, which trains a run to its end."""
    return subprocess.Popen([sys.executable, "-m", __name__, run_dir, data_dir, config.model_dump_json()])


def wait_for_grids(run_dir: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a run has so many grids, or its process has ended."""
    while process.poll() is None and num_files(run_dir, layout.GRIDS) < count:
        time.sleep(0.005)


def num_files(run_dir: Path, part: str = "") -> int:
    """Return how many files a run, or a folder of it, has."""
    return sum(path.is_file() for path in (run_dir / part).rglob("[!.]*"))


def train_to_end(run_dir: Path, data_dir: Path, config: TrainConfig) -> None:
    """Start a run or resume it, and train it to its end."""
    with open_run(run_dir, config, load_dataset(data_dir), resume=True) as run:
        for _ in run.train():
            pass


if __name__ == "__main__":
    train_to_end(Path(sys.argv[1]), Path(sys.argv[2]), TrainConfig.model_validate_json(sys.argv[3]))
