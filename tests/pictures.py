"""Images to filter: seeded noise, an impulse, and the hardest edges, over the range of any dtype."""

from __future__ import annotations

import numpy as np

INTEGERS = ["uint8", "uint16", "int8", "int16", "int32", "uint32", "int64"]
FLOATS = ["float16", "float32", "float64"]
DTYPES = ["bool", *INTEGERS, *FLOATS]


def pixel_range(dtype: str) -> tuple[float, float]:
    """Return the range that test images span: all of the dtype, where float64 can hold it."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        return -100.0, 155.0
    if kind == "b":
        return 0, 1
    if dtype == "int64":
        return -(2**40), 2**40 - 1
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def noise(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> np.ndarray:
    low, high = pixel_range(dtype)
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return generator.uniform(low, high, shape).astype(dtype)
    return generator.integers(int(low), int(high), shape, endpoint=True).astype(dtype)


def impulse(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    image = np.full(shape, pixel_range(dtype)[0], dtype=dtype)
    image[shape[0] // 3, shape[1] // 2] = pixel_range(dtype)[1]
    return image


def checker(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return squares of 5 x 5 pixels with the hardest edges that the dtype has.

    The mean of the two integers is one too: half a level would be a tie, which any rounding error decides.
    """
    rows, columns = np.indices(shape) // 5
    low, high = pixel_range(dtype)
    return np.where((rows + columns) % 2, low, high - (dtype in INTEGERS)).astype(dtype)


PICTURES = {"noise": noise, "impulse": impulse, "checker": checker}
