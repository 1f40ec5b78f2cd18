"""Do imports point down, does each module answer a question, and do files and functions stay small?"""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Bottom to top: each package imports only itself and those before it. docs/architecture.md draws the same order.
LAYERS = (
    "gan",  # the base modules, see below
    "gan.storage",
    "gan.data",
    "gan.sets",
    "gan.recipes",
    "gan.engine",
    "gan.evaluation",
    "gan.runs",
    "gan.training",
    "gan.report",
    "gan.sync",
    "gan.registry",
    "gan.cli",
    "flows",
    "stack",
    "benchmarks",
)
# The base modules may import each other and nothing above.
BASE_MODULES = {
    "errors",
    "files",
    "locks",
    "compiled",
    "seeds",
    "images",
    "html",
    "control_groups",
    "device",
    "health",
    "config",
}
SHARED_NAMES = {"base", "cpu", "gpu", "main"}  # module names that may occur in several packages
MAX_MODULES = 12  # in one folder of gan/
MAX_LINES = 350
MAX_FUNCTION_LINES = 60

FILES = sorted(path for top in ("gan", "flows", "stack", "benchmarks") for path in (ROOT / top).rglob("*.py"))
SOURCES = [path for path in FILES if path.name != "__init__.py"]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {module_of(path): path for path in SOURCES}


def layer_of(module: str) -> str:
    """Return the layer that a module belongs to: gan/engine/cpu belongs to gan.engine; `python -m gan` is a command."""
    if module == "gan.__main__":
        return "gan.cli"
    return max((layer for layer in LAYERS if f"{module}.".startswith(f"{layer}.")), key=len)


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


# The modules of our own that each module imports.
EDGES = {name: imports(path) & MODULES.keys() - {name} for name, path in MODULES.items()}


def test_imports_point_down() -> None:
    upward = [
        f"{name} imports {target}"
        for name, targets in EDGES.items()
        for target in targets
        if LAYERS.index(layer_of(target)) > LAYERS.index(layer_of(name))
    ]
    assert not upward


def test_imports_have_no_cycle() -> None:
    waiting = dict(EDGES)
    while waiting:
        leaves = [name for name, needs in waiting.items() if not needs & waiting.keys()]
        assert leaves, f"a cycle among {sorted(waiting)}"
        for name in leaves:
            del waiting[name]


def test_the_base_layer_holds_the_base_modules_alone() -> None:
    found = {path.stem for path in SOURCES if layer_of(module_of(path)) == "gan"}
    assert found == BASE_MODULES


def test_the_product_does_not_import_prefect_or_flows() -> None:
    product = [path for path in SOURCES if module_of(path).startswith("gan.")]
    tops = {name.split(".")[0] for path in product for name in imports(path)}
    assert not tops & {"prefect", "flows", "stack", "benchmarks"}


def test_only_the_commands_defer_imports() -> None:
    commands = {"flows.cli", *(name for name in MODULES if layer_of(name) == "gan.cli")}
    others = [path for name, path in MODULES.items() if name not in commands]
    assert [path for path in others if imports(path) != imports(path, deferred=False)] == []


def test_a_folder_holds_a_dozen_modules_at_most() -> None:
    counts = Counter(path.parent for path in SOURCES if module_of(path).startswith("gan."))
    assert {str(folder): count for folder, count in counts.items() if count > MAX_MODULES} == {}


def test_a_module_name_occurs_once() -> None:
    counts = Counter(path.stem for path in SOURCES if module_of(path).startswith(("gan.", "flows.")))
    assert {name for name, count in counts.items() if count > 1} <= SHARED_NAMES


def test_the_docstring_of_a_module_asks_a_question() -> None:
    product = [path for path in SOURCES if module_of(path).startswith(("gan.", "flows."))]
    silent = [path for path in product if "?" not in (ast.get_docstring(ast.parse(path.read_text())) or "")]
    assert not silent


def test_files_and_functions_stay_small() -> None:
    for path in FILES:
        assert len(path.read_text().splitlines()) <= MAX_LINES, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, f"{path}: {node.name}"
