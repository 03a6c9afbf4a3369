"""blurfast as a contestant: as users call it, with the kernel that other libraries use, and by forced methods."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from blurfast.arrays import apply
from blurfast.bench.cases import TRUNCATE, Case
from blurfast.bench.device_runs import device_stages
from blurfast.bench.prepared import Prepare, Prepared, is_too_long
from blurfast.cpu import objects
from blurfast.errors import UnsupportedError
from blurfast.filters import Convolution, Filter, Gaussian
from blurfast.io.array import describe
from blurfast.planning import Plan, plan_array

# Per second, of the direct method on two slow cores.
_DIRECT_PRODUCTS = 5e9


def filter_of(case: Case) -> Gaussian | Convolution:
    """Return the filter of a case, with the default accuracy."""
    return Gaussian(case.sigma) if case.filter == "gaussian" else Convolution(case.weights, correlate=True)


def plan_case(case: Case, filter: Filter | None = None, method: str = "auto") -> Plan:
    """Return how blurfast does a case, with its own filter or with another."""
    image = case.image
    return plan_array(
        filter or filter_of(case),
        describe(np.atleast_3d(image)),
        image.dtype,
        case.threads,
        method=method,
        backend=case.backend,
    )


def as_called(case: Case) -> Prepared:
    """As users call it, with the default accuracy."""
    return _prepared(case, filter_of(case), "auto")


def same_kernel(case: Case) -> Prepared | None:
    """Cut a Gaussian where the other libraries cut it."""
    return _prepared(case, Gaussian(case.sigma, truncate=TRUNCATE), "auto") if case.filter == "gaussian" else None


def by_method(method: str) -> Prepare:
    """Return what prepares a convolution by one method, for the plot that shows where the methods cross."""

    def prepare(case: Case) -> Prepared | None:
        if case.filter != "convolve" or (method == "direct" and is_too_long(case, _DIRECT_PRODUCTS)):
            return None
        try:
            plan_case(case, method=method)
        except UnsupportedError:
            return None
        return _prepared(case, filter_of(case), method)

    return prepare


def _prepared(case: Case, filter: Filter, method: str) -> Prepared:
    image = case.image
    out = np.empty_like(image)
    options: dict[str, Any] = {"channel_axis": case.channel_axis, "method": method, "backend": case.backend}
    run = functools.partial(apply, filter, image, out=out, threads=case.threads, **options)
    if case.backend == "cuda":
        return Prepared(run, stages=device_stages(filter, image, options))
    plan = plan_case(case, filter, method)
    return Prepared(run, compile=lambda: objects.load(plan.kernels()))
