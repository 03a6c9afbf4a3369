"""Progress bars. tqdm is imported when a bar is first drawn, so programs that are not watched don't pay for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, NoReturn, Self, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

_SHAPE = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f}{unit}, {rate_noinv_fmt}, {remaining} left"


class ProgressBar:
    """A bar on stderr that appears with the first progress and leaves no trace.

    Parameters
    ----------
    label
        What is in progress.
    unit
        Such as ``"MP"``.
    scale
        How many of what is counted make one `unit`.
    visible
        Whether there is a bar at all.

    Examples
    --------
    >>> with ProgressBar("a.tif", "MP", scale=1e6, visible=False) as bar:
    ...     bar(500_000, 1_000_000)
    """

    any_drawn: ClassVar[bool] = False
    """Whether the process has drawn a bar so far."""

    def __init__(self, label: str, unit: str, *, scale: float = 1.0, visible: bool) -> None:
        self._label = label
        self._unit = unit
        self._scale = scale
        self._visible = visible
        self._started = time.time()
        self._bar: tqdm[NoReturn] | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if not self._visible:
            return
        if self._bar is None:
            self._bar = self._open(total / self._scale)
        self._bar.update(done / self._scale - self._bar.n)

    def relabel(self, label: str) -> None:
        """Tell what is in progress now."""
        self._label = label
        if self._bar is not None:
            self._bar.set_description_str(label, refresh=False)

    def _open(self, total: float) -> tqdm[NoReturn]:
        from tqdm import tqdm

        ProgressBar.any_drawn = True
        bar: tqdm[NoReturn] = tqdm(
            desc=self._label, total=total, unit=f" {self._unit}", bar_format=_SHAPE, leave=False, dynamic_ncols=True
        )
        bar.start_t = self._started  # the rate counts the time before the bar appeared
        return bar

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


class Cancelled(BaseException):
    """A file is not to be filtered to its end, since the run ends. No failure of that file, hence no `Exception`."""


class BatchProgress:
    """One bar over all files of a batch, which may be filtered at the same time, each in a thread of its own.

    It counts the bytes of the inputs, which are known from the start and tell how long the rest will take.

    Parameters
    ----------
    total
        Bytes of all inputs.
    visible
        Whether there is a bar at all.
    cancelled
        Once it is set, the next progress of any file raises `Cancelled`, which ends the work on it.

    Examples
    --------
    >>> progress = BatchProgress(6_000_000, visible=False, cancelled=threading.Event())
    >>> with progress, progress.of_file("1/2 a.tif", 4_000_000) as show:
    ...     show(500_000, 1_000_000)
    >>> progress.done
    4000000
    """

    def __init__(self, total: int, *, visible: bool, cancelled: threading.Event) -> None:
        self.done = 0
        self._total = max(total, 1)
        self._bar = ProgressBar("", "MB", scale=1e6, visible=visible)
        self._cancelled = cancelled
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def of_file(self, label: str, size: int) -> Iterator[Callable[[int, int], None]]:
        """Yield what is to be called with the pixels done and in all; afterwards the file counts as done."""
        counted = 0

        def show(done: int, total: int) -> None:
            nonlocal counted
            if self._cancelled.is_set():
                raise Cancelled
            passed = size * done // total
            self._advance(passed - counted, label)
            counted = passed

        try:
            show(0, 1)
            yield show
        finally:
            self._advance(size - counted, label)

    def _advance(self, size: int, label: str) -> None:
        with self._lock:
            self.done += size
            self._bar.relabel(label)
            self._bar(self.done, self._total)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)


@contextlib.contextmanager
def hidden_bars(stream: TextIO) -> Iterator[None]:
    """Take bars off the terminal while something is printed to `stream`, lest they mix."""
    if not ProgressBar.any_drawn:
        yield
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=stream):
        yield
