"""Windows of a region, and samples of another type than the filter returns."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator

import numpy as np

from blurfast.conversion import Conversion
from blurfast.cpu.conversion import Losses, convert
from blurfast.parallel import Task
from blurfast.pixels import Pixels, Window
from blurfast.planning import Plan
from blurfast.regions import even_window
from blurfast.window_filter import RowTranslation, WindowFilter

_TASK_SAMPLES = 1 << 18


class LossCounter:
    """Adds up what is lost in conversions, in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._losses: dict[np.dtype[np.generic], Losses] = {}

    def add(self, conversion: Conversion, losses: Losses) -> None:
        """Count what one piece of an image has lost."""
        with self._lock:
            before = self._losses.get(conversion.target, Losses(0, 0))
            total = Losses(before.outside + losses.outside, before.undefined + losses.undefined)
            self._losses[conversion.target] = total

    @property
    def notices(self) -> list[str]:
        """What was lost, one sentence each.

        Examples
        --------
        >>> counter = LossCounter()
        >>> counter.add(Conversion(np.dtype("float32"), np.dtype("uint8")), Losses(12345, 1))
        >>> counter.notices
        ['12,345 samples lay outside the range of uint8 and were clipped', '1 sample was not a number and became 0']
        """
        notices = []
        for dtype, (outside, undefined) in self._losses.items():
            fate = "became infinite" if dtype.kind == "f" else "was clipped" if outside == 1 else "were clipped"
            if outside:
                notices.append(f"{_samples(outside)} lay outside the range of {dtype} and {fate}")
            if undefined:
                notices.append(f"{_samples(undefined)} {'was' if undefined == 1 else 'were'} not a number and became 0")
        return notices


def _samples(count: int) -> str:
    return f"{count:,} sample{'s' * (count != 1)}"


class EditingFilter:
    """Filters windows of a region into memory of its own, and writes what is asked for of them.

    Parameters
    ----------
    plan
        With a region or a conversion.
    window_filter
        Filters windows that begin at even rows and columns; it is closed together with this.
    counter
        Is told what the conversion loses.
    """

    def __init__(self, plan: Plan, window_filter: WindowFilter, counter: LossCounter) -> None:
        self._filter = window_filter
        self._counter = counter
        self._image, self._conversion = plan.image, plan.conversion
        rows, columns = plan.computed_size
        self._memory = np.empty(rows * columns * plan.image.channels, dtype=plan.job.target_dtype)

    def stages(
        self, window: Window, pixels: Pixels, first_column: int, rows: RowTranslation, target: Pixels
    ) -> Iterator[list[Task]]:
        """See `WindowFilter.stages`; `window` may begin anywhere."""
        computed = even_window(window, self._image)
        shape = (computed.rows, computed.columns, self._image.channels)
        filtered = self._memory[: shape[0] * shape[1] * shape[2]].reshape(shape)
        yield from self._filter.stages(computed, pixels, first_column, rows, filtered)
        top, left = window.row_start - computed.row_start, window.column_start - computed.column_start
        wanted = filtered[top : top + window.rows, left : left + window.columns]
        step = max(1, _TASK_SAMPLES // (window.columns * self._image.channels))
        yield [
            functools.partial(self._write, wanted[row : row + step], target[row : row + step])
            for row in range(0, window.rows, step)
        ]

    def close(self) -> None:
        """See `WindowFilter.close`."""
        self._filter.close()

    def _write(self, filtered: Pixels, target: Pixels) -> None:
        conversion = self._conversion
        if conversion is None:
            np.copyto(target, filtered)
            return
        if conversion.opacity is None:
            self._counter.add(conversion, convert(filtered, target, conversion.mapping))
            return
        for channel in range(self._image.channels):
            mapping = conversion.opacity_mapping if channel == conversion.opacity else conversion.mapping
            self._counter.add(conversion, convert(filtered, target, mapping, channel))
