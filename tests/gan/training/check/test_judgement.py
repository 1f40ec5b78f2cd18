"""Does `gan recipe check` pass a recipe that resumes bit for bit, and name what keeps another from it?"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gan.training.check.judgement import faults_of
from gan.training.check.outcome import Findings, Range
from gan.training.check.plan import FINDINGS, Trial
from gan.training.check.trial import main
from tests.support.command import run_gan
from tests.support.custom_recipe import ADDRESS, EXAMPLE, EXAMPLE_FOLDER, IN_D, IN_G, LINE_OF_G, write_package
from tests.support.custom_recipe import fresh as fresh

pytestmark = pytest.mark.usefixtures("fresh")


def check(folder: Path, monkeypatch: pytest.MonkeyPatch, package: Path, *options: str) -> dict[str, Any]:
    """Return what `gan recipe check --json` prints."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])]))
    done = run_gan(folder, "recipe", "check", *options, "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["passed"] else 1)
    assert sorted(folder.rglob("*.safetensors")) == []
    return found


def test_the_example_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = check(tmp_path, monkeypatch, EXAMPLE_FOLDER, EXAMPLE, "--steps", "8")
    assert (found["passed"], found["faults"], found["sources"], found["graph"]) == (True, [], [], [])
    assert (found["num_steps"], found["killed_after"], found["images_shape"]) == (8, 5, [32, 1, 28, 28])
    assert -1 <= found["images"]["low"] < found["images"]["high"] <= 1 and found["seconds_per_step"] > 0


def test_an_unseeded_random_number_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = write_package(tmp_path / "place", (IN_G, "images = images + 0.001 * torch.randn_like(images)"))
    found = check(tmp_path / "place", monkeypatch, package, ADDRESS, "--steps", "8")
    difference, draw = found["difference"], "torch's global random numbers"
    assert (difference["between"], difference["step"]) == ("repeated", 1)  # torch seeds it at random
    assert difference["tensor"].startswith("generator.network.") and difference["num_others"] > 20
    assert [
        fault for fault in found["faults"] if draw in fault and f"mine/recipe.py, line {LINE_OF_G}, in forward" in fault
    ]
    assert [source["kind"] for source in found["sources"]] == ["torch"]


def test_state_outside_of_the_parameters_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = write_package(tmp_path / "place", (IN_G, "self.calls += 1; images = images * 0.9**self.calls"))
    found = check(tmp_path / "place", monkeypatch, package, ADDRESS, "--steps", "8")
    assert (found["difference"]["between"], found["difference"]["step"]) == ("resumed", 5)
    assert found["faults"][1].endswith("state outside of parameters and persistent buffers: generator.network.calls")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ((IN_D, "logits = logits[:, None]"), "its discriminator returned shape (32, 1), expected (32,)"),
        ((IN_G, "images = images[..., 1:]"), "its generator failed (RuntimeError: "),
        (("MINE = ", "OURS = "), "the module mine.recipe has no MINE"),
    ],
)
def test_a_wrong_shape_and_an_error_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, str], said: str
) -> None:
    found = watched(write_package(tmp_path / "place", line), tmp_path, monkeypatch)
    assert said in found["error"] and "Traceback" in found["traceback"]


def watched(package: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the undisturbed training of a check finds, in this process."""
    monkeypatch.syspath_prepend(package)
    (folder / "trial").mkdir()
    main(json.dumps(vars(Trial(ADDRESS, str(folder / "trial"), num_steps=4, watches=True))))
    found: dict[str, Any] = json.loads((folder / "trial" / FINDINGS).read_text())
    return found


def test_the_command_fails_where_the_recipe_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = write_package(tmp_path / "place", (IN_D, "logits = logits[:, None]"))
    found = check(tmp_path / "place", monkeypatch, package, ADDRESS)
    assert found["faults"] == [found["error"]] and "returned shape (32, 1)" in found["error"]


SOURCES = (
    ("numpy", "np.random.rand()"),
    ("urandom", "np.random.default_rng()"),
    ("python", "random.random()"),
    ("python", "random.Random()"),
    ("urandom", "random.SystemRandom().random()"),
    ("urandom", "os.urandom(4)"),
    ("time", "time.time()"),
    ("time", "time.perf_counter_ns()"),
    ("torch", "nn.functional.dropout(images)"),
    ("outside", "globals().update(KEPT=globals().get('KEPT', '') + '+')"),
    ("outside", "self.seen = images.detach()"),
    (None, "random.Random(3)"),
    (None, "torch.randn(1, generator=torch.Generator())"),
)


def test_each_source_is_trapped_while_a_step_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "\n        ".join(line for _, line in SOURCES)
    found = watched(write_package(tmp_path / "place", (IN_G, lines)), tmp_path, monkeypatch)
    assert found["error"] is None
    trapped = {(source["kind"], source["where"].removeprefix(str(tmp_path))) for source in found["sources"]}
    by_line = {(kind, LINE_OF_G + number) for number, (kind, _) in enumerate(SOURCES) if kind not in (None, "outside")}
    # A draw from a global generator that is no operation of torch is found by the generator's state, without its line.
    by_line -= {("numpy", LINE_OF_G), ("python", LINE_OF_G + 2)}
    expected = {(kind, f"/place/mine/recipe.py, line {line}, in forward") for kind, line in by_line}
    expected |= {("numpy", ""), ("python", ""), ("outside", "mine.recipe.KEPT"), ("outside", "generator.network.seen")}
    assert trapped == expected


@pytest.mark.parametrize(
    ("in_g", "in_d", "said"),
    [
        (
            "scale = images.mean().item()",
            "logits[logits > 0].sum()",
            [
                "generator: it waits for a number, as .item() and `if tensor` do (",
                "discriminator: a shape depends on data (",
            ],
        ),
        (
            "torch.zeros(len(z)).to(z.device)",
            "assert logits.isfinite().all()",
            ["generator: a copy between host and device (", "discriminator: it waits for a number"],
        ),
        (
            "images = images + 0 * torch.zeros(images.shape)",
            "torch.zeros((), device=logits.device) + 1",
            ["generator: it fails on a GPU's tensors: "],
        ),
    ],
)
def test_what_a_cuda_graph_would_refuse_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_g: str, in_d: str, said: list[str]
) -> None:
    package = write_package(tmp_path / "place", (IN_G, in_g), (IN_D, in_d), ("class D", "TWO = 2\n\n\nclass D"))
    found = watched(package, tmp_path, monkeypatch)
    assert found["error"] is None and len(found["graph"]) == len(said)
    for line, expected in zip(found["graph"], said, strict=True):
        assert line.startswith(expected) and "mine/recipe.py, line " in line and line.endswith(", in forward)")


def test_images_out_of_range_are_a_fault() -> None:
    found = Findings(images=Range(low=-1, high=1.00001))
    assert faults_of(found, None) == []
    found = Findings(images=Range(low=-1.5, high=1))
    assert faults_of(found, None) == ["images lie in [-1.5, 1], expected [-1, 1]"]
