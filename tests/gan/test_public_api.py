"""Does `import gan` offer what docs/python.md says, without importing torch before it is needed?"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gan
from tests.support.digits import write_mnist

ROOT = Path(__file__).parents[2]
PUBLIC = {
    "Batches", "Dataset", "Evaluation", "Evaluator", "GanError", "Run", "RunConfig", "Snapshot", "TrainConfig",
    "TrainState", "__version__", "download_dataset", "draw", "load_dataset", "load_sampler", "open_run",
    "open_store", "resolve", "train",
}  # fmt: skip


def test_the_public_names() -> None:
    assert set(gan.__all__) == PUBLIC
    assert set(dir(gan)) >= PUBLIC
    for name in PUBLIC - {"__version__"}:
        assert getattr(gan, name).__name__ == name


def test_a_name_that_is_not_public() -> None:
    with pytest.raises(AttributeError, match="module 'gan' has no attribute 'no_such_name'"):
        _ = gan.no_such_name


def test_a_type_checker_sees_the_same_names() -> None:
    [block] = [node for node in ast.parse(Path(gan.__file__).read_text()).body[2:4] if isinstance(node, ast.If)]
    imported = {alias.name: node.module for node in block.body for alias in node.names}
    assert imported == gan._MODULES
    assert (ROOT / "gan/py.typed").exists()


def test_importing_is_light() -> None:
    script = "import sys, gan; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"torch", "numpy", "pydantic"} & set(loaded.split())


def test_the_example_in_the_docs_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/python.md").read_text()
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    for full, tiny in {
        "num_steps=3000": "num_steps=30, snapshot_steps=10",
        'Path("data"))': 'Path("data"), pinned=False)',
    }.items():
        assert full in code
        code = code.replace(full, tiny)
    write_mnist(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/python.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["10", "20", "30"]
