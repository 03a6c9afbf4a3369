"""Ends a run early but in order: on Ctrl-C, when the system asks, or when nobody reads the output any more."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_MEANINGS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
_CLEAN_UP_SECONDS = 5.0
_RETRY_SECONDS = 0.01
_LAST_SECONDS = 0.3


class Stopped(BaseException):
    """The run is to end now.

    Like `KeyboardInterrupt` it is no `Exception`, so that nothing takes it for a failure of one file.

    Parameters
    ----------
    exit_status
        Of the process: 128 and the number of the signal, as shells report it.
    reason
        For the user; None to end silently.
    """

    def __init__(self, exit_status: int, reason: str | None = None) -> None:
        self.exit_status = exit_status
        self.reason = reason
        super().__init__(reason)


def leave_soon(stop: Stopped) -> None:
    """End the process in a moment, even if threads are at work that nothing can stop.

    Until then the run may say its last words. Python itself would wait at its end for all threads, and they for all
    work that they have been given.
    """
    leaving = threading.Timer(_LAST_SECONDS, os._exit, [stop.exit_status])
    leaving.daemon = True
    leaving.start()


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Make the signals that ask a process to end raise `Stopped` inside the block.

    Signals that the process was told to ignore, as by ``nohup``, stay ignored. Once one is being obeyed, so are others:
    an impatient second Ctrl-C must not keep an unfinished output from being removed, nor the process from its exit.
    """
    previous = {number: signal.getsignal(number) for number in _catchable_signals()}
    if not previous:
        yield
        return
    last_stop = -math.inf

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal last_stop
        if time.monotonic() - last_stop >= _CLEAN_UP_SECONDS:
            last_stop = time.monotonic()
            raise Stopped(128 + number, _MEANINGS[signal.Signals(number).name])

    def try_again(swallowed: Stopped) -> None:
        nonlocal last_stop
        last_stop = -math.inf
        later = threading.Timer(_RETRY_SECONDS, signal.raise_signal, [swallowed.exit_status - 128])
        later.daemon = True
        later.start()

    try:
        for number in previous:
            signal.signal(number, stop)
        with _rescuing_swallowed(try_again):
            yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if last_stop == -math.inf else signal.SIG_IGN)


@contextmanager
def _rescuing_swallowed(rescue: Callable[[Stopped], None]) -> Iterator[None]:
    """Call `rescue` when Python swallows a `Stopped`, as it does with what is raised while an object is finalized."""
    report = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Stopped):
            rescue(unraisable.exc_value)
        else:
            report(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = report


def _catchable_signals() -> list[signal.Signals]:
    if threading.current_thread() is not threading.main_thread():
        return []  # Python lets no other thread set handlers
    numbers = [signal.Signals[name] for name in _MEANINGS if hasattr(signal, name)]  # Windows has no SIGHUP
    return [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
