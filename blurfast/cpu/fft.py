"""The FFT method on the CPU: overlap-save, one padded tile at a time, through FFTW.

The sizes are in `blurfast.transforms`; planning is in `wisdom`, and what becomes of NaN and infinite pixels in
`nonfinite`.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.boundary import IndexMap, Mode, index_map
from blurfast.cpu.nonfinite import Contributions
from blurfast.cpu.panels import PanelColumns, Panels
from blurfast.cpu.separable import exact_gain
from blurfast.cpu.wisdom import Effort, aligned_empty, plan_transforms
from blurfast.pixels import Pixels
from blurfast.transforms import Transform
from blurfast.weights import Kernel2D

_MOST_SPECTRA_BYTES = 256 * 1024 * 1024
_SAMPLE_STEP = 16


class FftWorkspace:
    """The buffers of one thread, and FFTW's transforms between them."""

    def __init__(self, transform: Transform, effort: Effort) -> None:
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
        effort: Effort = "measure",
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
        self._gain = exact_gain(weights)
        self._spectrum = kernel_spectrum(weights, transform)
        self._contributions = Contributions(weights, transform)

    @property
    def tile_rows(self) -> int:
        """Rows of a tile."""
        return self._transform.tile[0]

    def plan_columns(self, column_start: int, column_stop: int, width: int) -> PanelColumns:
        """Prepare the columns of the tiles that span `column_start` to `column_stop`."""
        first = column_start - self._anchor[1]
        last = first + column_stop - column_start + self._transform.kernel_columns - 1
        return PanelColumns.of_sources(column_start, column_stop, index_map(first, last, width, self._mode))

    def row_map(self, row_start: int, row_stop: int, height: int) -> IndexMap:
        """Return the source rows that the results from `row_start` to `row_stop` depend on."""
        first = row_start - self._anchor[0]
        last = first + row_stop - row_start + self._transform.kernel_rows - 1
        return index_map(first, last, height, self._mode)

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
        is_extreme = self._panels.pack(pixels, row_map, columns, first_column, tile)
        reference = _reference(used)
        if is_extreme:
            self._filter_extreme(used, reference, workspace)
        else:
            # Transforms round relative to the largest element, so it pays that flat parts are zeros; exact ones.
            used -= reference
            self._transform_tile(workspace)
        self._panels.finish(tile[np.newaxis], float(self._gain * reference), target)

    def _transform_tile(self, workspace: FftWorkspace) -> None:
        """Replace the tile by its correlation with the kernel."""
        workspace.forward.execute()
        np.multiply(workspace.spectrum, self._spectrum, out=workspace.spectrum)
        workspace.backward.execute()

    def _filter_extreme(self, used: NDArray[Any], reference: Any, workspace: FftWorkspace) -> None:
        """Filter a tile with NaN, infinite or huge pixels: the first two apart, and the last ones scaled down."""
        special = self._contributions.of(used)
        used[~np.isfinite(used)] = reference
        down = np.ldexp(used.dtype.type(1), np.finfo(used.dtype).minexp)
        used *= down
        used -= reference * down
        self._transform_tile(workspace)
        with np.errstate(over="ignore"):  # a result that is too large is infinite
            workspace.tile /= down
        np.copyto(workspace.tile, special, where=special != 0)


def _reference(tile: NDArray[Any]) -> Any:
    """Return a value that is typical of a tile, and the very value of a flat one."""
    sample = tile[::_SAMPLE_STEP, ::_SAMPLE_STEP]
    finite = sample[np.isfinite(sample)]
    if finite.size == 0:
        return tile.dtype.type(0)
    middle = np.partition(finite, finite.size // 2)[finite.size // 2]
    return tile.dtype.type(middle)


_spectra: OrderedDict[tuple[bytes, Transform], NDArray[Any]] = OrderedDict()
_spectra_lock = threading.Lock()


def kernel_spectrum(weights: NDArray[np.float64], transform: Transform) -> NDArray[Any]:
    """Return the spectrum that a tile's is multiplied by, which is kept for further images.

    It is conjugated, which makes a correlation of the product, and divided by the number of points, which FFTW
    leaves to its caller.
    """
    key = hashlib.sha256(weights.tobytes()).digest(), transform
    with _spectra_lock:
        if key in _spectra:
            _spectra.move_to_end(key)
            return _spectra[key]
    spread = np.zeros((transform.rows, transform.columns))
    rows, columns = weights.shape
    spread[:rows, : columns * transform.channels : transform.channels] = weights
    complex_dtype = np.complex64 if transform.itemsize == 4 else np.complex128
    spectrum = (np.fft.rfft2(spread).conj() / transform.points).astype(complex_dtype)
    spectrum.flags.writeable = False  # it is shared
    with _spectra_lock:
        _spectra[key] = spectrum
        while sum(kept.nbytes for kept in _spectra.values()) > _MOST_SPECTRA_BYTES and len(_spectra) > 1:
            _spectra.popitem(last=False)
    return spectrum
