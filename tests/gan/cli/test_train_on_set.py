"""Does `gan train --data` train on an imported set, and is the set part of the run?"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gan.runs.run_dir import RunDir
from tests.support.command import run_gan as gan
from tests.support.digits import digits
from tests.support.pictures import write_folder

OPTIONS = ["--recipe", "dcgan", "--num-steps", "2", "--snapshot-steps", "1", "--batch-size", "25", "--num-threads", "1"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Import two sets of digits in RGB, the second one without labels."""
    for seed, name in enumerate(("first", "second")):
        images, labels = digits(600 if seed else 200, seed)
        arrays = {"images": images} if seed else {"images": images, "labels": labels}
        np.savez(tmp_path / f"{name}.npz", **arrays)
        form = ["--side", "32", "--channels", "3", "--test-share", "0.45"]
        assert gan(tmp_path, "data", "import", f"{name}.npz", "--name", name, *form).returncode == 0
    return tmp_path


def address(place: Path, name: str) -> str:
    (folder,) = (place / "data/sets" / name).iterdir()
    return f"{name}@{folder.name}"


def test_a_run_names_its_set_and_resumes_with_it(place: Path) -> None:
    done = gan(place, "train", "--run-dir", "run", "--data", "first", *OPTIONS)
    assert done.returncode == 0, done.stderr
    config = RunDir(place / "run").read_config()
    assert (config.data, config.side, config.channels, config.num_classes) == (address(place, "first"), 32, 3, 10)
    assert RunDir(place / "run").read_provenance().data == {"first": address(place, "first").partition("@")[2]}
    for again in ([], ["--data", "first"], ["--data", address(place, "first")[:20]]):
        resumed = gan(place, "train", "--run-dir", "run", "--resume", *again)
        assert resumed.returncode == 0 and "all 2 steps are trained already" in resumed.stderr
    other = gan(place, "train", "--run-dir", "run", "--resume", "--data", "second")
    assert other.returncode == 2 and f"data: the run has {config.data}, asked for {address(place, 'second')}" in (
        other.stderr
    )


def test_a_class_is_sampled_by_its_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", {"cat": 40, "ant": 40, "2": 40})
    assert gan(tmp_path, "data", "import", "in", "--name", "pets", "--license", "CC0").returncode == 0
    assert gan(tmp_path, "train", "--run-dir", "run", "--data", "pets", *OPTIONS).returncode == 0
    shutil.rmtree(tmp_path / "data")  # the run knows the names itself
    named, numbered = ("ant", "1"), ("cat", "0")
    for digit in (*named, *numbered, "2"):
        done = gan(tmp_path, "sample", "run", "--digit", digit, "--out", f"{digit}.png")
        assert done.returncode == 0, done.stderr
    drawn = {path.stem: path.read_bytes() for path in tmp_path.glob("*.png")}
    assert drawn["ant"] == drawn["1"] and drawn["2"] == drawn["0"] != drawn["ant"]
    for wrong in ("fox", "3", "-1", "\x1b[2J"):
        refused = gan(tmp_path, "sample", "run", f"--digit={wrong}", "--out", "x.png")
        assert refused.returncode == 2 and "They have 2, ant, cat" in refused.stderr
        assert "\x1b" not in refused.stderr
    assert "licence CC0" in RunDir(tmp_path / "run").report_path.read_text().replace("</th><td>", " ")


def test_a_dry_run_shows_the_shape_of_the_images(place: Path) -> None:
    shown = json.loads(gan(place, "train", "--run-dir", "run", "--data", "second", *OPTIONS, "--dry-run").stdout)
    assert (shown["side"], shown["channels"], shown["num_classes"], shown["conditional"]) == (32, 3, 0, False)
    assert not (place / "run").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--data", "third"], "data/sets has no data set third. Import it: `gan data import SOURCE --name third`;"),
        (
            ["--data", "../first"],
            "--data: Value error, expected NAME or NAME@SHA of an imported data set, got '../first'",
        ),
        (["--data", "first", "--recipe", "published"], "recipe published trains on images of side 28, in grey"),
        (["--data", "second", "--recipe", "dcgan", "--conditional"], "the images have no labels"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing(place: Path, words: list[str], says: str) -> None:
    done = gan(place, "train", "--run-dir", "run", "--num-steps", "2", *words)
    assert done.returncode in (1, 2) and says in done.stderr
    assert not (place / "run").exists()


def test_a_run_on_a_set_is_measured_by_the_judge_of_the_set(place: Path) -> None:
    assert gan(place, "train", "--run-dir", "run", "--data", "first", *OPTIONS).returncode == 0
    without = gan(place, "evaluate", "run")
    assert (
        without.returncode == 1 and "it has no judge yet, and MNIST's knows only digits. `gan judge" in without.stderr
    )
    few = gan(place, "judge", "train", "--data", "first")
    assert few.returncode == 1 and "A judge needs 1,000" in few.stderr
    missing = gan(place, "judge", "show", "--data", "first")
    assert missing.returncode == 1 and "Train it by `gan judge train`" in missing.stderr


def test_a_run_without_labels_is_measured_by_a_random_network_and_without_classes(place: Path) -> None:
    said = "features of a fixed random network, no labels: distances compare runs on this set only"
    assert said in gan(place, "judge", "train", "--data", "second").stdout
    assert gan(place, "judge", "show", "--data", "second").stdout.startswith(said)
    assert gan(place, "train", "--run-dir", "run", "--data", "second", *OPTIONS).returncode == 0
    found = gan(place, "evaluate", "run")
    assert found.returncode == 0 and said in found.stdout and "kernel distance" in found.stdout, found.stderr
    assert not any(word in found.stdout for word in ("classes", "score", "histogram"))
