"""In what portions are steps taken: one by one, or on a GPU many at once as a CUDA graph?

Launched one by one, the kernels of a step wait for Python. A graph holds those of many steps and is launched by one
call. It reads what changes from step to step out of tensors of its own, filled before each launch, and goes on in
the state's random stream as single steps do: whether a step is taken by itself or in a graph changes no bit.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from gan.data.batches import Batches
from gan.engine.base import Engine

MAX_GRAPH_STEPS = 50  # a stop request waits for one graph; capturing takes as long as launching its kernels one by one

Capture = Callable[[Callable[[], None], torch.Generator], Callable[[], None]]

log = logging.getLogger(__name__)


class Steps:
    """Take steps one by one."""

    def __init__(self, engine: Engine, batches: Batches, losses: Tensor) -> None:
        """Let step N write its losses into row (N - 1) % len(losses)."""
        self.engine, self.batches, self.losses = engine, batches, losses
        self.state, self.num_rows = engine.state, len(losses)

    def take(self, goal: int) -> Tensor:
        """Take a step, or several but none after `goal`; return the last one's fakes (B, 1, 28, 28).

        Changes the state, its step included. The fakes are good until the next call.
        """
        step = self.state.step
        fake = self.engine.step(self.batches(step + 1), self.losses[step % self.num_rows])
        self.state.step = step + 1
        return fake


class GraphSteps(Steps):
    """Take as many steps at once as a graph holds; those that do not fill one, one by one."""

    def __init__(self, engine: Engine, batches: Batches, losses: Tensor, capture: Capture) -> None:
        """Let the first portion of each phase that fills a graph decide, by `capture` and comparison, on its use."""
        super().__init__(engine, batches, losses)
        self.size = size = steps_per_graph(self.num_rows, engine.period)
        self.capture = capture
        self.replays: dict[bool, Callable[[], None]] = {}  # each phase's graph, by whether it shifts
        room = max(size, 1)
        self.chosen = torch.empty(room, batches.batch_size, dtype=torch.int64, device=losses.device)
        self.rates = losses.new_empty(room, 2)
        self.found = torch.empty_like(losses[:room])  # losses of the portion
        self.fake = losses.new_empty(0)

    def take(self, goal: int) -> Tensor:
        first = self.state.step
        phase, *others = {self.engine.config.shifts_after(step) for step in (first, first + self.size - 1)}
        fills = not others and 0 < self.size <= goal - first and first % self.engine.period == 0
        num_steps = self.size if fills else 1
        self._fill(num_steps)
        if not fills:
            self._run(1)
        elif phase in self.replays:
            self.replays[phase]()
        else:
            self._begin(phase)
        row = first % self.num_rows
        self.losses[row : row + num_steps].copy_(self.found[:num_steps])
        self.state.step = first + num_steps
        return self.fake

    def _fill(self, num_steps: int) -> None:
        """Say what the next steps see, without waiting for the device."""
        steps = range(self.state.step, self.state.step + num_steps)
        torch.stack([self.batches.chosen(step + 1) for step in steps], out=self.chosen[:num_steps])
        rates = torch.tensor([self.engine.rates(step) for step in steps], dtype=self.rates.dtype)
        self.rates[:num_steps].copy_(rates, non_blocking=True)

    def _run(self, num_steps: int) -> None:
        """Take steps as filled; this is what a graph captures."""
        for index in range(num_steps):
            real = self.batches.gather(self.chosen[index])
            self.fake = self.engine.step(real, self.found[index], index, self.rates[index].unbind())

    def _begin(self, phase: bool) -> None:
        """Take a portion one by one, and again as a graph from the same state; keep to graphs if that is alike."""
        before = self._copied()
        self._run(self.size)  # also warms up what a capture must not: libraries that load and allocate when first used
        after, fake = self._copied(), self.fake
        try:
            replay = self.capture(lambda: self._run(self.size), self.state.random)
            self._restore(before)
            replay()
            graphed = self._copied()
            odd = [name for name, tensor in after.items() if not _same_bits(tensor, graphed[name])]
            fault = f"one of {self.size} steps gives other bits than these one by one ({odd[0]})" if odd else None
        except RuntimeError as error:
            fault = str(error).split("\n")[0]
        if fault is None:
            self.replays[phase] = replay
            return
        self.size = 0
        log.warning("training goes on without CUDA graphs: %s", fault)
        self.state.random = torch.Generator(self.state.device)  # a capture that failed may hold the other
        self._restore(after)
        self.fake = fake

    def _copied(self) -> dict[str, Tensor]:
        tensors = {**self.state.tensors(), "found": self.found.cpu()}
        return {name: tensor.clone() for name, tensor in tensors.items()}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        self.found.copy_(tensors["found"])
        self.state.load({name: tensor for name, tensor in tensors.items() if name != "found"})


def steps_for(engine: Engine, batches: Batches, losses: Tensor) -> Steps:
    """Choose by device."""
    if engine.state.device.type == "cuda":
        return GraphSteps(engine, batches, losses, capture_graph)
    return Steps(engine, batches, losses)


def steps_per_graph(snapshot_steps: int, period: int) -> int:
    """Return how many steps a graph holds, whole periods, so that few are left over before a snapshot; 0: no graph."""
    most = min(MAX_GRAPH_STEPS, snapshot_steps) // period * period
    return min(range(most, most // 2, -period), key=lambda size: snapshot_steps % size, default=0)


def capture_graph(steps: Callable[[], None], random: torch.Generator) -> Callable[[], None]:
    """Record what `steps` would launch, none of which runs, and return what launches it all.

    Each launch draws on from where `random` then is, as the steps themselves would. Raises RuntimeError.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(random)
    # thread_local: other threads may use the GPU meanwhile, to copy a snapshot say.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        steps()
    return graph.replay


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.numpy().tobytes() == b.numpy().tobytes()
