"""How do two threads share the work of a step, without waiting for each other after each operation?

An operation that is spread over cores ends when the last of them is done, and most of a step's are too small to be
spread. So each thread does whole operations by itself: one goes forward and back, the other takes what need not be
done at once, and where the first comes to need something that nobody has begun it does that itself.
"""

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

import torch

Task = Callable[[], None]


class Lane:
    """Hold a task for the first of two threads that comes for it."""

    def __init__(self, tokens: SimpleQueue[bool] | None) -> None:
        """Put a token there for each task; without, a task is run when it is added."""
        self.tokens = tokens
        self.task: Task | None = None
        self.in_hand = threading.Lock()
        self.error: Exception | None = None

    def add(self, task: Task) -> None:
        """Have a task run by the time `settle` returns; the one before it must have been settled."""
        if self.tokens is None:
            return task()
        with self.in_hand:
            self.task = task
        self.tokens.put(True)

    def settle(self) -> None:
        """Return when the task is done; run it if nobody has. Raises what it raised."""
        with self.in_hand:  # by the helper, until it is done
            self._run()
            error, self.error = self.error, None
        if error:
            raise error

    def drop(self) -> None:
        """Return when nobody has the task in hand; nobody will begin it, nor hear of its error."""
        with self.in_hand:
            self.task = self.error = None

    def help(self) -> bool:
        """Run the task, if there is one that nobody has in hand."""
        if not self.task or not self.in_hand.acquire(blocking=False):
            return False
        try:
            return self._run()
        except Exception as error:  # noqa: BLE001 - the thread that waits raises it
            self.error = error
            return True
        finally:
            self.in_hand.release()

    def _run(self) -> bool:
        task, self.task = self.task, None
        if task:
            task()
        return task is not None


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
