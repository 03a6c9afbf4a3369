"""From the values that a filter returns to those of another type of samples: data, no arithmetic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from blurfast.cpu.catalogue import Kernel
from blurfast.cpu.conversion import Mapping, conversion_kernel
from blurfast.dtypes import sum_dtype
from blurfast.filters import Filter
from blurfast.io.base import ImageSpec
from blurfast.io.edits import Edits, Scale


@dataclass(frozen=True)
class Conversion:
    """What becomes of each sample once it is filtered.

    Parameters
    ----------
    filtered
        What the filter returns: float32 or float64, never rounded to the type of the input.
    target
        What is stored.
    mapping
        From values to values.
    opacity
        The channel that has a mapping of its own; None without one.
    opacity_mapping
        That mapping.
    """

    filtered: np.dtype[Any]
    target: np.dtype[Any]
    mapping: Mapping = Mapping()  # noqa: RUF009 - immutable
    opacity: int | None = None
    opacity_mapping: Mapping = Mapping()  # noqa: RUF009

    @property
    def kernel(self) -> Kernel:
        """The kernel that carries it out."""
        return conversion_kernel(self.filtered, self.target)


def conversion_of(image: ImageSpec, edits: Edits) -> Conversion | None:
    """Return how an image's samples become those that are asked for; None if the filter itself writes them."""
    target = edits.dtype or image.dtype
    opacity_mapping = _mapping(image.dtype, target, "none" if edits.scale == "none" else "full")
    mapping = opacity_mapping if image.is_opacity else _mapping(image.dtype, target, edits.scale)
    filtered = sum_dtype(image.dtype, target)
    if mapping == Mapping() and (
        target == image.dtype or (target.kind == "f" and target.itemsize >= filtered.itemsize)
    ):
        return None
    has_fine_levels = target.kind in "iu" and target.itemsize == 2
    if has_fine_levels and (mapping != Mapping() or image.dtype.itemsize > 1):
        filtered = np.dtype(np.float64)  # float32 is too coarse to round to so many levels
    opacity = None if opacity_mapping == mapping else image.alpha
    return Conversion(filtered, target, mapping, opacity, opacity_mapping)


def lost_signs(filter: Filter, written: Iterable[np.dtype[Any]]) -> list[str]:
    """Tell in which types the negative results of a filter are lost, one sentence each.

    That is told where negative results are to be expected. Counting them would take a pass over the pixels that
    filters which write their results themselves do without.

    Parameters
    ----------
    written
        The types of samples that the filter itself rounds its results to.

    Examples
    --------
    >>> from blurfast.filters import Gaussian
    >>> lost_signs(Gaussian(2, order=(0, 1)), [np.dtype("uint8"), np.dtype("int16")])
    ['negative results became 0, since uint8 has none; --dtype float32 keeps them, or --scale from below 0']
    """
    if not filter.is_difference:
        return []
    return [
        f"negative results became 0, since {dtype} has none; --dtype {sum_dtype(dtype)} keeps them, or --scale from "
        "below 0"
        for dtype in dict.fromkeys(written)
        if dtype.kind in "bu"
    ]


def _mapping(source: np.dtype[Any], target: np.dtype[Any], scale: Scale) -> Mapping:
    """Return how values are mapped.

    With ``full``, zero stays zero and the largest value becomes the largest value, as in scikit-image. Signed values
    keep their sign, so that what is below zero is clipped only where the target has no such values.
    """
    if scale == "none":
        return Mapping()
    if scale == "full":
        return Mapping(factor=_largest(target) / _largest(source))
    low, high = scale
    base = 0.0 if target.kind == "f" else float(np.iinfo(target).min)
    return Mapping(low, (_largest(target) - base) / (high - low), base)


def _largest(dtype: np.dtype[Any]) -> float:
    """Return what stands for full brightness: 1 for floats, the largest value for integers."""
    return 1.0 if dtype.kind in "bf" else float(np.iinfo(dtype).max)
