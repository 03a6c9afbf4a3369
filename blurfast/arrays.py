"""The filters as functions of numpy arrays."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blurfast.boundary import Mode
from blurfast.choices import check_options
from blurfast.cpu import objects
from blurfast.dtypes import require_supported
from blurfast.engine import filter_array, filter_copied
from blurfast.filters import Convolution, Filter, Gaussian
from blurfast.io.array import ArraySink, ArraySource, describe, is_direct
from blurfast.pixels import Pixels
from blurfast.planning import plan_array, plan_stream
from blurfast.resources import Resources, thread_count
from blurfast.transforms import PlanningEffort

# Scratch memory grows with interleaved channels; more than these are filtered one by one.
_MOST_INTERLEAVED_CHANNELS = 64


def gaussian(
    image: ArrayLike,
    sigma: float | tuple[float, float],
    *,
    order: int | tuple[int, int] = 0,
    mode: Mode = "reflect",
    cval: float = 0.0,
    truncate: float | None = None,
    tolerance: float | None = None,
    channel_axis: int | None = None,
    method: str = "auto",
    backend: str = "auto",
    fft_planning: PlanningEffort = "measure",
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Blur an image with a Gaussian, or take a Gaussian derivative of it.

    Parameters
    ----------
    image : array_like, 2-D, or 3-D with `channel_axis`
        Pixels of dtype bool, uint8, uint16, uint32, int8, int16, int32, int64, float16, float32 or float64, in any
        memory order and byte order. May be empty.
    sigma
        Standard deviation in pixels, 0 to 10000: a number, or one for the vertical and one for the horizontal
        direction. 0 leaves a direction as it is.
    order
        Of the derivative, 0 (none) to 3, likewise.
    mode
        What lies beyond the edges: ``reflect`` (d c b a | a b c d | d c b a), ``mirror`` (d c b | a b c d | c b a),
        ``nearest`` (a a a | a b c d | d d d), ``wrap`` (b c d | a b c d | a b c) or ``constant`` (`cval` everywhere).
    cval
        The value beyond the edges in mode ``constant``.
    truncate
        Cut the Gaussian at this many sigmas, exactly as ``scipy.ndimage`` does.
    tolerance
        Cut the Gaussian so that no pixel is off by more than this share of the range (of an integer dtype, or of the
        image). By default a 400th of a grey level for integers, 2e-6 for float16 and float32, 1e-6 for float64.
    channel_axis
        The axis whose entries are filtered separately, such as -1 for interleaved colours.
    method
        ``auto``, ``separable``, ``multirate``, ``direct`` or ``fft``; see `convolve` for the last two.
    backend
        ``cpu``, ``cuda``, or ``cuda:1`` for the GPU with this number. ``auto`` takes a GPU where there is one and it is
        predicted to save time, with all transfers.
    fft_planning
        How long FFTW may take to plan a size of transforms when the fft method meets it first: ``estimate`` not at
        all, ``measure`` up to a second, ``patient`` up to a minute. What it learns is kept between runs.
    out
        Array of the image's shape for the result; may be `image` itself. With another dtype, the result is in that
        one: a derivative of a uint8 image, which has negative values, in a float32 array.
    threads
        Threads to use at most; by default one for each processor.

    Returns
    -------
    ndarray
        `out`, or a new C-contiguous array of the image's shape and dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or outside its range. The message names it and what is allowed.

    Notes
    -----
    Pixels of up to 16 bits and float32 are summed in float32, all others in float64. Integers are rounded half to
    even and saturate. A bool image is blurred as 0 and 1 and is True where the result is above one half. An int64
    image is exact up to 2**53. A flat image stays exactly flat, and at order 0 no result leaves the range of the
    input (of floats up to a quarter of the largest one). The result does not depend on the number of threads.

    Derivatives are of the image as `mode` extends it, also in mode ``constant``. (scipy extends the derivative with
    `cval` once more before its second pass.)

    References
    ----------
    Weights as in scipy.ndimage.gaussian_filter: samples of the Gaussian, divided by their sum.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((5, 5), dtype=np.uint8)
    >>> image[2, 2] = 100
    >>> gaussian(image, 0.8)
    array([[ 0,  1,  1,  1,  0],
           [ 1,  5, 11,  5,  1],
           [ 1, 11, 25, 11,  1],
           [ 1,  5, 11,  5,  1],
           [ 0,  1,  1,  1,  0]], dtype=uint8)
    """
    filter = Gaussian(sigma, order, truncate, tolerance)
    return apply(
        filter,
        image,
        mode=mode,
        cval=cval,
        channel_axis=channel_axis,
        method=method,
        backend=backend,
        fft_planning=fft_planning,
        out=out,
        threads=threads,
    )


