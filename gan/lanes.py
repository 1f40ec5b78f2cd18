"""How do two threads share the work of a step, without waiting for each other after each operation?

An operation that is spread over cores ends when the last of them is done, and most of a step's are too small to be
spread. So each thread does whole operations by itself: one goes forward and back, the other takes the updates that
come of it, and where the first has to wait for these it takes some, too.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

import torch

Task = Callable[[], None]


class Lane:
    """Hold tasks for two threads to take; none reads what another one writes, so that no order changes a bit."""

    def __init__(self, tokens: SimpleQueue[bool] | None) -> None:
        """Put a token there for each task; without, a task is run when it is added."""
        self.tokens = tokens
        self.tasks: deque[Task] = deque()
        self.in_hand = threading.Lock()
        self.error: Exception | None = None

    def add(self, task: Task) -> None:
        """Let a task be run until `settle` returns."""
        if self.tokens is None:
            return task()
        self.tasks.append(task)
        self.tokens.put(True)

    def settle(self) -> None:
        """Run what is left and return when all is done. Raises what a task raised."""
        while self.tasks:
            self._run_next()
        with self.in_hand:  # until then the helper is at its last one
            error, self.error = self.error, None
        if error:
            raise error

    def help(self) -> bool:
        """Run a task, if there is one."""
        with self.in_hand:
            try:
                return self._run_next()
            except Exception as error:  # noqa: BLE001 - the thread that waits raises it
                self.error = error
                return True

    def _run_next(self) -> bool:
        try:
            task = self.tasks.popleft()
        except IndexError:  # the other thread was quicker
            return False
        task()
        return True


def lanes_of(owner: object, count: int, num_threads: int) -> list[Lane]:
    """Return lanes, the most urgent first, and start a thread that helps while `owner` lives.

    It computes on `num_threads`; 0: there is none.
    """
    if num_threads == 0:
        return [Lane(None) for _ in range(count)]
    tokens: SimpleQueue[bool] = SimpleQueue()
    lanes = [Lane(tokens) for _ in range(count)]
    threading.Thread(target=_help, args=(tokens, lanes, num_threads), name="lanes", daemon=True).start()
    weakref.finalize(owner, tokens.put, False)
    return lanes


def _help(tokens: SimpleQueue[bool], lanes: list[Lane], num_threads: int) -> None:
    torch.set_num_threads(num_threads)  # of this thread
    torch.set_grad_enabled(False)
    while tokens.get():
        any(lane.help() for lane in lanes)
