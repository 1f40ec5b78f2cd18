"""What does gan say where CUDA's driver fails? A stub of the driver, built by cc, gives the answers of a broken one.

`python -m tests.support.stub_driver FOLDER CASES` imports torch once, and forks a process for each case: the first
answer of a driver holds for its whole process.
"""

import ctypes
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

import gan.cli.progress
import gan.data.download
import gan.report.page
import gan.sync.publish  # noqa: F401 - what `gan train` imports, once for all cases
from gan.device import choose_device
from gan.errors import DeviceError
from tests.support.command import run_gan

ROOT = Path(__file__).parents[2]


def answers(folder: Path, cases: dict[str, dict[str, str] | None]) -> dict[str, dict[str, object]]:
    """Return what gan says in each case: STUB_ variables of the driver by name, or None for no driver."""
    source, library = Path(__file__).with_name("stub_libcuda.c"), folder / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", library, source], check=True)
    command = [sys.executable, "-m", "tests.support.stub_driver", str(folder), json.dumps(cases)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in cases}


def refusal() -> str:
    """Return why `cuda` is refused."""
    try:
        return f"not refused: {choose_device('cuda').reason}"
    except DeviceError as error:
        return str(error)


def answer(folder: Path) -> dict[str, object]:
    """Return what is said twice for `cuda`, then for `auto`, and what `gan train` says and leaves in a folder."""
    folder.mkdir()
    said = {"cuda": refusal(), "again": refusal(), "auto": choose_device("auto").reason}
    ended = run_gan(folder, "train", "--device", "cuda", "--run-dir", "runs/a", "--mirror", "http://127.0.0.1:1/")
    left = sorted(map(str, folder.iterdir()))
    return {**said, "code": ended.returncode, "out": ended.stdout, "err": ended.stderr, "left": left}


def main() -> None:
    """Write FOLDER/NAME.json for each case."""
    folder = Path(sys.argv[1])
    for name, variables in json.loads(sys.argv[2]).items():
        if child := os.fork():
            os.waitpid(child, 0)
            continue
        try:
            if variables is not None:
                os.environ.update(variables)
                ctypes.CDLL(str(folder / "libcuda.so.1"))
            (folder / f"{name}.json").write_text(json.dumps(answer(folder / name)))
        except BaseException:  # noqa: BLE001 - the child must end here
            traceback.print_exc()
        finally:
            os._exit(0)


if __name__ == "__main__":
    main()
