"""How many steps are taken at once: one, or on a GPU many, as a CUDA graph?

The kernels of a single step wait for Python to launch them. A CUDA graph holds the kernels of many steps, and one call
launches them all. What changes from step to step (the batch, the learning rate, the average's weight) lies in tensors
that are filled before each launch. The random stream advances as in single steps. So a step gives the same bits alone
and in a graph, and each graph is compared with single steps before it is used.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from gan.data.batches import Batches
from gan.engine.base import Engine
from gan.errors import RecipeError

MAX_GRAPH_STEPS = 50  # a stop waits for one graph; capturing a graph takes as long as launching its kernels one by one

Capture = Callable[[Callable[[], None], torch.Generator], Callable[[], None]]

log = logging.getLogger(__name__)


class Steps:
    """Take steps one by one."""

    def __init__(self, engine: Engine, batches: Batches, losses: Tensor) -> None:
        """Let step N write its losses to row (N - 1) % len(losses)."""
        self.engine, self.batches, self.losses = engine, batches, losses
        self.state, self.num_rows = engine.state, len(losses)

    def take(self, goal: int) -> Tensor:
        """Take one step, or several but none after `goal`. Return the last step's fakes (B, C, side, side).

        Changes the state, its step count too. The next call overwrites the fakes.
        """
        step = self.state.step
        fake = self.engine.step(self.batches(step + 1), self.losses[step % self.num_rows])
        self.state.step = step + 1
        return fake


class GraphSteps(Steps):
    """Take as many steps at once as a graph holds, and single steps where fewer are left.

    Steps with augmentation and steps without it launch different kernels: each of the two phases has its own graph.
    """

    def __init__(self, engine: Engine, batches: Batches, losses: Tensor, capture: Capture) -> None:
        """Capture each phase's graph by `capture`, when that phase first has steps for a whole graph."""
        super().__init__(engine, batches, losses)
        self.size = steps_per_graph(self.num_rows, engine.period)  # 0: no graphs
        self.capture = capture
        self.replays: dict[bool, Callable[[], None]] = {}  # launches each phase's graph, by whether it augments
        # The memory that the steps of a graph read and write. A graph keeps the addresses.
        max_steps = max(self.size, 1)
        self.image_indices = torch.empty(max_steps, batches.batch_size, dtype=torch.int64, device=losses.device)
        self.rates = losses.new_empty(max_steps, 2)
        self.step_losses = torch.empty_like(losses[:max_steps])
        self.fake = losses.new_empty(0)

    def take(self, goal: int) -> Tensor:
        """Take a graph's steps or one step. Return the last step's fakes (B, C, side, side)."""
        first = self.state.step
        phase = self.engine.config.translates_after(first)
        fills_graph = (
            0 < self.size <= goal - first
            and first % self.engine.period == 0
            and self.engine.config.translates_after(first + self.size - 1) == phase
        )
        num_steps = self.size if fills_graph else 1
        self._fill_inputs(num_steps)
        if not fills_graph:
            self._run(1)
        elif phase in self.replays:
            self.replays[phase]()
        else:
            self._run_and_capture(phase)
        row = first % self.num_rows
        self.losses[row : row + num_steps].copy_(self.step_losses[:num_steps])
        self.state.step = first + num_steps
        return self.fake

    def _fill_inputs(self, num_steps: int) -> None:
        """Write what changes from step to step, without waiting for the device."""
        steps = range(self.state.step, self.state.step + num_steps)
        torch.stack([self.batches.indices(step + 1) for step in steps], out=self.image_indices[:num_steps])
        rates = torch.tensor([self.engine.rates(step) for step in steps], dtype=self.rates.dtype)
        self.rates[:num_steps].copy_(rates, non_blocking=True)

    def _run(self, num_steps: int) -> None:
        """Take steps from the inputs as filled. This is what a graph captures."""
        for index in range(num_steps):
            real = self.batches.gather(self.image_indices[index])
            self.fake = self.engine.step(real, self.step_losses[index], index, self.rates[index].unbind())

    def _run_and_capture(self, phase: bool) -> None:
        """Take a graph's steps one by one, then again as a graph from the same state. Keep the graph if bits agree."""
        before = self._copy_state()
        self._run(self.size)  # also loads libraries and allocates memory, which must not happen during a capture
        after, fake = self._copy_state(), self.fake
        try:
            replay = self.capture(lambda: self._run(self.size), self.state.rng)
            self._restore_state(before)
            replay()
            problem = self._compare_with_steps(after)
        except (RuntimeError, RecipeError) as error:
            problem = str(error).split("\n")[0]
        if problem is None:
            self.replays[phase] = replay
            return
        self.size = 0
        log.warning("training continues without CUDA graphs: %s", problem)
        self.state.rng = torch.Generator(self.state.device)  # a failed capture may still hold the old one
        self._restore_state(after)
        self.fake = fake

    def _compare_with_steps(self, after_steps: dict[str, Tensor]) -> str | None:
        """Describe the first difference between the state now and after single steps; None if there is none."""
        after_graph = self._copy_state()
        for name, tensor in after_steps.items():
            if tensor.numpy().tobytes() != after_graph[name].numpy().tobytes():
                return f"a graph of {self.size} steps gives other bits than single steps (first difference: {name})"
        return None

    def _copy_state(self) -> dict[str, Tensor]:
        tensors = {**self.state.tensors(), "step_losses": self.step_losses.cpu()}
        return {name: tensor.clone() for name, tensor in tensors.items()}

    def _restore_state(self, tensors: dict[str, Tensor]) -> None:
        self.step_losses.copy_(tensors["step_losses"])
        self.state.load({name: tensor for name, tensor in tensors.items() if name != "step_losses"})


def steps_for(engine: Engine, batches: Batches, losses: Tensor) -> Steps:
    """Return graph steps on a GPU, else single steps."""
    if engine.state.device.type == "cuda":
        return GraphSteps(engine, batches, losses, capture_graph)
    return Steps(engine, batches, losses)


def steps_per_graph(snapshot_steps: int, period: int) -> int:
    """Return how many steps a graph holds; 0: no graph fits.

    It is a multiple of `period`, near MAX_GRAPH_STEPS, that leaves few single steps before a snapshot.
    """
    largest = min(MAX_GRAPH_STEPS, snapshot_steps) // period * period
    sizes = range(largest, largest // 2, -period)
    return min(sizes, key=lambda size: snapshot_steps % size, default=0)


def capture_graph(steps: Callable[[], None], rng: torch.Generator) -> Callable[[], None]:
    """Record the kernels of `steps` without running them. Return the function that launches them all.

    Each launch continues the random stream `rng`, as the steps themselves would.

    Raises:
        RuntimeError: CUDA cannot capture the steps.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(rng)
    # thread_local: other threads may use the GPU meanwhile, for example to copy a snapshot.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        steps()
    return graph.replay
