"""The decisions of a plan: which backend, method and number of threads, each with its reason."""

from __future__ import annotations

import numbers
from typing import Literal, NamedTuple, get_args

from blurfast.boundary import MODES
from blurfast.costs import Costs
from blurfast.errors import UnsupportedError
from blurfast.methods import Job, Method, candidates
from blurfast.resources import format_memory
from blurfast.transforms import PLANNING_EFFORTS

Backend = Literal["auto", "cpu", "cuda"]
MethodName = Literal["auto", "separable", "multirate", "direct", "fft"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
METHODS: tuple[MethodName, ...] = get_args(MethodName)

# Work that takes as long as starting a thread, a few times.
_SECONDS_WORTH_A_THREAD = 0.5e-3


class Choice(NamedTuple):
    """One candidate of a decision, and why it was taken or left."""

    subject: str
    candidate: str
    taken: bool
    reason: str


def check_options(mode: object, cval: object, backend: object, method: object, fft_planning: object) -> None:
    """Raise a ValueError or TypeError that names the argument which is wrong."""
    if not isinstance(cval, numbers.Real):
        raise TypeError(f"cval is {cval!r}; it must be a number")
    for argument, value, allowed in (
        ("mode", mode, MODES),
        ("backend", backend, BACKENDS),
        ("method", method, METHODS),
        ("fft_planning", fft_planning, PLANNING_EFFORTS),
    ):
        if value not in allowed:
            raise ValueError(f"{argument} is {value!r}; it must be one of {', '.join(allowed)}")


def choose_backend(backend: str) -> list[Choice]:
    """Choose what computes; raise an UnsupportedError if it cannot be had."""
    if backend == "cuda":
        raise UnsupportedError("this version has no CUDA backend", remedy="use the cpu backend")
    reason = "asked for" if backend == "cpu" else "the only backend of this version"
    return [Choice("backend", "cpu", True, reason)]


def choose_method(method: str, job: Job, threads: int, figures: Costs) -> tuple[Method, list[Choice]]:
    """Choose how to compute: what is asked for, or else what costs least.

    Raises
    ------
    UnsupportedError
        If the method that is asked for cannot serve, or none can.
    """
    found = candidates(job)
    able = {name: candidate for name, candidate in found.items() if not isinstance(candidate, str)}
    if method != "auto" and method not in able:
        usable = " or ".join([*able, "auto"]) if able else "another kernel or image"
        raise UnsupportedError(f"the {method} method cannot serve: {found[method]}", remedy=f"use the method {usable}")
    if not able:
        raise UnsupportedError(f"no method can serve: {found['direct']}", remedy="leave out what cannot be had")
    seconds = {name: candidate.seconds(figures) for name, candidate in able.items()}
    chosen = method if method != "auto" else min(seconds, key=seconds.__getitem__)
    choices = []
    for name, candidate in found.items():
        if isinstance(candidate, str):
            choices.append(Choice("method", name, False, candidate))
            continue
        facts = _facts(candidate, seconds[name], job, threads)
        if name == chosen:
            why = "asked for" if method != "auto" else "the least time"
        else:
            why = f"{method} is asked for" if method != "auto" else f"{seconds[name] / seconds[chosen]:.2g}x the time"
        choices.append(Choice("method", name, name == chosen, f"{why}: {facts}"))
    choices.append(Choice("sums", able[chosen].sums.dtype.name, True, able[chosen].sums.reason))
    return able[chosen], choices


def _facts(candidate: Method, seconds: float, job: Job, threads: int) -> str:
    """Return what is predicted of a candidate, as a clause."""
    scratch = format_memory(candidate.memory(min(job.image.height, 256), job.image.width, threads))
    return (
        f"{candidate.nature}, about {seconds / threads * 1e3:.3g} ms, {scratch} of scratch memory, "
        f"error {candidate.error:.1g}"
    )


def choose_threads(threads: int, seconds: float) -> tuple[int, list[Choice]]:
    """Leave threads out that would take longer to start than they save of so many seconds of work."""
    worthwhile = max(1, int(seconds / _SECONDS_WORTH_A_THREAD))
    if worthwhile >= threads:
        return threads, []
    return worthwhile, [Choice("threads", str(worthwhile), True, "the image is too small for more")]
