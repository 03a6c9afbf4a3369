"""Which types of pixels there are, in what precision they are summed, and how exact a result is unless told."""

from __future__ import annotations

from typing import Any

import numpy as np

FLOAT32_SUMS = ("bool", "uint8", "int8", "uint16", "int16", "float16", "float32")
FLOAT64_SUMS = ("int32", "uint32", "int64", "float64")
SUPPORTED = (*FLOAT32_SUMS, *FLOAT64_SUMS)


def require_supported(dtype: np.dtype[Any], argument: str) -> None:
    """Raise a TypeError that names `argument` unless arrays of `dtype` can be filtered."""
    if dtype.name not in SUPPORTED:
        allowed = ", ".join(sorted(SUPPORTED))
        raise TypeError(f"{argument} has the dtype {dtype}, which cannot be filtered; allowed are {allowed}")


def sum_dtype(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """Return the precision of the sums over pixels of these dtypes.

    Examples
    --------
    >>> sum_dtype(np.dtype("uint16"))
    dtype('float32')
    >>> sum_dtype(np.dtype("uint8"), np.dtype("float64"))
    dtype('float64')
    """
    return np.dtype(np.float64 if any(dtype.name in FLOAT64_SUMS for dtype in dtypes) else np.float32)


def default_tolerance(dtype: np.dtype[Any]) -> float:
    """Return the largest error that cutting off a filter's tails may cause, as a share of the pixels' range.

    For integers it is a 400th of a grey level, and the range is the dtype's: small enough that of the rounded
    pixels less than one in a thousand differs from the exact result. For `float32` it is 2e-6, for `float64` 1e-6
    of the range of the image.
    """
    if dtype.kind == "f":
        return 1e-6 if dtype.itemsize == 8 else 2e-6
    levels = 1 if dtype.kind == "b" else 2 ** (8 * dtype.itemsize) - 1
    return 1 / 400 / levels
