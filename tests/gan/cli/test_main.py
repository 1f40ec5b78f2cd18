"""Do the commands do what they say, and say what went wrong?"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from gan.cli.main import gan as gan_command
from tests.support.command import run_gan as gan
from tests.support.digits import write_mnist

pytestmark = pytest.mark.usefixtures("small_networks")

GAN = Path(sys.executable).with_name("gan")
SHORT = ["--num-steps", "20", "--snapshot-steps", "10", "--num-threads", "1", "--no-pinned-hash"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ./data in it and a finished run in ./run."""
    path = tmp_path_factory.mktemp("place")
    write_mnist(path / "data")
    done = gan(path, "train", "--run-dir", "run", *SHORT)
    assert done.returncode == 0, done.stderr
    return path


def test_train_leaves_a_run_that_verifies(place: Path) -> None:
    verified = gan(place, "verify", "run")
    assert verified.returncode == 0 and "every byte is as it was published" in verified.stdout
    assert (place / "run" / "report" / "index.html").exists()


def test_training_does_not_import_modules_that_it_does_not_use(place: Path, tmp_path: Path) -> None:
    """torch's compiler comes with its optimizers: 150 MB and some seconds."""
    args = ["train", "--run-dir", str(tmp_path / "run"), *SHORT]
    script = f"import sys; from gan.cli.main import gan; gan({args}, standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=place, capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert "torch" in loaded and not {"torch._dynamo", "sympy", "scipy", "pandas"} & {*loaded}
    assert gan(tmp_path, "verify", "run").returncode == 0


def test_a_flipped_bit_in_any_file_of_a_run_is_found(place: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(place / "run", tmp_path / "run")
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    assert len(files) > 12
    for path in files:
        good = path.read_bytes()
        path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
        found = gan(tmp_path, "verify", "run")
        assert found.returncode == 1 and path.name in found.stdout + found.stderr
        path.write_bytes(good)
    assert gan(tmp_path, "verify", "run").returncode == 0


def test_sample_makes_a_sheet_or_an_array(place: Path, tmp_path: Path) -> None:
    assert gan(place, "sample", "run", "--out", tmp_path / "a.png").returncode == 0
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size == (152, 152)
    checkpoint = "run/checkpoints/step-000020.safetensors"
    assert gan(place, "sample", checkpoint, "--count", "1500", "--out", tmp_path / "a.npz").returncode == 0
    images = np.load(tmp_path / "a.npz")["images"]
    assert (images.shape, images.dtype) == ((1500, 28, 28), np.uint8)


def test_runs_lists_the_runs(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "store" / "runs" / "one")
    (tmp_path / "store" / "runs" / "one" / "manifest.json").unlink()
    (run,) = json.loads(gan(tmp_path, "runs", "--json").stdout)
    assert (run["run_id"], run["state"], run["steps"]) == ("one", "unfinished", 20)


def test_validate_names_each_file(place: Path) -> None:
    checks = json.loads(gan(place, "validate", "--no-pinned-hash", "--json").stdout)
    assert checks["train-images-idx3-ubyte"]["shape"] == [256, 28, 28]


def test_dry_run_prints_the_config_and_writes_nothing(tmp_path: Path) -> None:
    done = gan(tmp_path, "train", "--run-dir", "run", "--recipe", "published", "--dry-run")
    assert json.loads(done.stdout)["learning_rate"] == 1e-4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "is_conditional"),
    [([], True), (["--no-conditional"], False), (["--recipe", "published"], False)],
)
def test_a_switch_that_is_not_given_has_the_value_of_the_recipe(
    tmp_path: Path, args: list[str], is_conditional: bool
) -> None:
    done = gan(tmp_path, "train", "--run-dir", "run", "--dry-run", *args)
    assert json.loads(done.stdout)["conditional"] is is_conditional


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--num-steps", "0"], "1<=x<=100000000"),
        (["--dropout", "1"], "0<=x<1"),
        (["--learning-rate", "nan"], "--learning-rate"),
        (["--recipe", "best"], "'published', 'tuned', 'dcgan'"),
        (["--recipe", "dcgan", "--dropout", "0.3"], "--dropout: recipe dcgan has no dropout"),
        (
            ["--latent-dim", "10"],
            "--conditional: the class takes the place of 10 latents: give --latent-dim 11",
        ),
        (["--nun-steps", "3"], "--num-steps"),
    ],
)
def test_wrong_usage_exits_2_and_names_the_bounds(tmp_path: Path, args: list[str], said: str) -> None:
    done = gan(tmp_path, "train", "--run-dir", "run", *args)
    assert done.returncode == 2 and said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_a_new_run_is_checked_before_the_download(tmp_path: Path) -> None:
    done = gan(tmp_path, "train", "--run-dir", "my run", "--mirror", "file:///no/such/folder")
    assert done.returncode == 1 and "cannot have the id 'my run'" in done.stderr
    assert "download" not in done.stderr and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["train", "--run-dir", "run", *SHORT], 1, "exists already. Use --resume"),
        (["train", "--run-dir", "run", "--resume", "--seed", "5", *SHORT], 2, "seed: the run has 0, asked for 5"),
        (["train", "--run-dir", "run", "--from-scratch", *SHORT], 1, "finished and published"),
        (["train", "--run-dir", "new", "--device", "cuda", *SHORT], 1, "use --device cpu"),
        (["verify", "data"], 1, "manifest.json"),
        (["sample", "data", "--out", "x.png"], 1, "no checkpoint"),
        (["sample", "run", "--out", "x.jpg"], 2, ".png or .npz"),
        (["sample", "run", "--digit", "10", "--out", "x.png"], 2, "the run's training images have no 10"),
        (["report", "data"], 1, "not a run directory"),
        (["validate"], 1, "found 256 items, expected 60,000"),
    ],
)
def test_an_error_is_one_message_without_a_traceback(place: Path, args: list[str], code: int, said: str) -> None:
    done = gan(place, *args)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert said.lower() in done.stderr.lower()


