"""Do two threads run every task once, and is an error of either thread raised?"""

import gc
import threading
import time

import pytest

from gan.engine.cpu.threads import SECOND_THREAD, make_task_slots


class Owner:
    """The second thread ends when this object is garbage collected."""


def test_every_task_runs_once_on_either_thread() -> None:
    owner, done = Owner(), list[tuple[int, str]]()
    slots = make_task_slots(owner, 4, 1)

    def task(number: int) -> None:
        time.sleep(0.001)
        done.append((number, threading.current_thread().name))

    for number in range(0, 100, 4):
        for index, slot in enumerate(slots):
            slot.submit(lambda number=number + index: task(number))
        for index, slot in enumerate(slots):
            slot.wait()
            assert number + index in {number for number, _ in done}
    assert sorted(number for number, _ in done) == list(range(100))
    assert {name for _, name in done} == {SECOND_THREAD, "MainThread"}


def test_the_second_thread_runs_the_most_urgent_task_first() -> None:
    owner, began, may_end, order = Owner(), threading.Event(), threading.Event(), list[str]()
    first, second, third = make_task_slots(owner, 3, 1)

    def task() -> None:
        began.set()
        may_end.wait(5)

    third.submit(task)
    assert began.wait(5)  # on the second thread
    second.submit(lambda: order.append("second"))
    first.submit(lambda: order.append("first"))
    may_end.set()
    deadline = time.monotonic() + 5
    while len(order) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert order == ["first", "second"]


def test_discard_prevents_the_start_of_a_task_and_waits_for_one_that_runs() -> None:
    owner, began, done = Owner(), threading.Event(), list[str]()
    first, second = make_task_slots(owner, 2, 1)

    def task() -> None:
        began.set()
        time.sleep(0.1)
        done.append("first")
        raise ValueError("discarded")

    first.submit(task)
    assert began.wait(5)
    second.submit(lambda: done.append("second"))
    second.discard()
    first.discard()
    assert done == ["first"]
    first.wait()
    second.wait()
    assert done == ["first"]


def test_wait_waits_for_a_task_on_the_second_thread() -> None:
    owner, began, done = Owner(), threading.Event(), threading.Event()

    def task() -> None:
        began.set()
        time.sleep(0.2)
        done.set()

    (slot,) = make_task_slots(owner, 1, 1)
    slot.submit(task)
    began.wait()
    slot.wait()
    assert done.is_set()


@pytest.mark.parametrize("thread", [SECOND_THREAD, "MainThread"])
def test_wait_raises_the_error_of_a_task(thread: str) -> None:
    owner, began = Owner(), threading.Event()
    (slot,) = make_task_slots(owner, 1, 1)

    def task() -> None:
        began.set()
        if threading.current_thread().name == thread:
            raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        for _ in range(100):  # until that thread runs the task
            slot.submit(task)
            if thread == SECOND_THREAD:
                began.wait()
            slot.wait()


def test_without_a_second_thread_a_task_runs_when_it_is_submitted() -> None:
    done: list[int] = []
    (slot,) = make_task_slots(Owner(), 1, 0)
    slot.submit(lambda: done.append(1))
    assert done == [1]


def test_the_second_thread_ends_with_its_owner() -> None:
    owner, before = Owner(), threading.enumerate()
    make_task_slots(owner, 2, 1)
    (second,) = (thread for thread in threading.enumerate() if thread not in before)
    del owner
    gc.collect()
    second.join(5)
    assert not second.is_alive()
