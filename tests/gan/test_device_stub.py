"""What do users read where CUDA's driver cannot be used?"""

import pytest
import torch

from tests.support.stub_driver import answers

pytestmark = pytest.mark.compiler
BUILT_FOR = torch.version.cuda
# Name -> what the driver answers (STUB_ variables), and the cause that users read.
CASES: dict[str, tuple[dict[str, str] | None, str]] = {
    "no driver": (None, "there is no NVIDIA driver"),
    "no device": ({"STUB_INIT": "100"}, "there is a driver, but no usable GPU"),
    "hidden": (
        {"STUB_INIT": "100", "CUDA_VISIBLE_DEVICES": ""},
        "there is a driver, but no usable GPU (CUDA_VISIBLE_DEVICES='')",
    ),
    "too old": (
        {"STUB_VERSION": "11040"},
        f"the NVIDIA driver is too old: it supports CUDA 11.4, and this torch was built for CUDA {BUILT_FOR}",
    ),
    "older": (
        {"STUB_VERSION": "12080", "STUB_INIT": "100"},
        f"the NVIDIA driver is too old: it supports CUDA 12.8, and this torch was built for CUDA {BUILT_FOR}",
    ),
    "out of memory": ({"STUB_INIT": "2"}, "CUDA error 2: out of memory"),
    "not initialized": ({"STUB_INIT": "3"}, "CUDA driver initialization failed, you might not have a CUDA gpu"),
    "stub": ({"STUB_INIT": "34"}, "CUDA error 34: CUDA driver is a stub library"),
    "busy": ({"STUB_INIT": "46"}, "CUDA error 46: CUDA-capable device(s) is/are busy or unavailable"),
    "ordinal": ({"STUB_INIT": "101"}, "CUDA error 101: invalid device ordinal"),
    "ecc": ({"STUB_INIT": "214"}, "CUDA error 214: uncorrectable ECC error encountered"),
    "system": ({"STUB_INIT": "304"}, "CUDA error 304: OS call failed or operation not supported on this OS"),
    "not permitted": ({"STUB_INIT": "800"}, "CUDA error 800: operation not permitted"),
    "no fabric manager": ({"STUB_INIT": "802"}, "CUDA error 802: system not yet initialized"),
    "mismatch": (
        {"STUB_INIT": "803"},
        "CUDA error 803: system has unsupported display driver / cuda driver combination",
    ),
    "compatibility": ({"STUB_INIT": "804"}, "CUDA error 804: forward compatibility was attempted on non supported HW"),
    "unknown": (
        {"STUB_INIT": "999"},
        "CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env variable "
        "CUDA_VISIBLE_DEVICES after program start",
    ),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    return answers(tmp_path_factory.mktemp("stub"), {name: variables for name, (variables, _) in CASES.items()})


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if variables else pytest.mark.no_driver) for name, (variables, _) in CASES.items()],
)
def test_the_cause_is_said_in_one_sentence(name: str, said: dict[str, dict[str, object]]) -> None:
    found, cause = said[name], CASES[name][1]
    refused = f"cuda was requested but cannot be used: {cause}. Use --device cpu to train without it."
    assert found["cuda"] == found["again"] == refused
    assert str(found["auto"]).startswith(f"cpu, since cuda cannot be used: {cause}; ")
    assert (found["code"], found["out"], found["err"], found["left"]) == (1, "", f"error: {refused}\n", [])
