"""Do imports point down, and does each file say which question it answers?"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "gan").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])
SOURCES = [path for path in FILES if path.name != "__init__.py"]
MAX_LINES = 350
MAX_FUNCTION_LINES = 60


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: Path, *, deferred: bool = True) -> set[str]:
    """Return the modules that a file imports; those inside functions too, if `deferred`."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if deferred else tree.body
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_a_file_says_which_question_it_answers(path: Path) -> None:
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
    assert "?" in first, f"{path}: its docstring must begin with the question it answers"


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[-2] == "gan"], ids=module_of)
def test_the_product_knows_no_orchestration(path: Path) -> None:
    assert not {name for name in imports(path) if name.split(".")[0] in ("prefect", "flows")}


@pytest.mark.parametrize("path", [p for p in SOURCES if not p.name.endswith("cli.py")], ids=module_of)
def test_only_the_commands_defer_imports(path: Path) -> None:
    assert imports(path) == imports(path, deferred=False)


def test_imports_have_no_cycle() -> None:
    modules = {module_of(path): path for path in SOURCES}
    edges = {name: imports(path) & modules.keys() - {name} for name, path in modules.items()}
    while edges:
        leaves = [name for name, needs in edges.items() if not needs & edges.keys()]
        assert leaves, f"a cycle among {sorted(edges)}"
        for name in leaves:
            del edges[name]


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, f"{path}: {node.name}"
