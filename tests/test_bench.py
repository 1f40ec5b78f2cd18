"""Does the benchmark measure what it says: the products of a step, the tutorial's loop, the cost of a command?"""

import importlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import bench, cases, compiled_loop, usage
from benchmarks.cases import list_cases
from benchmarks.chart import svg
from benchmarks.costs import Costs, Workflow
from benchmarks.limit import product_calls, products_of_step
from benchmarks.machine import Machine
from benchmarks.published_loop import (
    BATCH_NORM_EPS,
    LATENT_DIM,
    batches_from_loader,
    batches_from_memory,
    train,
    write_torchvision_files,
)
from benchmarks.rates import Row
from benchmarks.results import Results
from benchmarks.timing import timed
from benchmarks.usage import Usage
from gan.config import TrainConfig
from gan.data.batches import Batches
from gan.engine.factory import engine_for
from gan.engine.state import TrainState
from gan.recipes.resolve import resolve
from gan.runs.run_dir import SnapshotMetrics
from tests.support.digits import digits, mnist
from tests.support.reference import generator, published_discriminator

BATCH = 32
IMAGES = torch.from_numpy(digits(130)[0]).unsqueeze(1)
aten = torch.ops.aten


class ProductCounter(TorchDispatchMode):
    """Count matrix products by (m, k, n)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[int, int, int]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        match func.overloadpacket:
            case aten.mm:
                self.count(args[0], args[1])
            case aten.addmm:
                self.count(args[1], args[2])
            case torch.ops.mkldnn._linear_pointwise | aten.linear:
                self.count(args[0], args[1].t())
        return func(*args, **(kwargs or {}))

    def count(self, a: torch.Tensor, b: torch.Tensor) -> None:
        self.found[len(a), a.shape[1], b.shape[1]] += 1


def products_in(call: Callable[[], object]) -> Counter[tuple[int, int, int]]:
    with ProductCounter() as counter, torch.no_grad():
        call()
    return counter.found


@pytest.mark.parametrize("matmul", ["gan.engine.cpu.matmul", "torch.mm"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("recipe", ["published", "tuned"])
def test_the_limit_has_the_products_of_the_engines_step(recipe: Any, precision: Any, matmul: Any) -> None:
    asked = TrainConfig(recipe=recipe, precision=precision, batch_size=BATCH, num_steps=1, r1_gamma=0)
    config = resolve(asked, seed=0, device="cpu", num_threads=1)
    engine = engine_for(TrainState(config), config)
    real = Batches(*digits(BATCH), BATCH, 0)(1)
    calls = product_calls(products_of_step(BATCH, 100), precision, matmul, "cpu")
    in_limit = products_in(lambda: [call() for call in calls])
    assert in_limit.total() == 23
    assert in_limit == products_in(lambda: engine.step(real, torch.empty(2)))


def test_the_limit_computes_no_gradient_that_is_not_used() -> None:
    g_weights, d_weights = 1_503_744, 565_376
    forward_and_backward = 2 * 3 * (64 * g_weights + 128 * d_weights)
    unused = 2 * (64 * 100 * 128 + 3 * 128 * 128 * 1 + 64 * 512 * 784)  # by z; D's head has no product; by real pixels
    flops = sum(2 * p.m * p.k * p.n for p in products_of_step(64, 100))
    assert flops == forward_and_backward - unused == 958_529_536


def test_the_published_loop_reads_our_files_as_torchvision_does(tmp_path: Path) -> None:
    data = mnist(num_train=128)
    write_torchvision_files(data, tmp_path)
    epochs = (batches_from_loader(tmp_path, 0), batches_from_memory(torch.from_numpy(data.train_images).unsqueeze(1)))
    by_loader, by_hand = (torch.cat([next(batches), next(batches)]).sum((1, 2, 3)).sort().values for batches in epochs)
    assert by_loader.shape == (128,)
    torch.testing.assert_close(by_loader, by_hand)


def test_the_published_loop_continues_over_epochs() -> None:
    losses = train(batches_from_memory(IMAGES), "cpu")
    assert all(0 < g_loss < 2 and 0 < d_loss < 2 for g_loss, d_loss in (next(losses) for _ in range(5)))


def first_losses(steps: int) -> list[tuple[float, float]]:
    """Return the losses (g_loss, d_loss) of the tutorial's loop, from seed 1."""
    torch.manual_seed(1)
    losses = train(batches_from_memory(IMAGES), "cpu")
    return [next(losses) for _ in range(steps)]


