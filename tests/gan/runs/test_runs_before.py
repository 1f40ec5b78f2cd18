"""Does this version resume the runs of an older one, to the same bytes? See tests/data/runs_before."""

import hashlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gan.config import OLD_NAMES, TrainConfig
from gan.data.dataset import load_dataset
from gan.device import choose_device
from gan.engine.state import TrainState
from gan.recipes.draw import draw
from gan.report.page import render
from gan.runs import checkpoint
from gan.runs.derived import whole_checkpoint
from gan.runs.journal import Journal
from gan.runs.run_dir import RunDir
from gan.runs.sampling import load_sampler
from gan.training.runner import open_run
from tests.support.tiny_mnist import TINY

RECIPES = ("published", "tuned", "dcgan")
TINY_DATA = load_dataset(TINY, pinned=False)
DATA = replace(
    TINY_DATA,
    train_images=np.tile(TINY_DATA.train_images, (8, 1, 1)),
    train_labels=np.tile(TINY_DATA.train_labels, 8),
)


@pytest.fixture(params=RECIPES)
def before(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Unpack the older version's run of a recipe: `run`, at step 12, and `end`, what that version makes of it."""
    with tarfile.open(TINY / "runs_before" / f"{request.param}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


MADE_BY = "AVX2"  # the instructions for which torch has chosen its kernels there; processors of one name differ in them


def is_same_machine(run: Path) -> bool:
    """Tell whether a run was made by this processor and these libraries: elsewhere, other bits are right, too."""
    made = RunDir(run).read_provenance()
    here = choose_device("cpu").reason, torch.__version__, torch.backends.cpu.get_cpu_capability()
    return (made.device, made.versions["torch"], MADE_BY) == here


def test_a_run_of_an_older_version_is_resumed_to_the_same_bytes(before: Path) -> None:
    run, end = before / "run", before / "end"
    with open_run(run, TrainConfig(), DATA, resume=True) as opened:
        assert opened.state.step == 12
        assert len(list(opened.train())) == 2
    losses, expected = np.load(run / "losses.npz"), np.load(end / "losses.npz")
    for name in ("g_loss", "d_loss"):
        np.testing.assert_allclose(losses[name], expected[name], rtol=0.01)
    if is_same_machine(run):
        assert (run / "losses.npz").read_bytes() == (end / "losses.npz").read_bytes()
        for grid in (end / "grids").iterdir():
            assert (run / "grids" / grid.name).read_bytes() == grid.read_bytes(), grid.name
        tensors, _ = whole_checkpoint(Journal(run), checkpoint.load(checkpoint.path_of(run, 24)))
        found = {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in tensors.items()}
        assert found == json.loads((end / "tensors.json").read_text())


def test_the_state_of_an_older_version_is_taken_over_to_the_bit(before: Path) -> None:
    run = RunDir(before / "run")
    tensors, _ = checkpoint.load(checkpoint.path_of(run.path, 12))
    taken = TrainState(run.read_config()).load(tensors).tensors()
    assert taken.keys() == tensors.keys()
    assert [name for name, tensor in tensors.items() if not torch.equal(taken[name], tensor)] == []


def test_only_renamed_keys_of_an_older_config_differ(before: Path) -> None:
    run = RunDir(before / "run")
    old = run.config_path.read_text()
    run.write_config(run.read_config())
    for name, new_name in OLD_NAMES.items():
        old = old.replace(f'"{name}"', f'"{new_name}"')
    assert run.config_path.read_text() == old


def test_a_run_of_an_older_version_is_sampled_and_reported(before: Path) -> None:
    run = RunDir(before / "run")
    network, config, step = load_sampler(run.path)
    assert step == 12
    assert draw(network, config.latent_dim, 5, seed=0).shape == (5, 1, 28, 28)
    render(run)
    assert "unfinished: 12 of 24 steps" in run.report_path.read_text()
