"""Can a library be loaded whose CUDA libraries are stubs, and does it end at the first function of one?"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "stack" / "stub_libraries.sh"
CUBLAS, NCCL, CUDART = "libcublas.so.13", "libnccl.so.2", "libcudart.so.13"
USER = """\
int cublasCreate(void); int ncclInit(void); int cudaCount(void);
void *of_nccl = ncclInit;
int on_a_cpu(void) { return cudaCount(); }
int on_a_gpu(void) { return cublasCreate() + ncclInit(); }
"""
pytestmark = pytest.mark.compiler


def compile_library(path: Path, source: str, *options: str, version: str | None = None) -> None:
    """Compile a library whose functions have a version, as CUDA's mostly do, or none."""
    if version:
        path.with_suffix(".map").write_text(f"{version} {{ *; }};")
        options = (*options, f"-Wl,--version-script={path.with_suffix('.map')}")
    words = ["cc", "-x", "c", "-", "-x", "none", "-shared", "-fPIC", "-o", path, f"-Wl,-soname,{path.name}", *options]
    subprocess.run(words, input=source, text=True, check=True)


@pytest.fixture
def torch_lib(tmp_path: Path) -> Path:
    """Return a folder with a library that links three of CUDA's, two of which are missing."""
    cuda, torch = tmp_path / "venv" / "cuda", tmp_path / "venv" / "torch"
    cuda.mkdir(parents=True)
    torch.mkdir()
    compile_library(cuda / CUBLAS, "int cublasCreate(void) { return 1; }", version=CUBLAS)
    compile_library(cuda / NCCL, "int ncclInit(void) { return 1; }")
    compile_library(cuda / CUDART, "int cudaCount(void) { return 7; }", version=CUDART)
    libraries = [str(cuda / name) for name in (CUBLAS, NCCL, CUDART)]
    compile_library(torch / "libtorch.so", USER, *libraries, "-Wl,-rpath,$ORIGIN:$ORIGIN/../cuda")
    (cuda / CUBLAS).unlink()
    (cuda / NCCL).unlink()
    return torch


def call(torch_lib: Path, function: str) -> subprocess.CompletedProcess[str]:
    """Load the library as Python loads torch, with all functions at once, and call one."""
    code = f"import ctypes; print(ctypes.CDLL({str(torch_lib / 'libtorch.so')!r}, {os.RTLD_NOW}).{function}())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_library_with_stubs_can_be_loaded(torch_lib: Path) -> None:
    assert f"{CUBLAS}: cannot open shared object file" in call(torch_lib, "on_a_cpu").stderr
    done = subprocess.run(
        ["sh", SCRIPT, torch_lib, torch_lib, torch_lib.parent], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"{name}: a stub with 1 functions" for name in (CUBLAS, NCCL)]
    assert call(torch_lib, "on_a_cpu").stdout == "7\n"
    assert call(torch_lib, "on_a_gpu").returncode in (-signal.SIGILL, -signal.SIGTRAP)
