"""After SIGKILLs at random moments, has a run of the example recipe the bytes of an undisturbed one?"""

import random
import sys
from pathlib import Path

import pytest

from gan.config import TrainConfig
from gan.data.dataset import load_dataset
from gan.recipes.custom.importing import permit
from gan.training.runner import open_run
from tests.support.custom_recipe import EXAMPLE, EXAMPLE_FOLDER, environment
from tests.support.custom_recipe import fresh as fresh
from tests.support.digits import write_mnist
from tests.support.fault_form import num
from tests.support.killing import differing, kill_until_done

GAN = Path(sys.executable).with_name("gan")
OPTIONS = ["--num-steps", "24", "--snapshot-steps", "4", "--batch-size", "25", "--num-threads", "1"]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("num_kills", "max_delay"), [(2, 8.0), pytest.param(num(4, 10), 16.0, marks=pytest.mark.kill)])
def test_a_killed_run_of_the_example_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_kills: int, max_delay: float
) -> None:
    data_dir = write_mnist(tmp_path / "data")
    monkeypatch.syspath_prepend(EXAMPLE_FOLDER)
    permit(EXAMPLE)
    asked = TrainConfig(recipe=EXAMPLE, num_steps=24, snapshot_steps=4, batch_size=25, num_threads=1)
    with open_run(tmp_path / "undisturbed", asked, load_dataset(data_dir, pinned=False)) as run:
        list(run.train())
    chance = random.Random(num_kills)
    killed = num_runs = processes = 0
    while killed < num_kills:
        num_runs += 1
        where = ["--run-dir", tmp_path / f"run-{num_runs}", "--data-dir", data_dir, "--no-pinned-hash"]
        command = [GAN, "train", "--resume", "--recipe", EXAMPLE, *where, *OPTIONS]
        killed += kill_until_done(
            command, tmp_path, num_kills - killed, max_delay, chance, **environment(EXAMPLE_FOLDER)
        )
        processes += len((tmp_path / f"run-{num_runs}" / "processes.jsonl").read_text().splitlines())
        assert differing(tmp_path / f"run-{num_runs}", tmp_path / "undisturbed") == []
    print(f"{killed} kills over {num_runs} runs of the example recipe, which {processes} processes have trained")  # noqa: T201
