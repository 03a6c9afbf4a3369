"""A case that is ready to be timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from blurfast.bench.cases import Case
from blurfast.bench.ideal import Edges

Run = Callable[[], Any]
"""Filters once. What it returns becomes an array by ``numpy.asarray``, which is not timed."""


@dataclass(frozen=True)
class Prepared:
    """A library that has all it needs for a case.

    Parameters
    ----------
    run
        What is timed.
    edges
        What the library takes to lie beyond the edges.
    stages
        Parts of a run on a GPU that are timed on their own, in order: to the device, there, and back.
    compile
        What makes ready, or loads, the code that the first run needs, where the library lets that be told apart.
    """

    run: Run
    edges: Edges = "reflect"
    stages: Mapping[str, Run] = field(default_factory=dict)
    compile: Run | None = None


Prepare = Callable[[Case], Prepared | None]
"""Prepares a case. Returns None where the library has no such filter, or would take too long."""

TO_DEVICE, ON_DEVICE, FROM_DEVICE = "host to device", "on the device", "device to host"
"""The names of the stages."""

_MOST_SECONDS = 5.0


def is_too_long(case: Case, products_per_second: float) -> bool:
    """Return whether a library that sums up all products of a 2-D kernel takes too long for a case."""
    return case.kernel_side**2 * case.sample_count > _MOST_SECONDS * products_per_second