@pytest.mark.parametrize("args", [["evaluate", "run"], ["champion", "promote", "runs/any"]])
def test_a_command_does_not_advise_an_option_that_it_lacks(place: Path, args: list[str]) -> None:
    (place / "runs").mkdir(exist_ok=True)
    if not (place / "runs/any").exists():
        (place / "runs/any").symlink_to(place / "run")
    done = gan(place, *args, "--data-dir", "data")
    assert done.returncode == 1 and "This command measures with MNIST alone: name a dir" in done.stderr
    assert "--no-pinned-hash" not in done.stderr


def test_a_resume_that_forgets_the_option_leaves_the_other_data_as_it_is(place: Path) -> None:
    before = sorted(path.name for path in (place / "data").iterdir())
    done = gan(place, "train", "--run-dir", "run", "--resume")
    assert done.returncode == 2 and "was made from other data than MNIST. Add --no-pinned-hash" in done.stderr
    assert sorted(path.name for path in (place / "data").iterdir()) == before


def test_a_finished_run_is_not_trained_further(place: Path) -> None:
    again = gan(place, "train", "--run-dir", "run", "--resume", "--no-pinned-hash")
    assert again.returncode == 0 and "trained already" in again.stderr
    assert gan(place, "verify", "run").returncode == 0


@pytest.mark.parametrize(
    ("policy", "code", "said"),
    [
        ("ignore", 0, "health: step 10: constant data: the real images of a batch are all alike, since step 10: "),
        ("restart", 1, "training ended at step 10: constant data: the real images of a batch are all alike"),
    ],
)
def test_a_failed_training_is_reported_at_its_end(tmp_path: Path, policy: str, code: int, said: str) -> None:
    data_dir = write_mnist(tmp_path / "data", all_alike=True)
    options = ["--data-dir", data_dir, "--run-dir", tmp_path / "run", "--on-collapse", policy, *SHORT]
    done = CliRunner().invoke(gan_command, ["train", *map(str, options)])
    assert (code, said in f"{done.stderr}{done.exception}") == (1 if done.exception else done.exit_code, True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_resume(place: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    run_dir, data_dir, mirror = str(tmp_path / "my runs" / "run"), str(place / "data"), "file:///no%20such/folder"
    options = ["--run-dir", run_dir, "--data-dir", data_dir, "--mirror", mirror, *SHORT]
    command = [GAN, "train", *options, "--num-steps", "1000000", "--snapshot-steps", "5"]
    with subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        while "step 5/" not in process.stderr.readline():
            assert process.poll() is None
        os.killpg(process.pid, number)
        asked = time.monotonic()
        said = process.communicate(timeout=30)[1]
    assert process.returncode == code, said
    assert time.monotonic() - asked < 10
    assert shlex.split(said.partition("; resume with: ")[2]) == [
        "gan", "train", "--run-dir", run_dir, "--resume", "--data-dir", data_dir, "--mirror", mirror,
        "--no-pinned-hash",
    ]  # fmt: skip


def test_help_is_fast_and_version_is_printed(tmp_path: Path) -> None:
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from gan.cli.main import main"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert "torch" not in imported and "prefect" not in imported
    version = subprocess.run([GAN, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("gan, version ")
    for command in ("download", "validate", "train", "sample", "report", "verify", "runs", "evaluate"):
        assert command in gan(tmp_path, "--help").stdout
