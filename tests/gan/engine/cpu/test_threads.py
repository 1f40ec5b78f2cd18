"""Do two threads do all of the work, once, and is an error of either one raised?"""

import gc
import threading
import time

import pytest

from gan.engine.cpu.threads import lanes_of


class Owner:
    """Whoever the helper works for."""


def test_every_task_is_done_once_by_either_thread() -> None:
    owner, done = Owner(), list[tuple[int, str]]()
    lanes = lanes_of(owner, 4, 1)

    def task(number: int) -> None:
        time.sleep(0.001)
        done.append((number, threading.current_thread().name))

    for number in range(0, 100, 4):
        for place, lane in enumerate(lanes):
            lane.add(lambda number=number + place: task(number))
        for place, lane in enumerate(lanes):
            lane.settle()
            assert number + place in {number for number, _ in done}
    assert sorted(number for number, _ in done) == list(range(100))
    assert {name for _, name in done} == {"lanes", "MainThread"}


def test_the_helper_takes_the_most_urgent_task_first() -> None:
    owner, began, may_end, order = Owner(), threading.Event(), threading.Event(), list[str]()
    first, second, third = lanes_of(owner, 3, 1)

    def task() -> None:
        began.set()
        may_end.wait(5)

    third.add(task)
    assert began.wait(5)  # the helper has it in hand
    second.add(lambda: order.append("second"))
    first.add(lambda: order.append("first"))
    may_end.set()
    deadline = time.monotonic() + 5
    while len(order) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert order == ["first", "second"]


def test_what_is_dropped_is_not_begun_and_what_is_in_hand_is_waited_for() -> None:
    owner, began, done = Owner(), threading.Event(), list[str]()
    first, second = lanes_of(owner, 2, 1)

    def task() -> None:
        began.set()
        time.sleep(0.1)
        done.append("first")
        raise ValueError("nobody hears of it")

    first.add(task)
    assert began.wait(5)
    second.add(lambda: done.append("second"))
    second.drop()
    first.drop()
    assert done == ["first"]
    first.settle()
    second.settle()
    assert done == ["first"]


def test_settling_waits_for_what_the_helper_has_in_hand() -> None:
    owner, began, done = Owner(), threading.Event(), threading.Event()

    def task() -> None:
        began.set()
        time.sleep(0.2)
        done.set()

    (lane,) = lanes_of(owner, 1, 1)
    lane.add(task)
    began.wait()
    lane.settle()
    assert done.is_set()


@pytest.mark.parametrize("taken_by", ["lanes", "MainThread"])
def test_an_error_in_a_task_is_raised_where_its_end_is_waited_for(taken_by: str) -> None:
    owner, began = Owner(), threading.Event()
    (lane,) = lanes_of(owner, 1, 1)

    def task() -> None:
        began.set()
        if threading.current_thread().name == taken_by:
            raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        for _ in range(100):  # until it was that thread's turn
            lane.add(task)
            if taken_by == "lanes":
                began.wait()
            lane.settle()


def test_without_a_helper_a_task_is_done_when_it_is_added() -> None:
    done: list[int] = []
    (lane,) = lanes_of(Owner(), 1, 0)
    lane.add(lambda: done.append(1))
    assert done == [1]


def test_the_helper_ends_with_its_owner() -> None:
    owner, before = Owner(), threading.enumerate()
    lanes_of(owner, 2, 1)
    (helper,) = (thread for thread in threading.enumerate() if thread not in before)
    del owner
    gc.collect()
    helper.join(5)
    assert not helper.is_alive()
