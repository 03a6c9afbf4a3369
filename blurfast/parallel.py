"""Spread tasks over threads that live no longer than the call.

Nothing is kept between calls, so there is nothing that a forked child could inherit broken. All calls of the process
together start no more helpers than there are processors to spare: a program that filters from eight threads
of its own does not end up with eight times as many.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

from blurfast.resources import thread_count

Task = Callable[[], None]
"""A piece of work that may run in any thread."""

_spare = threading.BoundedSemaphore(thread_count(None) - 1)


def _renew_spare() -> None:
    global _spare
    _spare = threading.BoundedSemaphore(thread_count(None) - 1)


if hasattr(os, "register_at_fork"):  # the threads that hold the places do not exist in the child
    os.register_at_fork(after_in_child=_renew_spare)


def run_all(tasks: Iterable[Task], threads: int) -> None:
    """Run tasks that release the GIL in the calling thread and up to `threads` - 1 helpers.

    The first exception of any task is raised, once all helpers have ended; tasks not yet begun are dropped.
    """
    pending = list(reversed(list(tasks)))
    failures: list[BaseException] = []

    def work() -> None:
        while not failures:
            try:
                task = pending.pop()  # atomic
            except IndexError:
                return
            try:
                task()
            except BaseException as failure:  # noqa: BLE001 - raised again in the calling thread
                failures.append(failure)

    helpers: list[threading.Thread] = []
    try:
        _start_helpers(min(threads, len(pending)) - 1, work, helpers)
        work()
    except BaseException as interrupt:
        failures.append(interrupt)  # stops the helpers, which may write into the caller's memory
        raise
    finally:
        _wait_for(helpers, failures)
    if failures:
        raise failures[0]


def _wait_for(helpers: list[threading.Thread], failures: list[BaseException]) -> None:
    """Wait until all helpers have ended, even if that is interrupted: they may write into the caller's memory."""
    for helper in helpers:
        while helper.is_alive():
            try:
                helper.join()
            except BaseException as interrupt:  # noqa: BLE001 - raised by the caller, once all have ended
                failures.append(interrupt)


def _start_helpers(count: int, work: Task, helpers: list[threading.Thread]) -> None:
    """Start up to `count` threads that `work`, as far as there are places for them, and add them to `helpers`."""
    places = _spare

    def help_out() -> None:
        try:
            work()
        finally:
            places.release()

    while len(helpers) < count and places.acquire(blocking=False):
        helper = threading.Thread(target=help_out, name="blurfast-helper")
        try:
            helper.start()
        except RuntimeError:  # the interpreter is ending, or the system has no more threads: fewer will do
            places.release()
            return
        helpers.append(helper)
