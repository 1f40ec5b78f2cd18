"""How do two threads share the work of a step?

Most operations of a step are too small to be spread over cores. So each thread does whole operations: the main thread
goes forward and backward, and submits each parameter update as a task; a second thread runs the tasks. When the main
thread needs the result of a task that nobody has started, it runs that task itself.

Which thread runs a task changes no bit: a task reads and writes the same memory in the same order on either thread,
and both threads use the same number of cores in each operation. docs/engine.md shows the order of a step's tasks.
"""

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

import torch

Task = Callable[[], None]
SECOND_THREAD = "gan-second"  # the second thread's name, in debuggers and tests


class TaskSlot:
    """Hold one task until one of two threads runs it."""

    def __init__(self, submitted: SimpleQueue[bool] | None) -> None:
        """Wake the second thread by an entry in `submitted`; with None, `submit` runs the task at once."""
        self.submitted = submitted
        self._task: Task | None = None
        self._error: Exception | None = None  # that the task raised on the second thread
        self._running = threading.Lock()  # held by the thread that runs the task

    def submit(self, task: Task) -> None:
        """Make `task` ready to run. Call `wait` for the slot's previous task first."""
        if self.submitted is None:
            task()
            return
        with self._running:
            self._task = task
        self.submitted.put(True)

    def wait(self) -> None:
        """Return when the task is done. Run it here if no thread has started it. Raises the task's exception."""
        with self._running:
            self._run()
            error, self._error = self._error, None
        if error:
            raise error

    def discard(self) -> None:
        """Forget the task and its error. Return when no thread is running it."""
        with self._running:
            self._task = self._error = None

    def run_if_ready(self) -> bool:
        """Run the task on the second thread, unless there is none or the main thread is running it."""
        if not self._task or not self._running.acquire(blocking=False):
            return False
        try:
            return self._run()
        except Exception as error:  # noqa: BLE001 - `wait` raises it on the main thread
            self._error = error
            return True
        finally:
            self._running.release()

    def _run(self) -> bool:
        task, self._task = self._task, None
        if task:
            task()
        return task is not None


def make_task_slots(owner: object, count: int, num_threads: int) -> list[TaskSlot]:
    """Return `count` slots, the most urgent first, and start a second thread that runs their tasks.

    The second thread uses `num_threads` cores in an operation and ends when `owner` is garbage collected.
    With `num_threads` of 0 there is no second thread: a task runs when it is submitted.
    """
    if num_threads == 0:
        return [TaskSlot(None) for _ in range(count)]
    submitted: SimpleQueue[bool] = SimpleQueue()
    slots = [TaskSlot(submitted) for _ in range(count)]
    threading.Thread(target=_run_tasks, args=(submitted, slots, num_threads), name=SECOND_THREAD, daemon=True).start()
    weakref.finalize(owner, submitted.put, False)  # False ends the thread
    return slots


def _run_tasks(submitted: SimpleQueue[bool], slots: list[TaskSlot], num_threads: int) -> None:
    torch.set_num_threads(num_threads)  # of this thread alone
    torch.set_grad_enabled(False)
    while submitted.get():
        any(slot.run_if_ready() for slot in slots)  # the first that is ready
