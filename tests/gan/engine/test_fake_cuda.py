"""Would a CUDA graph hold the steps? Fake tensors answer without a GPU.

In a graph nothing may touch the CPU, wait for the host, or have a shape that depends on data.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorDeviceMismatchError,
)

from gan.engine.autograd import AutogradEngine
from tests.support import kernel_counts
from tests.support.fake_cuda import Operations, captured, fake_cuda, operations_of, steps_on_fake_cuda

LOOKED_AT = "2.15"  # torch of requirements.lock
ADVICE = f"""
The operations of a captured step were looked at with torch {LOOKED_AT}; this is torch {torch.__version__}.
Look at each operation that is new: can a CUDA graph capture it, and does it give the same bits every time? Then write
it into OPERATIONS and torch's version into LOOKED_AT. Also try whether dcgan's backward pass runs on fake tensors now.
"""
# The operations of captured steps that launch a kernel. In each group, why they give the same bits every time.
OPERATIONS = {
    "products: cuBLAS, one stream": {"addmm.default", "addmv.default", "mm.default", "mm.out", "mv.out"},
    "random: of the generator that the graph registers": {"randint.generator", "randn.generator", "random_.from"},
    "reads by index: no two threads add to one number": {"bucketize.Tensor", "gather.default", "index_select.default"},
    "sums, in a fixed order": {
        "native_batch_norm.default", "native_batch_norm_backward.default", "sum.IntList_out", "sum.dim_IntList",
    },
    "copies": {
        "_foreach_copy_.default", "_to_copy.default", "cat.default", "clone.default", "constant_pad_nd.default",
        "copy_.default",
    },
    "number by number": {
        "_fused_adam_.tensor_lr", "add_.Tensor", "binary_cross_entropy.default",
        "binary_cross_entropy_backward.default", "binary_cross_entropy_with_logits.default", "div.Tensor",
        "ge.Scalar_out", "leaky_relu_.default", "leaky_relu_backward.default", "lerp_.Tensor", "mul.Tensor",
        "mul_.Tensor", "relu.default", "rsub.Scalar", "sigmoid.default", "sigmoid_backward.default", "sub.Tensor",
        "sub_.Tensor", "tanh_.default", "tanh_backward.default", "threshold_backward.default",
    },
}  # fmt: skip
CASES = [(recipe, precision) for recipe in ("published", "tuned") for precision in ("float32", "bfloat16")]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("recipe", "precision"), CASES)
def test_a_captured_step_stays_on_the_gpu(recipe: str, precision: str, dropout: float) -> None:
    for step, operations in captured(recipe, precision, dropout).items():
        assert operations.kernels.total() > 50
        assert not operations.on_cpu, f"step {step}"


@pytest.mark.parametrize("recipe", ["published", "tuned", "dcgan"])
def test_the_whole_state_is_on_the_gpu(recipe: str) -> None:
    with fake_cuda():
        state = steps_on_fake_cuda(recipe=recipe).state
    buffers = {**dict(state.generator.named_buffers()), **dict(state.discriminator.named_buffers())}
    tensors = {**state._named_tensors(), **buffers, "fixed_z": state.fixed_z}
    assert len(tensors) > 40 and [name for name, tensor in tensors.items() if not tensor.is_cuda] == []


def test_each_operation_of_a_captured_step_was_looked_at() -> None:
    """A new one may be impossible to capture, or give other bits each time."""
    all_of_them = [captured(*case, dropout) for case in CASES for dropout in (0.0, 0.3)]
    found = {name for each in all_of_them for operations in each.values() for name in operations.kernels}
    assert found == set().union(*OPERATIONS.values()), ADVICE


def test_the_operations_were_looked_at_with_this_torch() -> None:
    found, looked_at = ([int(part) for part in version.split(".")[:2]] for version in (torch.__version__, LOOKED_AT))
    assert found <= looked_at, ADVICE


def test_the_docs_have_the_counts_of_kernels() -> None:
    docs = (Path(__file__).parents[3] / "docs/engine.md").read_text()
    assert "\n".join(kernel_counts.rows()) in docs, "write what `python -m tests.support.kernel_counts` prints there"


def with_fault(fault: Callable[[Tensor], object]) -> Operations:
    """Take a step in which something else is done with the fakes."""
    with fake_cuda():
        steps = steps_on_fake_cuda(recipe="published")
        forward_g = steps.engine.forward_g

        def with_planted_fault(*args: object) -> object:
            fault((result := forward_g(*args))[0])
            return result

        steps.engine.forward_g = with_planted_fault
        return operations_of(steps, 0)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (lambda fake: float(fake.sum()), DataDependentOutputException),
        (lambda fake: bool(fake.isfinite().all()), DataDependentOutputException),
        (lambda fake: fake + torch.ones(784), FakeTensorDeviceMismatchError),
        (lambda fake: fake[fake > 0], DynamicOutputShapeException),
    ],
)
def test_a_planted_fault_is_refused(fault: Callable[[Tensor], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        with_fault(fault)


@pytest.mark.parametrize(
    ("fault", "operation"),
    [
        (lambda fake: fake.cpu(), "_to_copy.default"),
        (lambda fake: fake.mul(torch.tensor(2.0)), "mul.Tensor"),
        (lambda fake: torch.tensor([1.0], device="cuda"), "_to_copy.default"),
    ],
)
def test_a_planted_use_of_the_cpu_is_counted(fault: Callable[[Tensor], object], operation: str) -> None:
    assert operation in with_fault(fault).on_cpu


def test_a_planted_operation_is_not_among_those_looked_at() -> None:
    """This one waits for the host, which fake tensors do not show."""
    operations = with_fault(lambda fake: torch.linalg.inv(fake[:, :64]))
    new = operations.kernels.keys() - set().union(*OPERATIONS.values())
    assert new == {"_linalg_check_errors.default", "linalg_inv_ex.default"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_forward_passes_of_dcgan_stay_on_the_gpu(precision: str) -> None:
    # Its backward passes are autograd's, which asks the driver for the context of the device, also for fake tensors:
    # torch 2.15 says 'hasPrimaryContext expects a valid device index'. So they are seen only on a GPU.
    with fake_cuda():
        steps = steps_on_fake_cuda(recipe="dcgan", precision=precision)
        engine = steps.engine
        assert isinstance(engine, AutogradEngine)
        with Operations() as operations:
            inputs = engine.draw_inputs(40, steps.batches.gather(steps.image_indices[40]))
            fake, _ = engine.forward_g(inputs)
            logits, _ = engine.forward_d(fake, inputs)
    assert fake.dtype == (torch.bfloat16 if precision == "bfloat16" else torch.float32)
    assert fake.is_cuda and logits.is_cuda and not operations.on_cpu
