"""How exact results must be, as a function of the dtype: every comparison with an oracle takes its figures here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests import naive

SHARE_OF_ROUNDED_OTHERWISE = 1e-3
"""Of many integer pixels, how many may differ from the exact result, rounded. None by more than one level."""

LIKE_TRUNCATED = 1e-12
"""Of the range, for float64 with the Gaussian cut at the same place as the oracle's."""


LEVELS = 1 / 400 + 1e-5
"""How near to a tie, in levels, an exact result must be where a pixel is rounded the other way."""


def share_of_range(dtype: Any) -> float:
    """Return the largest error of a float pixel, as a share of the range of the image and of the weights' sum."""
    return {"float16": 5e-6, "float32": 5e-6, "float64": 1e-6}[np.dtype(dtype).name]


def spread(image: NDArray[Any], mode: str = "reflect", cval: float = 0.0) -> float:
    """Return the range of an image together with what surrounds it."""
    values = [float(image.max()), float(image.min()), *([cval] if mode == "constant" else [])]
    return max(values) - min(values)


def assert_near(result: NDArray[Any], exact: NDArray[np.float64], image_spread: float, share: float = 0.0) -> None:
    """Assert that float pixels are as near to the exact ones as their dtype demands, or within `share`."""
    allowed = (share or share_of_range(result.dtype)) * image_spread
    steps = np.spacing(np.abs(exact).astype(result.dtype)).astype(np.float64) if result.dtype == np.float16 else 0.0
    excess = np.abs(result.astype(np.float64) - exact) - 0.5001 * steps
    allowed += 4 * np.finfo(result.dtype).eps * np.abs(exact).max(initial=0.0)  # what the oracle itself is off
    assert excess.max(initial=0.0) <= allowed, f"off by {excess.max() / max(image_spread, 1e-300):.3g} of range"


def count_wrong(result: NDArray[Any], expected: NDArray[Any]) -> int:
    """Assert that integer pixels are at most one level off, and return how many are."""
    assert result.dtype == expected.dtype
    if result.dtype.kind == "b":
        return int((result != expected).sum())
    higher, lower = np.maximum(result, expected), np.minimum(result, expected)
    wrong = higher != lower
    assert ((higher[wrong] - lower[wrong]) == 1).all(), f"off by {(higher - lower).max()} levels"
    return int(wrong.sum())


def assert_exact(result: NDArray[Any], exact: NDArray[np.float64], image_spread: float) -> None:
    """Assert what holds of every pixel; how many integers may be off by one is for those tests that have many."""
    if result.dtype.kind == "f":
        assert_near(result, exact, image_spread)
    elif result.dtype.kind == "b":
        assert np.abs(exact - 0.5)[result != (exact > 0.5)].max(initial=0) <= LEVELS
    else:
        count_wrong(result, naive.as_pixels(exact, result.dtype))
