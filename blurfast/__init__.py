"""blurfast: fast, exact image filtering for arrays in memory and files of any size.

The names below are imported when they are first used, so that ``import blurfast`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from blurfast._version import __version__

if TYPE_CHECKING:
    from blurfast.arrays import apply, convolve, correlate, gaussian
    from blurfast.errors import (
        BlurfastError,
        MemoryBudgetError,
        MisplacedError,
        OutputExistsError,
        UnreadableError,
        UnsupportedError,
        UnwritableError,
    )
    from blurfast.files import FileReport, filter_file, plan_file
    from blurfast.filters import Convolution, Gaussian

_HOMES = {
    "apply": "arrays",
    "convolve": "arrays",
    "correlate": "arrays",
    "gaussian": "arrays",
    "filter_file": "files",
    "plan_file": "files",
    "FileReport": "files",
    "Convolution": "filters",
    "Gaussian": "filters",
    "BlurfastError": "errors",
    "MemoryBudgetError": "errors",
    "MisplacedError": "errors",
    "OutputExistsError": "errors",
    "UnreadableError": "errors",
    "UnsupportedError": "errors",
    "UnwritableError": "errors",
}

__all__ = [
    "BlurfastError",
    "Convolution",
    "FileReport",
    "Gaussian",
    "MemoryBudgetError",
    "MisplacedError",
    "OutputExistsError",
    "UnreadableError",
    "UnsupportedError",
    "UnwritableError",
    "__version__",
    "apply",
    "convolve",
    "correlate",
    "filter_file",
    "gaussian",
    "plan_file",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'blurfast' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"blurfast.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
