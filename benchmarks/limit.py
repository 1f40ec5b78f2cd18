"""What is the shortest time of a step on this machine? That of its matrix products and one Adam update alone."""

from collections.abc import Callable
from functools import cache, partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from benchmarks.timing import Precision, Setting, TimeSteps, timed
from gan.config import RunConfig, TrainConfig
from gan.engine.cpu.matmul import choose_matmul
from gan.recipes.networks import make_networks
from gan.recipes.resolve import resolve

Kind = Literal["forward", "input grad", "weight grad"]
MatmulName = Literal["gan.engine.cpu.matmul", "torch.mm"]  # the matrix multiplication of our CPU engine, and torch's
DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Product(NamedTuple):
    """One matrix product, (m, k) times (k, n), of a step."""

    kind: Kind  # inputs @ weight.t(), grad @ weight, or grad.t() @ inputs: this decides which of the two is transposed
    m: int
    k: int
    n: int


def products_of_step(batch: int, latent: int) -> list[Product]:
    """List the products of a step in their order. They are the same for `published` and for `tuned` without R1.

    D sees the fakes and the reals together, as it does without a second thread. The gradients by the reals' pixels are
    not computed. D's head has one output, so it needs sums and no product.
    """
    both = 2 * batch
    return [
        Product("forward", batch, latent, 128),
        Product("forward", batch, 128, 256),
        Product("forward", batch, 256, 512),
        Product("forward", batch, 512, 1024),
        Product("forward", batch, 1024, 784),
        Product("forward", both, 784, 512),
        Product("forward", both, 512, 256),
        Product("forward", both, 256, 128),
        Product("weight grad", 128, both, 256),
        Product("input grad", both, 128, 256),
        Product("weight grad", 256, both, 512),
        Product("input grad", both, 256, 512),
        Product("weight grad", 512, both, 784),
        Product("input grad", batch, 512, 784),
        Product("weight grad", 784, batch, 1024),
        Product("input grad", batch, 784, 1024),
        Product("weight grad", 1024, batch, 512),
        Product("input grad", batch, 1024, 512),
        Product("weight grad", 512, batch, 256),
        Product("input grad", batch, 512, 256),
        Product("weight grad", 256, batch, 128),
        Product("input grad", batch, 256, 128),
        Product("weight grad", 128, batch, latent),
    ]


def matmul_names(precision: Precision, device: str) -> list[MatmulName]:
    """Return the names of the multiplications to measure: torch.mm, and the engine's if it is another one."""
    is_torch_mm = device != "cpu" or choose_matmul(DTYPES[precision]) is torch.mm
    return ["torch.mm"] if is_torch_mm else ["gan.engine.cpu.matmul", "torch.mm"]


def prepare_limit(setting: Setting, precision: Precision, matmul: MatmulName) -> TimeSteps:
    """Prepare the products of a step of our engine, and Adam. On a GPU they are in one CUDA graph."""
    config = resolve(TrainConfig(precision=precision), seed=0, device="cpu", num_threads=1)
    products = products_of_step(config.batch_size, config.latent_dim)
    calls = [*product_calls(products, precision, matmul, setting.device), _adam(config, setting.device)]
    torch.empty(31 << 20, dtype=torch.uint8)  # keeps freed memory in the process; see gan/engine/base.py

    @torch.no_grad()
    def step() -> None:
        for call in calls:
            call()

    return timed(_in_graph(step) if setting.device == "cuda" else step, setting.device)


def product_calls(
    products: list[Product], precision: Precision, matmul: MatmulName, device: str
) -> list[Callable[[], object]]:
    """Return each product as a function. Matrices of one shape share a tensor, so that caches help most."""
    dtype = DTYPES[precision]

    @cache
    def matrix(role: str, rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, device=device).to(dtype)

    def call_of(product: Product) -> Callable[[], object]:
        kind, m, k, n = product
        left = matrix("in", k, m).t() if kind == "weight grad" else matrix("in", m, k)
        right = matrix("in", n, k).t() if kind == "forward" else matrix("in", k, n)
        multiply = torch.mm if matmul == "torch.mm" else choose_matmul(dtype)
        return partial(multiply, left, right, out=matrix("out", m, n))

    return [call_of(product) for product in products]


def _adam(config: RunConfig, device: str) -> Callable[[], object]:
    """Return one fused Adam step on as many parameters as both networks have together."""
    num_parameters = sum(p.numel() for network in make_networks(config) for p in network.parameters())
    parameters, grads, means, squares = (torch.rand(num_parameters, device=device) for _ in range(4))
    return partial(
        torch._fused_adam_, [parameters], [grads], [means], [squares], [], [torch.ones((), device=device)],
        lr=1e-4, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False,
    )  # fmt: skip


def _in_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Capture a step in a CUDA graph. Launched one by one, its kernels would wait for Python."""
    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
