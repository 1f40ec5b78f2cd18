"""What does provenance.json hold, and where does a run learn the commit of its code?"""

import json
from pathlib import Path

import pytest

from gan.runs import provenance
from gan.runs.provenance import Provenance, git_commit
from gan.runs.run_dir import RunDir


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder without git, from which the code seems to be imported."""
    monkeypatch.delenv("GAN_GIT_COMMIT", raising=False)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "gan/runs/provenance.py"))
    return tmp_path


def test_an_image_has_its_commit_in_a_file(code: Path) -> None:
    (code / "GIT_COMMIT").write_text("0123abc-dirty")
    assert git_commit() == "0123abc-dirty"


def test_a_variable_comes_before_the_file(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code / "GIT_COMMIT").write_text("0123abc")
    monkeypatch.setenv("GAN_GIT_COMMIT", "4567def")
    assert git_commit() == "4567def"


@pytest.mark.parametrize("content", [None, ""])
def test_an_unknown_commit_is_none(code: Path, content: str | None) -> None:
    if content is not None:
        (code / "GIT_COMMIT").write_text(content)
    assert git_commit() is None


def test_a_run_on_a_gpu_says_how_it_computes(tmp_path: Path) -> None:
    libraries = {"torch": "2.15.0", "cuda": "13.2", "cudnn": "92600", "driver": "580.65.06"}
    made = Provenance.now("a", "cuda: NVIDIA H100", libraries, {}, {"products in TF32": "False"})
    run = RunDir(tmp_path)
    run.write_provenance(made)
    assert run.read_provenance() == made
    assert libraries.items() <= made.versions.items() and made.numerics == {"products in TF32": "False"}


def test_a_run_on_a_cpu_has_the_fields_that_older_versions_read(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_provenance(Provenance.now("a", "cpu", {"torch": "2.15.0"}, {}))
    fields = json.loads(run.provenance_path.read_text())
    assert [*fields] == ["version", "run_id", "created", "device", "git_commit", "versions", "data"]
    assert [*fields["versions"]] == ["gan-train", "python", "torch", "numpy", "numba"]
    assert run.read_provenance().numerics is None