def test_torch_compile_takes_the_steps_of_the_published_loop() -> None:
    torch.manual_seed(1)
    g, d = generator(LATENT_DIM, BATCH_NORM_EPS), published_discriminator()
    batches = batches_from_memory(IMAGES)
    step = compiled_loop.stepper(g, d, compiled_loop.losses_of(g, d, "cpu", "float32"))
    found = [step(next(batches)) for _ in range(4)]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(first_losses(4)))


@pytest.mark.jax
def test_jax_takes_the_steps_of_the_published_loop() -> None:
    loop = importlib.import_module("benchmarks.jax_loop")
    torch.manual_seed(1)
    g, d = generator(LATENT_DIM, BATCH_NORM_EPS), published_discriminator()
    batches = batches_from_memory(IMAGES)
    train_step = loop.jax.jit(loop.train_step, static_argnums=3)
    state = loop.begin(loop.jax.random.key(0)) | {"g": jax_layers(g), "d": jax_layers(d)}
    found = []
    for _ in range(4):
        real = next(batches).flatten(1).numpy()
        z = torch.randn(len(real), LATENT_DIM).numpy()
        state, losses = train_step(state, real, z, "float32")
        found.append([float(loss) for loss in losses])
    torch.testing.assert_close(torch.tensor(found), torch.tensor(first_losses(4)), rtol=1e-4, atol=1e-4)


def jax_layers(network: torch.nn.Module) -> list[dict[str, Any]]:
    """Return the layers of a network as JAX's loop holds them."""
    layers: list[dict[str, Any]] = []
    for module in network.modules():
        if isinstance(module, torch.nn.Linear):
            layers.append({"w": module.weight.detach().t().numpy(), "b": module.bias.detach().numpy()})
        elif isinstance(module, torch.nn.BatchNorm1d):
            layers[-1] |= {"scale": module.weight.detach().numpy(), "shift": module.bias.detach().numpy()}
    return layers


def test_a_window_is_timed_step_by_step() -> None:
    steps: list[int] = []
    assert 0 < timed(lambda: steps.append(1), "cpu")(7) < 1
    assert len(steps) == 7


