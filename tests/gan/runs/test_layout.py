"""Are the files of a run named and recognised?"""

import subprocess
import sys

import pytest

from gan.runs import layout


def test_names_and_steps_belong_together() -> None:
    for step in (0, 1000, 1_234_567):
        assert layout.checkpoint_step(layout.checkpoint(step)) == layout.grid_step(layout.grid(step)) == step
    assert layout.checkpoint(1000) == "checkpoints/step-001000.safetensors"
    assert layout.sidecar(layout.checkpoint(1000)) == "checkpoints/step-001000.safetensors.sha256"
    assert layout.grid(1000) == "grids/step-001000.png"


@pytest.mark.parametrize(
    "name",
    ["config.json", "step-001000.safetensors", "checkpoints/step-1000.safetensors", "checkpoints/step-x.safetensors",
     "checkpoints/step-001000.safetensors.sha256", "a/checkpoints/step-001000.safetensors",
     "checkpoints/step-001000-2.safetensors", "checkpoints/step-\u096601000.safetensors",
     "grids/step-001000 copy 2.png", "grids/step-\u096601000.png"],
)  # fmt: skip
def test_other_names_have_no_step(name: str) -> None:
    assert layout.checkpoint_step(name) is layout.grid_step(name) is None


def test_the_checkpoints_among_names_are_ordered_by_step() -> None:
    names = [layout.checkpoint(1_000_000), layout.CONFIG, layout.checkpoint(2000), layout.grid(3000)]
    assert layout.checkpoint_steps(names) == [2000, 1_000_000]


@pytest.mark.parametrize(("content", "sha256"), [(b"ab  step.safetensors\n", "ab"), (b"ab", "ab"), (b"", "")])
def test_a_sidecar_holds_a_hash(content: bytes, sha256: str) -> None:
    assert layout.sha256_in(content) == sha256
    assert layout.sha256_in(layout.sidecar_content("step.safetensors", "ab")) == "ab"


def test_verifying_and_listing_runs_need_no_torch() -> None:
    light = "import sys; import gan.sync.verification, gan.sync.listing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", light], check=False).returncode == 0
