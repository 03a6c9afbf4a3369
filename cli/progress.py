"""Progress bars. tqdm is imported when a bar is first drawn, so programs that are not watched don't pay for it."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

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

    def _open(self, total: float) -> tqdm[NoReturn]:
        from tqdm import tqdm

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