@pytest.mark.parametrize(("device", "intel", "num_limits"), [("cpu", True, 2), ("cpu", False, 3), ("cuda", False, 2)])
def test_every_case_is_listed_once(device: str, intel: bool, num_limits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan.engine.cpu.matmul.is_intel", lambda: intel)
    monkeypatch.setattr(cases, "missing_peers", dict)
    listed = list_cases(device)
    groups = {"loader": 3, "memory": 1, "peer": 4, "ours": 4, "limit": num_limits}
    assert Counter(case.group for case in listed) == groups
    assert len({(case.name, case.precision) for case in listed}) == len(listed)


def test_a_peer_that_is_not_installed_is_left_out_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cases, "find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not [case for case in list_cases("cpu") if case.group == "peer"]
    missing = cases.missing_peers()
    assert missing["JAX"].endswith(": pip install --no-deps --require-hashes -r requirements-bench.lock")
    assert missing["torch.compile"] == "a C++ compiler: apt install g++"
    assert bench.left_out([], [], ()) == missing
    assert bench.left_out([], [], ("JAX, float32",)).keys() == {"JAX"}
    assert bench.left_out([], [], ("ours",)) == {}  # nobody asked for a peer


def test_the_memory_of_a_command_is_measured_without_that_of_its_parent() -> None:
    hundred_mb = [sys.executable, "-c", "bytes(range(1)) * 100_000_000"]
    done = subprocess.run([sys.executable, usage.__file__, *hundred_mb], capture_output=True, check=True)
    assert 100e6 < Usage(**json.loads(done.stdout)).peak_rss_bytes < 130e6  # of this process: several times that


def snapshot(step: int, seconds: float, time: str) -> SnapshotMetrics:
    return SnapshotMetrics(step=step, g_loss=1, d_loss=1, steps_per_second=100, seconds=seconds, time=time)


def test_the_time_of_a_workflow_is_divided_into_its_parts() -> None:
    command = Usage(began_at=0, ended_at=37, peak_rss_bytes=1)
    metrics = [snapshot(1000 * i, 10 * i, f"1970-01-01T00:00:{4 + 11 * i - 1}+00:00") for i in (1, 2)]
    flow = Workflow.of(command, metrics)
    assert flow.model_dump() == {
        "num_steps": 2000, "num_snapshots": 2, "start_up": 4, "loop": 20, "snapshots": 1, "end": 12,
    }  # fmt: skip
    assert flow.overhead == 13 / 20
    assert flow.full_overhead == pytest.approx((92 + 12) / 927.63)


@pytest.fixture
def results() -> Results:
    def row(group: Any, name: str, *rates: float, precision: Any = "float32", **fields: Any) -> Row:
        return Row(group=group, name=name, precision=precision, num_steps=300, rates=list(rates), **fields)

    return Results(
        created="2026-01-01T00:00:00+00:00",
        command="make bench",
        device="cpu",
        num_threads=2,
        machine=Machine(cpu="A & B", num_cores=2, gpu=None, load_average=0.1, versions={"torch": "2"}, git_commit=None),
        rows=[
            row("loader", "two workers", 30, 40, 41),
            row("loader", "none", 20, 20, 20),
            row("memory", "in memory", 50, 49, 51),
            row("ours", "ours, tuned", 99, 100, 103),
            row("ours", "ours, tuned", 120, 121, 119, precision="bfloat16"),
            row("peer", "torch.compile", 60, 60, 60, first_seconds=9.5),
            row("limit", "one", 125, 125, 125),
            row("limit", "another", 110, 110, 110),
            row("limit", "one", 160, 160, 160, precision="bfloat16"),
        ],
        costs=Costs(
            gan_train_peak_rss_bytes=10**9,
            workflow_peak_rss_bytes=11 * 10**8,
            workflow=Workflow(num_steps=3000, num_snapshots=3, start_up=8, loop=20, snapshots=0.4, end=1.6),
            gan_help_seconds=0.15,
            gan_train_help_seconds=0.16,
        ),
        left_out={"JAX": "it is missing"},
    )


def test_the_table_is_made_from_the_json(results: Results) -> None:
    table = Results.model_validate_json(results.model_dump_json()).table()
    assert "| two workers | float32 | 40.0 | 30.0..41.0 |  |  |  |" in table
    assert "| ours, tuned | float32 | 100.0 | 99.0..103.0 | 2.5 | 2.0 | 80% |" in table
    assert "| ours, tuned | bfloat16 | 120.0 | 119.0..121.0 | 3.0 | 2.4 | 75% |" in table
    assert "`gan train` 1,000 MB, `gan-train` 1,100 MB" in table
    assert "Snapshots and end: 10.0% of the loop" in table
    assert "| torch.compile | float32 | 60.0 | 60.0..60.0 | 1.5 | 1.2 | 48% |" in table
    assert "- torch.compile, float32: compiling took 8.5 s." in table  # its first 60 steps took 9.5 s
    assert "- JAX was left out: it is missing." in table


def test_a_table_of_some_cases_has_no_ratio_to_the_others(results: Results) -> None:
    ours = [row for row in results.rows if row.group == "ours"]
    table = results.model_copy(update={"rows": ours, "costs": None}).table()
    assert "| ours, tuned | float32 | 100.0 | 99.0..103.0 |  |  |  |" in table
    assert "Peak memory" not in table


def test_the_chart_has_a_bar_for_each_case(results: Results) -> None:
    drawing = ElementTree.fromstring(svg(results))
    bars = drawing.findall("{*}rect")
    assert [bar.get("class") for bar in bars] == [row.group for row in results.rows]
    assert float(bars[0].get("width", 0)) / float(bars[3].get("width", 0)) == pytest.approx(0.4, abs=0.01)
    assert "A & B" in "".join(drawing.itertext())