def convolve(
    image: ArrayLike,
    kernel: ArrayLike,
    *,
    origin: int | tuple[int, int] = 0,
    normalize: bool = False,
    exact: bool = False,
    mode: Mode = "reflect",
    cval: float = 0.0,
    channel_axis: int | None = None,
    method: str = "auto",
    backend: str = "auto",
    fft_planning: PlanningEffort = "measure",
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Convolve an image with a kernel of any size.

    Parameters
    ----------
    image : array_like, 2-D, or 3-D with `channel_axis`
        As for `gaussian`.
    kernel : array_like, 2-D, or str
        Real weights, up to 4001 a side; or a name such as ``disk:7`` or ``motion:21,30deg``; or the path of a file.
    origin
        How many rows and columns the kernel's centre lies behind its middle, ``size // 2``, as in scipy: one number,
        or one for the rows and one for the columns.
    normalize
        Divide the weights by their sum, so that the brightness stays.
    exact
        Allow only what gives the exact sum of an integer image and integer weights.
    mode, cval, channel_axis, backend, out, threads
        As for `gaussian`.
    method
        ``auto``, ``direct`` (all taps of the kernel), ``separable`` (the kernel as a sum of up to three products of
        a column and a row, which is found by itself) or ``fft`` (transforms of tiles, multiplied by the kernel's).

    Returns
    -------
    ndarray
        `out`, or a new C-contiguous array of the image's shape and dtype. Integers are rounded half to even and
        saturate: where sums are negative or large, give an `out` of another dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or outside its range.
    UnreadableError
        If the kernel's file cannot be read.
    UnsupportedError
        If the method cannot serve, or `exact` cannot be had.

    Notes
    -----
    The kernel is flipped, as the mathematics of convolution has it; `correlate` does not flip it. Integer images and
    integer weights whose sums stay below 2**53 give the exact integer sums with the method ``direct``. NaN and
    infinite pixels reach as far as the kernel's weights that are not zero; with ``separable`` they fill its rectangle.
    The result does not depend on how the image is cut into tiles; with ``fft`` it does, by about 1e-7 of the range.

    References
    ----------
    Weights, centres and edges as in scipy.ndimage.convolve. The products: S. Treitel and J. L. Shanks, "The design of
    multistage separable planar filters", 1971.

    Examples
    --------
    A kernel whose weight is at the right moves the image to the right:

    >>> import numpy as np
    >>> image = np.array([[1, 2, 3, 4]], dtype=np.uint8)
    >>> convolve(image, [[0, 0, 1]], mode="constant")
    array([[0, 1, 2, 3]], dtype=uint8)
    >>> correlate(image, [[0, 0, 1]], mode="constant")
    array([[2, 3, 4, 0]], dtype=uint8)
    """
    filter = Convolution(kernel, origin, False, normalize, exact)
    return apply(
        filter,
        image,
        mode=mode,
        cval=cval,
        channel_axis=channel_axis,
        method=method,
        backend=backend,
        fft_planning=fft_planning,
        out=out,
        threads=threads,
    )


def correlate(
    image: ArrayLike,
    kernel: ArrayLike,
    *,
    origin: int | tuple[int, int] = 0,
    normalize: bool = False,
    exact: bool = False,
    mode: Mode = "reflect",
    cval: float = 0.0,
    channel_axis: int | None = None,
    method: str = "auto",
    backend: str = "auto",
    fft_planning: PlanningEffort = "measure",
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Correlate an image with a kernel: `convolve`, without flipping the kernel, as OpenCV's filter2D does it.

    Examples
    --------
    >>> import numpy as np
    >>> correlate(np.array([[0.0, 0.0, 1.0, 0.0]]), [[1.0, 2.0, 3.0]])
    array([[0., 3., 2., 1.]])
    """
    filter = Convolution(kernel, origin, True, normalize, exact)
    return apply(
        filter,
        image,
        mode=mode,
        cval=cval,
        channel_axis=channel_axis,
        method=method,
        backend=backend,
        fft_planning=fft_planning,
        out=out,
        threads=threads,
    )


def apply(
    filter: Filter,
    image: ArrayLike,
    *,
    mode: Mode = "reflect",
    cval: float = 0.0,
    channel_axis: int | None = None,
    method: str = "auto",
    backend: str = "auto",
    fft_planning: PlanningEffort = "measure",
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Apply a filter object, a `Gaussian` or a `Convolution`, to an image; the arguments are those of `gaussian`.

    Examples
    --------
    >>> import numpy as np
    >>> apply(Gaussian(2), np.full((3, 4), 7.5)).tolist()[0]
    [7.5, 7.5, 7.5, 7.5]
    """
    if not isinstance(filter, Gaussian | Convolution):
        raise TypeError(f"filter is {filter!r}; it must be a Gaussian or a Convolution")
    options = {"mode": mode, "cval": cval, "method": method, "backend": backend, "fft_planning": fft_planning}
    check_options(**options)
    if hasattr(image, "__cuda_array_interface__"):
        from blurfast.device_arrays import apply_on_device  # which only arrays on a GPU need

        axis = _checked_axis(channel_axis)
        result: NDArray[Any] = apply_on_device(filter, image, channel_axis=axis, out=out, options=options)
        return result
    source = _checked_image(image, channel_axis)
    target = _checked_out(out, source)
    if np.may_share_memory(source, target) and not _is_same_view(source, target):
        source = source.copy()
    count = thread_count(threads)
    if source.size == 0:
        return target
    for source_plane, target_plane in zip(_planes(source, channel_axis), _planes(target, channel_axis), strict=True):
        _filter_plane(filter, source_plane, target_plane, count, options)
    return target


def _filter_plane(filter: Filter, source: Pixels, target: Pixels, threads: int, options: dict[str, Any]) -> None:
    """Filter one array shaped (rows, columns, channels): in place, or as a stream where it must be copied anyway."""
    image = describe(source)
    plan = plan_array(filter, image, target.dtype.newbyteorder("="), threads, **options)
    objects.load(plan.kernels())
    if is_direct(source) and is_direct(target) and not np.may_share_memory(source, target):
        filter_array(plan, source, target)
        return
    sink = ArraySink(target)
    unlimited = Resources(threads, max_memory=sys.maxsize)
    plan = plan_stream(filter, image, sink.images[0], unlimited, 0, **options)
    filter_copied(plan, ArraySource(source), sink)


def _checked_image(image: ArrayLike, channel_axis: int | None) -> NDArray[Any]:
    array = np.asarray(image)
    require_supported(array.dtype, "image")
    allowed = 2 if channel_axis is None else 3
    if array.ndim != allowed:
        hint = "" if channel_axis is not None or array.ndim != 3 else "; for colours say channel_axis=-1"
        raise ValueError(f"image has {array.ndim} dimensions; it must have {allowed}{hint}")
    _checked_axis(channel_axis)
    return array


def _checked_axis(channel_axis: int | None) -> int | None:
    if channel_axis is not None:
        if isinstance(channel_axis, bool) or not isinstance(channel_axis, int | np.integer):
            raise TypeError(f"channel_axis is {channel_axis!r}; it must be an integer or None")
        if not -3 <= channel_axis < 3:
            raise ValueError(f"channel_axis is {channel_axis}; it must be from -3 to 2")
    return channel_axis


def _checked_out(out: NDArray[Any] | None, image: NDArray[Any]) -> NDArray[Any]:
    if out is None:
        return np.empty(image.shape, dtype=image.dtype.newbyteorder("="))
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is of type {type(out).__name__}; it must be a numpy array")
    require_supported(out.dtype, "out")
    if out.shape != image.shape:
        raise ValueError(f"out has the shape {out.shape}; it must have the image's, {image.shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only; it must be writeable")
    return out


def _is_same_view(left: NDArray[Any], right: NDArray[Any]) -> bool:
    """Return whether both have every pixel at the same address, so that a window can be replaced once it is read."""
    layouts = [(array.ctypes.data, array.shape, array.strides, array.dtype) for array in (left, right)]
    return layouts[0] == layouts[1]


def _planes(array: NDArray[Any], channel_axis: int | None) -> list[Pixels]:
    """Return views shaped (rows, columns, channels): one with interleaved channels, or one for each channel."""
    if channel_axis is None:
        return [array[:, :, np.newaxis]]
    last = np.moveaxis(array, channel_axis, -1)
    if channel_axis in (-1, 2) and last.shape[2] <= _MOST_INTERLEAVED_CHANNELS:
        return [last]
    return [last[:, :, channel : channel + 1] for channel in range(last.shape[2])]
