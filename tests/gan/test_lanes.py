"""Do two threads do all of the work, once, and is an error of either one raised?"""

import gc
import threading
import time

import pytest

from gan.lanes import lanes_of


class Owner:
    """Whoever the helper works for."""


def test_every_task_is_done_once_by_either_thread() -> None:
    owner, done = Owner(), list[tuple[int, str]]()
    first, second = lanes_of(owner, 2, 1)

    def task(number: int) -> None:
        time.sleep(0.001)
        done.append((number, threading.current_thread().name))

    for number in range(100):
        (first, second)[number % 2].add(lambda number=number: task(number))
    first.settle()
    assert {number for number, _ in done} >= set(range(0, 100, 2))
    second.settle()
    assert sorted(number for number, _ in done) == list(range(100))
    assert {name for _, name in done} == {"lanes", "MainThread"}


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
        time.sleep(0.05)  # so that the other thread takes the next one
        if threading.current_thread().name == taken_by:
            raise ValueError("no room")

    for _ in range(4):
        lane.add(task)
    began.wait()
    with pytest.raises(ValueError, match="no room"):
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
