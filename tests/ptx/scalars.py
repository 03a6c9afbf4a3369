"""The types of PTX, and the dtypes of the arrays that hold their values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Value = NDArray[Any]
"""What the active threads hold: one element for each of them, or a single one where they all hold the same."""

DTYPES = {
    "pred": np.dtype(np.bool_),
    **{f"{kind}{bits}": np.dtype(f"uint{bits}") for kind in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"f{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "f16x2": np.dtype(np.uint32),
}

UNSIGNED = {size: np.dtype(f"uint{8 * size}") for size in (1, 2, 4, 8)}
"""By size in bytes."""

SIGNED = {size: np.dtype(f"int{8 * size}") for size in (1, 2, 4, 8)}


def reinterpret(value: Value, dtype: np.dtype) -> Value:
    """Return the same bits as another dtype of the same size."""
    return value if value.dtype is dtype else value.view(dtype)


def low_part(value: Value, dtype: np.dtype) -> Value:
    """Return the low bits of a value as a smaller dtype."""
    return value.view(UNSIGNED[value.itemsize]).astype(UNSIGNED[dtype.itemsize]).view(dtype)


def extended(value: Value, size: int) -> Value:
    """Return a value in `size` bytes, the new bits copies of the sign where the type has one."""
    if value.itemsize == size:
        return value
    return value.astype(SIGNED[size] if value.dtype.kind == "i" else UNSIGNED[size])
