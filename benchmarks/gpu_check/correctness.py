"""Does a GPU compute what it should: in the tests, in CUDA graphs, and within its memory?"""

import os
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import torch

from benchmarks.gpu_check.settings import CheckFailedError, NotRunError, Record, Settings
from benchmarks.timing import Precision
from gan.config import RecipeName, RunConfig, TrainConfig
from gan.data.batches import Batches
from gan.data.dataset import Dataset, load_dataset
from gan.engine.cuda_graphs import Capture, GraphSteps, capture_graph
from gan.engine.factory import engine_for
from gan.engine.state import TrainState
from gan.recipes.resolve import resolve
from gan.training.loop import train

ROOT = Path(__file__).parents[2]
GRAPH_STEPS = 1000
AUGMENT_START = 0.5  # each half of the steps has a graph of its own
SANITIZER_STEPS = 10


def run_gpu_tests(settings: Settings, record: Record) -> None:
    """Run the tests that are marked gpu. On a CPU, only collect them."""
    # Other files need packages that a machine which is lent for its GPU does not have.
    files = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in path.read_text())
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "--durations", "5"]
    collect = ["--collect-only", "-q"] if settings.device == "cpu" else []
    done = subprocess.run(
        [*words, *collect, *map(str, files)], cwd=ROOT, env=os.environ | {"GAN_TEST_GPU": "1"},
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    sys.stdout.write(done.stdout)
    record("result", done.stdout.strip().splitlines()[-1].strip("= "))
    if done.returncode:
        raise CheckFailedError(f"pytest ended with {done.returncode}")
    if settings.device == "cpu":
        raise NotRunError("needs a GPU")


def compare_graphs(settings: Settings, record: Record) -> None:
    """Compare the bits of all recipes and precisions. Raises CheckFailedError at the end if any differ."""
    data, problems = load_dataset(settings.data_dir), []
    for recipe, precision in product(get_args(RecipeName), get_args(Precision)):
        num_steps = settings.scaled(GRAPH_STEPS, least=100) // 100 * 100
        asked = TrainConfig(
            recipe=recipe, precision=precision, num_steps=num_steps, snapshot_steps=num_steps // 2,
            augment_start=AUGMENT_START,
        )  # fmt: skip
        config = resolve(asked, seed=0, device=settings.device, num_threads=1)
        problem = difference(config, data, record, capture_graph)
        record(f"{recipe}, {precision}", problem or "the same bits")
        problems += [f"{recipe}, {precision}: {problem}"] if problem else []
    if problems:
        raise CheckFailedError("; ".join(problems))


def difference(config: RunConfig, data: Dataset, record: Record, capture: Capture) -> str | None:
    """Train in graphs and one by one. Return what differs first, or None if all bits are the same."""
    bits: list[dict[str, bytes]] = []
    for name in ("graphs", "single steps"):
        batches = Batches(data.train_images, data.train_labels, config.batch_size, 0, config.device)
        state = TrainState(config)
        losses = torch.empty(config.snapshot_steps, 2, device=state.device, dtype=state.fixed_z.dtype)
        steps = GraphSteps(engine_for(state, config), batches, losses, capture)
        if name == "single steps":
            steps.size = 0
        seconds = take_all(steps, config)
        if name == "graphs" and not steps.replays:
            return "no graph was used; the log says why"
        record(f"{config.recipe}, {config.precision}, {name}: steps/s", round(config.num_steps / seconds, 1))
        tensors = {**state.tensors(), "losses": losses.cpu()}
        bits.append({key: tensor.numpy().tobytes() for key, tensor in tensors.items()})
    return next((key for key, content in bits[0].items() if content != bits[1][key]), None)


def take_all(steps: GraphSteps, config: RunConfig) -> float:
    """Take every step, a snapshot's at a time as training does. Return the seconds, with those of the captures."""
    began = time.perf_counter()
    for goal in range(config.snapshot_steps, config.num_steps + 1, config.snapshot_steps):
        with steps.engine.running():
            while steps.state.step < goal:
                steps.take(goal)
    steps.losses.cpu()  # waits for the device
    return time.perf_counter() - began


def run_sanitizer(settings: Settings, record: Record) -> None:
    """Run this module, which takes some steps, under compute-sanitizer."""
    program = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if program is None:
        raise NotRunError("the program compute-sanitizer is missing")
    words = [program, "--tool", "memcheck", "--error-exitcode", "9", sys.executable, "-m", __name__]
    done = subprocess.run(
        [*words, str(settings.data_dir)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )  # fmt: skip
    sys.stdout.write(done.stdout)
    found = [line for line in done.stdout.splitlines() if "ERROR SUMMARY" in line]
    record("result", found[-1].strip("= ") if found else "no summary")
    if done.returncode:
        raise CheckFailedError(f"compute-sanitizer ended with {done.returncode}")


def take_ten_steps(data: Dataset, device: Literal["cpu", "cuda"]) -> None:
    """Train `tuned` for ten steps: one by one, then captured in a graph and launched as one."""
    asked = TrainConfig(num_steps=SANITIZER_STEPS, snapshot_steps=SANITIZER_STEPS)
    config = resolve(asked, seed=0, device=device, num_threads=1)
    batches = Batches(data.train_images, data.train_labels, config.batch_size, 0, device)
    for _ in train(TrainState(config), config, batches):
        pass


if __name__ == "__main__":
    take_ten_steps(load_dataset(Path(sys.argv[1])), "cuda")
