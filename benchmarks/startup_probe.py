"""The command line with a stopwatch: ``python -m benchmarks.startup_probe gaussian in.png out.png --sigma 5``.

Runs the command as it is, and prints as JSON when this program began, when the command had ended, and the seconds in
between that each part took. `benchmarks.startup` says what the parts are.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

_IMPORTED_BY_THE_COMMAND = (
    "blurfast_cli.main",
    "blurfast_cli.filters",
    "blurfast.files",
    "blurfast.cpu.objects",
    "blurfast.io.png_source",
    "blurfast.io.png_sink",
)

IMPORTS = "imports"
PLAN = "parse and plan"
KERNELS = "kernel load"
THREADS = "thread start"
DECODE = "decode"
WORK = "work"
WRITE = "encode and write"


class Stopwatch:
    """Tells how the main thread's time divides into parts, one of which may interrupt another."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._parts: list[str] = []
        self._since = 0.0

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call`, which from now on counts for `part` in the main thread, and not for what it interrupts."""

        def run(*arguments: Any, **options: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return call(*arguments, **options)
            self._settle()
            self._parts.append(part)
            try:
                return call(*arguments, **options)
            finally:
                self._settle()
                self._parts.pop()

        return run

    def awaited(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call`, which counts for `part` in whichever thread; the main one waits for it, in `WORK`."""

        def run(*arguments: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                elapsed = time.perf_counter() - started
                self.seconds[part] += elapsed
                self.seconds[WORK] -= elapsed

        return run

    def awaited_tasks(self, part: str, hand_out: Callable[..., Any]) -> Callable[..., Any]:
        """Return `hand_out`, whose tasks count for `part` when they run."""
        return lambda *arguments: [self.awaited(part, task) for task in hand_out(*arguments)]

    def _settle(self) -> None:
        """Credit the time since the last change to the part that is running."""
        now = time.perf_counter()
        if self._parts:
            self.seconds[self._parts[-1]] += now - self._since
        self._since = now


def main(arguments: list[str]) -> int:
    """Run a command and print the times; return the command's exit status."""
    began = time.perf_counter()
    stopwatch = Stopwatch()
    for module in _IMPORTED_BY_THE_COMMAND:
        stopwatch.timed(IMPORTS, importlib.import_module)(module)
    _watch(stopwatch)

    import json

    from blurfast_cli.main import main as command_line

    status: int = stopwatch.timed(PLAN, command_line)(arguments)
    print(json.dumps({"began": began, "seconds": stopwatch.seconds, "ended": time.perf_counter()}), flush=True)
    return status


def _watch(stopwatch: Stopwatch) -> None:
    """Put the stopwatch around the functions that the parts consist of."""
    files: Any = importlib.import_module("blurfast.files")
    objects = importlib.import_module("blurfast.cpu.objects")
    open_source, open_sink = files.open_source, files.open_sink

    def open_watched_source(*arguments: Any, **options: Any) -> Any:
        source: Any = open_source(*arguments, **options)
        source.read_tasks = stopwatch.awaited_tasks(DECODE, source.read_tasks)
        return source

    def open_watched_sink(*arguments: Any, **options: Any) -> Any:
        sink: Any = open_sink(*arguments, **options)
        sink.encode_tasks = stopwatch.awaited_tasks(WRITE, sink.encode_tasks)
        sink.append = stopwatch.awaited(WRITE, sink.append)
        sink.commit = stopwatch.timed(WRITE, sink.commit)
        return sink

    replacements: list[tuple[Any, str, Callable[..., Any]]] = [
        (files, "open_source", open_watched_source),
        (files, "open_sink", stopwatch.timed(WRITE, open_watched_sink)),
        (files, "filter_stream", stopwatch.timed(WORK, files.filter_stream)),
        (objects, "load", stopwatch.timed(KERNELS, objects.load)),
        (threading.Thread, "start", stopwatch.timed(THREADS, threading.Thread.start)),
    ]
    for owner, name, replacement in replacements:
        setattr(owner, name, replacement)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
