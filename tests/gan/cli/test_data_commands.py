"""Do the commands of `gan data` do what they say, and say what they did?"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gan.sets.card import DataCard
from gan.sets.set_manifest import SetManifest
from tests.support.command import run_gan as gan
from tests.support.pictures import write_folder

SENTENCE = "The report and the bucket of a run will show training images of this set; --private keeps them out.\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give a folder with images in ./in and one that is damaged."""
    write_folder(tmp_path / "in", {"cat": 20, "ant": 10})
    (tmp_path / "in" / "ant" / "bad.png").write_bytes(b"x")
    return tmp_path


def test_import_list_show_and_validate(place: Path) -> None:
    done = gan(place, "data", "import", "in", "--name", "pets", "--license", "CC0", "--source", "a box")
    address = done.stdout.strip()
    name, _, sha = address.partition("@")
    folder = place / "data" / "sets" / name / sha
    assert done.returncode == 0 and SetManifest.read(folder).address == address
    assert done.stderr == (
        "imported: 27 training and 3 test images, 28x28 grey, 2 classes\n"
        f"left out: 1 unreadable\ncard: data/sets/pets/{sha}/card.html\n{SENTENCE}"
    )
    again = gan(place, "data", "import", "in", "--name", "pets")
    assert again.stdout == done.stdout and again.stderr.startswith("already there: 27 training")
    listed = gan(place, "data", "list").stdout
    assert listed == f"{address}  27 training and 3 test images, 28x28 grey, 2 classes\n"
    assert json.loads(gan(place, "data", "list", "--json").stdout) == [SetManifest.read(folder).model_dump()]
    shown = gan(place, "data", "show", "pets").stdout
    for said in (address, "licence CC0", "source a box", "class ant: 9 training, 1 test", "left out: 1 unreadable"):
        assert said in shown
    card = json.loads(gan(place, "data", "show", f"pets@{sha[:8]}", "--json").stdout)
    assert DataCard.model_validate(card) == DataCard.read(folder)
    valid = gan(place, "data", "validate", "pets")
    assert valid.returncode == 0 and valid.stdout.endswith("every byte is as it was stored\n")
    shard = folder / "test-labels.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    broken = gan(place, "data", "validate", "pets")
    assert broken.returncode == 1 and "test-labels.npy: SHA-256 expected" in broken.stderr


def test_the_form_is_chosen_by_options(place: Path) -> None:
    form = ["--side", "32", "--channels", "3", "--background", "FF8000", "--test-share", "0.3"]
    done = gan(place, "data", "import", "in", "--name", "pets", *form, "--sets-dir", "mine", "--private")
    assert "21 training and 9 test images, 32x32 colour, 2 classes" in done.stderr and SENTENCE not in done.stderr
    (found,) = json.loads(gan(place, "data", "list", "--json", GAN_SETS_DIR="mine").stdout)
    assert (found["background"], found["test_share"], found["facts"]["private"]) == ("ff8000", 0.3, True)
    assert "private: no page shows its images" in gan(place, "data", "show", "pets", "--sets-dir", "mine").stdout


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["import", "in", "--name", "mnist"], 1, "reserved for what `gan data download mnist` gets"),
        (["import", "in", "--name", "a/b"], 1, "cannot have the name 'a/b'"),
        (["import", "none", "--name", "a"], 1, "none: expected a folder"),
        (["import", "in", "--name", "a", "--side", "48"], 2, "'28', '32', '64'"),
        (["import", "in", "--name", "a", "--background", "white"], 2, "'white' is no colour. Give six hex digits"),
        (["import", "in", "--name", "a", "--license", "a\nb"], 2, "it has characters that cannot be printed"),
        (["import", "in", "--name", "a", "--source", "a\udcff"], 2, "it has characters that cannot be printed"),
        (["import", "in", "--name", "a", "--test-share", "0"], 2, "0<x<=0.5"),
        (["import", "in", "--name", "a", "--test-share", "0.01"], 1, "one class needs 50 different images or more"),
        (["show", "a"], 1, "has no data set a. Import it: `gan data import SOURCE --name a`"),
        (["validate", "a@b"], 1, "names no data set"),
        (["download", "cifar"], 1, "Known are mnist, fashion-mnist"),
    ],
)
def test_what_cannot_be_done_is_said(place: Path, args: list[str], code: int, said: str) -> None:
    done = gan(place, "data", *args)
    assert (done.returncode, done.stdout) == (code, "") and said in done.stderr
    assert list(place.glob("data/sets/*/*")) == []


def test_no_sets_are_said_on_stderr(tmp_path: Path) -> None:
    done = gan(tmp_path, "data", "list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no data sets in data/sets\n")
    assert list(tmp_path.iterdir()) == []


def test_the_commands_do_not_import_torch(place: Path) -> None:
    args = ["data", "import", "in", "--name", "pets"]
    script = (
        f"import sys; from gan.cli.main import gan; gan({args}, standalone_mode=False); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=place, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
