"""The FFT method on the CPU: overlap-save, one padded tile at a time, through FFTW.

The sizes are in `blurfast.transforms`; planning is in `wisdom`, and what becomes of NaN and infinite pixels in
`nonfinite`.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.boundary import IndexMap, Mode
from blurfast.cpu.nonfinite import Contributions
from blurfast.cpu.panels import PanelColumns, Panels, padded_sources
from blurfast.cpu.wisdom import aligned_empty, plan_transforms
from blurfast.pixels import Pixels
from blurfast.rounding import exact_gain
from blurfast.transforms import PlanningEffort, Transform, kernel_spectrum
from blurfast.weights import Kernel2D

_MOST_SPECTRA_BYTES = 64 * 1024 * 1024
_SAMPLE_STEP = 16
_LARGEST_INTEGER = 2.0**64


class FftWorkspace:
    """The buffers of one thread, and FFTW's transforms between them."""

    def __init__(self, transform: Transform, effort: PlanningEffort) -> None:
        shape = transform.rows, transform.columns
        real = np.dtype(f"float{8 * transform.itemsize}")
        # A row more, since the kernels that look a tile over read whole registers.
        self.tile = aligned_empty((shape[0] + 1, shape[1]), real)[: shape[0]]
        self.spectrum = aligned_empty((shape[0], shape[1] // 2 + 1), np.result_type(real, np.complex64))
        self.forward, self.backward = plan_transforms(self.tile, self.spectrum, effort)


class FftOperator:
    """Correlate with a 2-D kernel.

    Parameters
    ----------
    kernel
        The weights.
    transform
        The size; tiles are at most `Transform.tile`.
    pixel_dtype, target_dtype
        Of the pixels that are read and of those that are written.
    sums
        float32 or float64: the precision of the arithmetic, and of the transform.
    channels
        Interleaved channels, each filtered by itself.
    mode, cval
        What lies outside the image.
    alpha
        The channel that the others are weighted by, or None.
    effort
        How much time FFTW may take to plan: see `wisdom.plan_transforms`.
    """

    def __init__(
        self,
        kernel: Kernel2D,
        transform: Transform,
        *,
        pixel_dtype: np.dtype[Any],
        target_dtype: np.dtype[Any],
        sums: np.dtype[Any],
        channels: int,
        mode: Mode = "reflect",
        cval: float = 0.0,
        alpha: int | None = None,
        effort: PlanningEffort = "measure",
    ) -> None:
        weights = kernel.weights
        self._anchor = kernel.anchor
        self._transform = transform
        self._channels = channels
        self._mode = mode
        self._effort = effort
        self._panels = Panels(
            pixel_dtype=pixel_dtype, target_dtype=target_dtype, sums=sums, channels=channels, alpha=alpha, cval=cval
        )
        self._gain = sums.type(exact_gain(weights))
        self._is_float = pixel_dtype.kind == "f" or not abs(cval) <= _LARGEST_INTEGER
        # No sum of a transform overflows below.
        self._largest_moderate = float(np.finfo(sums).max) / (4 * transform.points * max(1.0, np.abs(weights).sum()))
        self._spectrum = kept_spectrum(weights, transform)
        self._contributions = Contributions(weights, transform)

    @property
    def tile_rows(self) -> int:
        """Rows of a tile."""
        return self._transform.tile[0]

    def plan_columns(self, column_start: int, column_stop: int, width: int) -> PanelColumns:
        """Prepare the columns of the tiles that span `column_start` to `column_stop`."""
        sources = padded_sources(
            column_start, column_stop, self._anchor[1], self._transform.kernel_columns, width, self._mode
        )
        return PanelColumns.of_sources(column_start, column_stop, sources)

    def row_map(self, row_start: int, row_stop: int, height: int) -> IndexMap:
        """Return the source rows that the results from `row_start` to `row_stop` depend on."""
        return padded_sources(row_start, row_stop, self._anchor[0], self._transform.kernel_rows, height, self._mode)

    def workspace(self, tile_columns: int) -> FftWorkspace:
        """Return the buffers for one thread."""
        return FftWorkspace(self._transform, self._effort)

    def __call__(
        self,
        pixels: Pixels,
        row_map: IndexMap,
        row_start: int,
        columns: PanelColumns,
        first_column: int,
        target: Pixels,
        workspace: FftWorkspace,
    ) -> None:
        """Filter one tile; the arguments are those of `separable.SeparableOperator`."""
        tile = workspace.tile
        used = tile[: row_map.size, : columns.count * self._channels]
        tile[row_map.size :] = 0
        tile[:, used.shape[1] :] = 0
        self._panels.pack(pixels, row_map, columns, first_column, tile)
        pixels_used = used.reshape(row_map.size, columns.count, self._channels)
        references = _references(pixels_used)
        # Transforms round relative to the largest element, so it pays that flat parts are zeros; and they stay exact.
        with np.errstate(invalid="ignore", over="ignore"):  # what comes of infinite pixels is replaced
            largest = max(float(used.max()), -float(used.min()))
            if self._is_float and not largest < self._largest_moderate:
                self._filter_extreme(pixels_used, references, workspace, target.shape)
            else:
                used -= np.tile(references, columns.count)
                self._transform_tile(workspace)
                tile[: target.shape[0], : used.shape[1]] += np.tile(self._gain * references, columns.count)
        self._panels.finish(tile[np.newaxis], target)

    def _transform_tile(self, workspace: FftWorkspace) -> None:
        """Replace the tile by its correlation with the kernel."""
        workspace.forward.execute()
        np.multiply(workspace.spectrum, self._spectrum, out=workspace.spectrum)
        workspace.backward.execute()

    def _results(self, workspace: FftWorkspace, shape: tuple[int, ...]) -> Pixels:
        """Return the part of the tile that holds results."""
        rows, columns, channels = shape
        return workspace.tile[:rows, : columns * channels].reshape(shape)

    def _filter_extreme(
        self, pixels: Pixels, references: NDArray[Any], workspace: FftWorkspace, shape: tuple[int, ...]
    ) -> None:
        """Filter a tile with NaN, infinite or huge pixels: the first two apart, the last ones scaled down."""
        rows, columns, channels = shape
        special = self._contributions.of(pixels.reshape(pixels.shape[0], -1))[:rows, : columns * channels]
        np.copyto(pixels, references, where=~np.isfinite(pixels))
        largest = max(float(pixels.max()), -float(pixels.min()), self._largest_moderate)
        down = np.ldexp(pixels.dtype.type(1), -math.ceil(math.log2(largest / self._largest_moderate)))
        pixels *= down
        references = references * down
        pixels -= references
        self._transform_tile(workspace)
        results = self._results(workspace, shape)
        results += self._gain * references
        results /= down
        special = special.reshape(shape)
        np.copyto(results, special, where=special != 0)


def _references(pixels: Pixels) -> NDArray[Any]:
    """Return a value that is typical of each channel of a tile, and the very value where it is flat."""
    sample = pixels[::_SAMPLE_STEP, ::_SAMPLE_STEP].reshape(-1, pixels.shape[2])
    middle = np.sort(sample, axis=0)[len(sample) // 2]
    return np.where(np.isfinite(middle), middle, 0).astype(pixels.dtype)


_spectra: OrderedDict[tuple[bytes, Transform], NDArray[Any]] = OrderedDict()
_spectra_lock = threading.Lock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_spectra_lock.acquire, after_in_parent=_spectra_lock.release, after_in_child=_spectra_lock.release
    )


def kept_spectrum(weights: NDArray[np.float64], transform: Transform) -> NDArray[Any]:
    """Return `transforms.kernel_spectrum`, which is kept for further images."""
    key = hashlib.sha256(weights.tobytes()).digest(), transform
    with _spectra_lock:
        if key in _spectra:
            _spectra.move_to_end(key)
            return _spectra[key]
    spectrum = kernel_spectrum(weights, transform)
    spectrum.flags.writeable = False  # it is shared
    with _spectra_lock:
        _spectra[key] = spectrum
        while sum(kept.nbytes for kept in _spectra.values()) > _MOST_SPECTRA_BYTES and len(_spectra) > 1:
            _spectra.popitem(last=False)
    return spectrum
