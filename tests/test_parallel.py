"""Helper threads: all tasks run, failures come through, and nothing is left behind."""

from __future__ import annotations

import threading
import time

import pytest

from blurfast import parallel
from blurfast.parallel import run_all
from blurfast.resources import thread_count


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def helpers() -> int:
    return sum(thread.name.startswith("blurfast") for thread in threading.enumerate())


def places_left() -> int:
    count = 0
    while parallel._spare.acquire(blocking=False):
        count += 1
    for _ in range(count):
        parallel._spare.release()
    return count


@pytest.mark.parametrize("threads", [1, 2, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 500])
def test_every_task_runs_once(count, threads):
    done = []
    run_all([lambda number=number: done.append(number) for number in range(count)], threads)
    assert sorted(done) == list(range(count))


def test_one_thread_is_the_callers():
    seen = []
    run_all([lambda: seen.append(threading.get_ident())] * 5, 1)
    assert set(seen) == {threading.get_ident()}
    assert len(seen) == 5


def test_tasks_of_a_single_thread_run_in_order():
    done = []
    run_all((lambda number=number: done.append(number) for number in range(20)), 1)
    assert done == list(range(20))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_failure_is_raised_and_the_rest_dropped(threads, error):
    done = []

    def fail():
        raise error("no")

    def slow():
        time.sleep(0.002)
        done.append(1)

    before = places_left()
    with pytest.raises(error, match="no"):
        run_all([slow, fail] + [slow] * 500, threads)
    assert len(done) < 20
    assert places_left() == before


def test_all_calls_together_start_no_more_helpers_than_processors_to_spare():
    most = []

    def task():
        most.append(helpers())
        time.sleep(0.005)

    callers = [threading.Thread(target=run_all, args=([task] * 20, 8), name="caller") for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(most) == 120
    assert max(most) <= max(1, thread_count(None) - 1)


def test_nested_calls_do_not_wait_for_each_other():
    done = []
    run_all([lambda: run_all([lambda: done.append(1)] * 3, 3)] * 3, 3)
    assert len(done) == 9


def test_places_are_given_back():
    before = places_left()
    for _ in range(50):
        run_all([lambda: None] * 4, 4)
    assert places_left() == before


def test_a_thread_that_cannot_start_gives_its_place_back(monkeypatch):
    before = places_left()

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(parallel.threading.Thread, "start", refuse)
    done = []
    try:
        run_all([lambda: done.append(1)] * 4, 4)
    except RuntimeError:
        done = None
    monkeypatch.undo()
    assert places_left() == before
    assert done is None or len(done) == 4
