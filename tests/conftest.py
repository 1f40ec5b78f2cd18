"""Which settings hold for all tests, and which tests are left out on a machine that cannot run them?"""

import atexit
import gc
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the commands set it, before torch is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes share the cores; a run takes its own num_threads

import pytest

try:
    from xdist.scheduler import LoadScopeScheduling
except ImportError:  # a machine that is lent for its GPU has no xdist, and runs the tests in one process
    LoadScopeScheduling = object

from tests.support.browser import installed
from tests.support.machines import can_make_machines

gc.disable()  # until all is imported: each collection would look at the objects of torch and prefect again


def _docker_answers(*words: str) -> bool:
    try:
        return subprocess.run(["docker", *words], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _may_mount() -> bool:
    try:
        tried = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
        return tried.returncode == 0
    except FileNotFoundError:
        return False


def _needs() -> dict[str, tuple[bool, str]]:
    """Return by marker whether its tests can run here, and what is missing if not."""
    import torch  # takes seconds, and the process that only hands out tests does not need it

    return {
        "browser": (installed() is not None, "no Chromium is installed"),
        "mnist": (bool(os.environ.get("GAN_MNIST_MIRRORS")), "GAN_MNIST_MIRRORS names no mirror of the real files"),
        "minio": (bool(os.environ.get("GAN_TEST_MINIO")), "GAN_TEST_MINIO names no MinIO server"),
        "e2e": (_docker_answers("version"), "no Docker engine answers"),
        "mounts": (_may_mount(), "this user may not mount a file system"),
        "compose": (_docker_answers("compose", "version"), "the command docker compose is missing"),
        "gpu": (torch.cuda.is_available(), "there is no usable GPU"),
        "no_driver": (not torch.cuda.is_available(), "this machine has a driver of NVIDIA"),
        "caddy": (bool(shutil.which("caddy")), "the program caddy is missing"),
        "prometheus": (bool(shutil.which("prometheus")), "the program prometheus is missing"),
        "jax": (find_spec("jax") is not None, "JAX is not installed (requirements-bench.lock)"),
        "compiler": (bool(shutil.which("cc")), "the C compiler cc is missing"),
        "machines": (can_make_machines(), "this user may not make namespaces and mounts"),
        "clone": ((ROOT / ".git").is_dir(), "this is no clone, whose .git a build reads"),
    }


ROOT = Path(__file__).parents[1]
# Marker -> what runs it. The first marker of a test counts.
LONG = {"kill": "make test-kill", "faults": "make faults", "e2e": "make e2e", "prefect": "make test-prefect"}
FOLDERS = {"e2e": ROOT / "tests/e2e", "faults": ROOT / "tests/faults"}  # where all tests of a marker are
left_out: dict[str, int] = {}
REFUSED = pytest.StashKey[str]()  # why a test fails that GAN_TEST_GPU=1 does not let be left out


class OneServerScheduling(LoadScopeScheduling):
    """Give a file's tests to one process, and all of tests/flows to one: they share a Prefect server."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::")[0]
        return "tests/flows" if path.startswith("tests/flows/") else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Replace --dist loadfile."""
    return OneServerScheduling(config, log) if config.option.dist == "loadfile" else None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take --long."""
    parser.addoption("--long", action="store_true", help="with -m e2e: run the tests that wait for minutes, too")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no other tests where `-m` selects those of one folder: that would take half a minute."""
    folder = FOLDERS.get(config.option.markexpr)
    is_elsewhere = folder and collection_path.name.startswith("test_") and folder not in collection_path.parents
    return True if is_elsewhere else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that cannot run here, and the long ones unless -m selects them."""
    kept, needs = [], _needs()
    for item in items:
        reasons = [
            f"{marker} tests: {missing}"
            for marker, (able, missing) in needs.items()
            if item.get_closest_marker(marker) and not able
        ]
        long = next((marker for marker in LONG if item.get_closest_marker(marker)), None)
        if long and long not in config.option.markexpr:
            reasons.append(f"{long} tests: run them with `{LONG[long]}`")
        if item.get_closest_marker("long") and not config.option.long:
            reasons.append("long tests: run them with `make e2e ARGS=--long`")
        if reasons and item.get_closest_marker("gpu") and os.environ.get("GAN_TEST_GPU") == "1":
            item.stash[REFUSED] = reasons[0]
            kept.append(item)
        elif reasons:
            left_out[reasons[0]] = left_out.get(reasons[0], 0) + 1
        else:
            kept.append(item)
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def pytest_collection_finish() -> None:
    """Leave what is imported out of every garbage collection to come: 600,000 objects, half a second each time."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # to clear everything: a library would print what it thinks has leaked


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a GPU test that would be left out, on a machine that is there to run it."""
    if reason := item.stash.get(REFUSED, None):
        pytest.fail(f"GAN_TEST_GPU=1, and this test cannot run: {reason}", pytrace=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the list of deselected tests to the process that reports, if the tests run in several processes."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Store the list of tests that a worker deselected. Each worker collects all tests."""
    left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print at the end which tests were left out, and why."""
    for reason, count in sorted(left_out.items()):
        terminalreporter.write_line(f"left out: {count} {reason}")
