"""Do the commands take a recipe outside of gan/, and import none that they were not given?"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gan.config import TrainConfig
from gan.recipes.custom import importing
from gan.recipes.custom.importing import permit
from gan.report.page import render
from gan.storage.address import open_store
from gan.sync.stored_run import StoredRun
from tests.support.command import run_gan
from tests.support.custom_recipe import ADDRESS, forget, write_package
from tests.support.custom_recipe import fresh as fresh
from tests.support.digits import write_mnist
from tests.support.publishing import publish
from tests.support.s3_server import S3Server, new_address
from tests.support.training import train

pytestmark = pytest.mark.usefixtures("fresh")
SHORT = ["--num-steps", "6", "--snapshot-steps", "3", "--num-threads", "1", "--no-pinned-hash"]
MARK = ("import os, random, time", "import os\nfrom pathlib import Path\nPath(os.environ['SEEN']).touch()")


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package that leaves a file when it is imported; return the path of that file."""
    monkeypatch.syspath_prepend(write_package(tmp_path / "place", MARK))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    write_mnist(tmp_path / "data")
    return tmp_path / "seen"


def gan(folder: Path, *options: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own does: it has imported nothing, and knows only its own command line."""
    forget()
    importing._permitted.clear()
    return run_gan(folder, *options, XDG_CACHE_HOME=str(folder / "cache"), **environment)


def test_a_run_is_trained_resumed_and_sampled_where_its_recipe_is_named(tmp_path: Path, seen: Path) -> None:
    assert gan(tmp_path, "train", "--run-dir", "run", "--recipe", ADDRESS, *SHORT).returncode == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["recipe"] == ADDRESS and len(config["recipe_sha256"]) == 64
    seen.unlink()
    for command in (["train", "--resume", "--run-dir", "run", *SHORT], ["sample", "run", "--out", "a.png"]):
        refused = gan(tmp_path, *command)
        assert refused.returncode == 1 and f"add --recipe {ADDRESS}" in refused.stderr
        assert refused.stderr.startswith("error: the recipe mine.recipe:MINE is code") and not seen.exists()
        assert gan(tmp_path, *command, "--recipe", ADDRESS).returncode == 0
        seen.unlink()
    (tmp_path / "place" / "mine" / "new.py").touch()
    refused = gan(tmp_path, "train", "--resume", "--run-dir", "run", "--recipe", ADDRESS, *SHORT)
    assert refused.returncode == 2 and f"the run has {config['recipe_sha256']}" in refused.stderr
    assert not seen.exists()


def test_an_error_of_a_recipe_is_one_line_and_with_debug_its_traceback(tmp_path: Path, seen: Path) -> None:
    write_package(tmp_path / "place", ("class D(nn", "def helper():\n    raise OSError('no')\nhelper()\nclass D(nn"))
    command = ["train", "--run-dir", "run", "--recipe", ADDRESS, *SHORT]
    failed = gan(tmp_path, *command)
    assert failed.returncode == 1 and len(failed.stderr.splitlines()) == 1
    assert failed.stderr.startswith(f"error: recipe {ADDRESS}: it cannot be imported (OSError: no)")
    assert not (tmp_path / "run").exists()
    assert "in helper" in gan(tmp_path, "--debug", *command).stderr


@pytest.mark.parametrize("name", ["best", "mine.recipe", "-x:y"])
def test_what_is_no_recipe_is_wrong_usage(tmp_path: Path, name: str) -> None:
    done = gan(tmp_path, "train", "--run-dir", "run", f"--recipe={name}")
    assert done.returncode == 2 and "there is none of this name" in done.stderr


def test_a_run_in_a_bucket_imports_no_module_that_it_names(
    tmp_path: Path, seen: Path, seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seaweedfs.use(monkeypatch)
    store = new_address()
    permit(ADDRESS)
    run = train(tmp_path / "theirs", TrainConfig(recipe=ADDRESS, num_steps=4, snapshot_steps=2, num_threads=1))
    shutil.copytree(tmp_path / "theirs", tmp_path / "unfinished")
    render(run.run_dir)
    publish(tmp_path / "theirs", StoredRun(open_store(store), "theirs"))
    seen.unlink()
    address = f"{store}/runs/theirs"
    for command in (["runs", store], ["verify", address], ["report", address], ["prune", store, "--keep-last", "1"]):
        assert gan(tmp_path, *command).returncode == 0, command
    local = tmp_path / "unfinished"
    for command in (["report", local],):
        assert gan(tmp_path, *command).returncode == 0, command
    checkpoint = f"{address}/checkpoints/step-000004.safetensors"
    for command in (
        ["sample", address, "--out", "a.png"],
        ["sample", checkpoint, "--out", "a.png"],
        ["evaluate", address, "--recipe", "other.module:IT"],
        ["train", "--run-dir", local, "--resume", "--no-pinned-hash"],
        ["train", "--run-dir", local, "--from-scratch", "--no-pinned-hash"],
    ):
        refused = gan(tmp_path, *command)
        assert refused.returncode == 1 and ADDRESS in refused.stderr and "nobody has named it" in refused.stderr
    assert not seen.exists() and "PATH" in os.environ
    assert gan(tmp_path, "sample", checkpoint, "--out", "a.png", "--recipe", ADDRESS).returncode == 0
    assert seen.exists()


def test_the_built_in_recipes_are_listed(tmp_path: Path) -> None:
    assert gan(tmp_path, "recipe", "list").stdout.startswith("published  built in  the tutorial to the letter\ntuned  ")
    found = json.loads(gan(tmp_path, "recipe", "list", "--json").stdout)
    assert [each["name"] for each in found[:3]] == ["published", "tuned", "dcgan"] and found[0]["version"] == 1
