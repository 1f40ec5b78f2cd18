"""Where does a run learn the commit of its code?"""

from pathlib import Path

import pytest

from gan.runs import provenance
from gan.runs.provenance import git_commit


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
