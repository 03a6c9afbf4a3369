"""The decisions of a plan: which backend, method and number of threads, each with its reason."""

from __future__ import annotations

import math
import numbers
from typing import Literal, NamedTuple, get_args

from blurfast.boundary import MODES
from blurfast.costs import Costs
from blurfast.errors import MemoryBudgetError, UnsupportedError
from blurfast.methods import Candidates, Gpu, Job, LackOfMemory, Method, candidates, on_device
from blurfast.resources import format_memory
from blurfast.transforms import PLANNING_EFFORTS

Backend = Literal["auto", "cpu", "cuda"]
MethodName = Literal["auto", "separable", "multirate", "direct", "fft"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
METHODS: tuple[MethodName, ...] = get_args(MethodName)

# Work that takes as long as starting a thread, a few times.
_SECONDS_WORTH_A_THREAD = 0.5e-3
# Of the fastest codec; slower ones are worth their threads all the sooner.
_SECONDS_OF_A_CODED_BYTE = 1e-9


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
        ("backend", parse_backend(backend)[0] if isinstance(backend, str) else backend, BACKENDS),
        ("method", method, METHODS),
        ("fft_planning", fft_planning, PLANNING_EFFORTS),
    ):
        if value not in allowed:
            raise ValueError(f"{argument} is {value!r}; it must be one of {', '.join(allowed)}")


def parse_backend(backend: str) -> tuple[str, int | None]:
    """Return a backend's name and the number of the device that it asks for.

    Examples
    --------
    >>> parse_backend("cuda:1"), parse_backend("auto")
    (('cuda', 1), ('auto', None))
    """
    name, _, number = backend.partition(":")
    return (name, int(number)) if name == "cuda" and number.isdecimal() else (backend, None)


class Decision(NamedTuple):
    """What carries a job out, and what else there was."""

    operation: Method
    backend: str
    choices: list[Choice]


def find_gpu(backend: str, limit: int | None) -> Gpu | str:
    """Return the GPU to consider, or why there is none.

    Parameters
    ----------
    backend
        Where it is ``cuda``, or ``cuda:1`` for the device with this number, a GPU there must be.
    limit
        The most bytes of its memory to use.

    Raises
    ------
    UnsupportedError
        If the GPU that is asked for cannot be had.
    """
    backend, device = parse_backend(backend)
    if backend == "cpu":
        return "the cpu is asked for"
    from blurfast.cuda import probe  # looks for a driver

    found = probe.survey()
    wanted = [properties for properties in found.devices if device in (None, properties.index)]
    if wanted:
        return Gpu(wanted[0], limit)
    if not found.devices:
        missing = UnsupportedError(found.fact, remedy=found.remedy)
    else:
        numbers = ", ".join(str(properties.index) for properties in found.devices)
        missing = UnsupportedError(f"there is no CUDA device {device} that can be used", remedy=f"use device {numbers}")
    if backend == "cuda":
        raise missing
    return missing.fact


def all_gpus() -> list[str]:
    """Return the backends of all GPUs that can be used; raise an `UnsupportedError` if there are none."""
    from blurfast.cuda import probe  # looks for a driver

    found = probe.survey()
    if not found.devices:
        raise UnsupportedError(found.fact, remedy=found.remedy)
    return [f"cuda:{properties.index}" for properties in found.devices]


def choose_operation(backend: str, method: str, job: Job, threads: int, figures: Costs, gpu: Gpu | str) -> Decision:
    """Choose what computes, and how: what is asked for, or else what takes the least time.

    Raises
    ------
    UnsupportedError
        If the method that is asked for cannot serve, or none can.
    MemoryBudgetError
        If it could with more memory of the device.
    """
    found = {"cpu": candidates(job)}
    if not isinstance(gpu, str):
        found["cuda"] = {name: on_device(candidate, gpu) for name, candidate in found["cpu"].items()}
        if backend == "cuda":
            del found["cpu"]
    seconds = {
        (side, name): candidate.seconds(figures) / (threads if side == "cpu" else 1)
        for side, methods in found.items()
        for name, candidate in methods.items()
        if not isinstance(candidate, str) and method in ("auto", name)
    }
    if not seconds:
        raise _nothing_serves(method, found)
    best = min(seconds, key=seconds.__getitem__)
    operation = found[best[0]][best[1]]
    assert not isinstance(operation, str), "it has a time"
    choices = [
        *_backend_choices(backend, gpu, seconds, best[0]),
        *_method_choices(method, found[best[0]], best[1], figures, threads if best[0] == "cpu" else 1),
        Choice("sums", operation.sums.dtype.name, True, operation.sums.reason),
    ]
    return Decision(operation, best[0], choices)


def _nothing_serves(method: str, found: dict[str, Candidates]) -> UnsupportedError | MemoryBudgetError:
    """Return the error where no candidate can do what is asked for."""
    methods = next(reversed(found.values()))
    for name, candidate in methods.items():
        if method in ("auto", name) and isinstance(candidate, LackOfMemory):
            return candidate.error
    able = [name for name, candidate in methods.items() if not isinstance(candidate, str)]
    if method == "auto":
        return UnsupportedError(f"no method can serve: {methods['direct']}", remedy="leave out what cannot be had")
    usable = "the method " + " or ".join([*able, "auto"]) if able else "another kernel or image"
    return UnsupportedError(f"the {method} method cannot serve: {methods[method]}", remedy=f"use {usable}")


def _backend_choices(backend: str, gpu: Gpu | str, seconds: dict[tuple[str, str], float], chosen: str) -> list[Choice]:
    """Tell which backend is taken, and what the other one would have taken."""
    if backend != "auto":
        return [Choice("backend", backend, True, "asked for")]
    if isinstance(gpu, str):
        return [Choice("backend", "cpu", True, "there is no other"), Choice("backend", "cuda", False, gpu)]
    least = {
        side: min((time for (where, _), time in seconds.items() if where == side), default=math.inf)
        for side in ("cpu", "cuda")
    }
    other = "cuda" if chosen == "cpu" else "cpu"
    name, milliseconds = gpu.properties.name, {side: f"{1e3 * time:.3g} ms" for side, time in least.items()}
    reasons = {
        "cpu": f"about {milliseconds['cpu']}",
        "cuda": f"about {milliseconds['cuda']} on {name}, with its start and all transfers",
    }
    return [Choice("backend", chosen, True, reasons[chosen]), Choice("backend", other, False, reasons[other])]


def _method_choices(method: str, found: Candidates, chosen: str, figures: Costs, threads: int) -> list[Choice]:
    """Tell what each method of the chosen backend would have meant."""
    seconds = {name: one.seconds(figures) for name, one in found.items() if not isinstance(one, str)}
    choices = []
    for name, candidate in found.items():
        if isinstance(candidate, str):
            choices.append(Choice("method", name, False, candidate))
            continue
        if name == chosen:
            why = "asked for" if method != "auto" else "the least time"
        else:
            why = f"{method} is asked for" if method != "auto" else f"{seconds[name] / seconds[chosen]:.2g}x the time"
        facts = _facts(candidate, seconds[name] / threads, threads)
        choices.append(Choice("method", name, name == chosen, f"{why}: {facts}"))
    return choices


def _facts(candidate: Method, seconds: float, threads: int) -> str:
    """Return what is predicted of a candidate, as a clause."""
    image = candidate.job.image
    scratch = format_memory(candidate.memory(min(image.height, 256), image.width, threads))
    return f"{candidate.nature}, about {seconds * 1e3:.3g} ms, {scratch} of scratch memory, error {candidate.error:.1g}"


def choose_threads(threads: int, seconds: float, coded_bytes: int) -> tuple[int, list[Choice]]:
    """Leave threads out that would take longer to start than they save of so many seconds, and of codecs' work."""
    seconds += coded_bytes * _SECONDS_OF_A_CODED_BYTE
    worthwhile = max(1, int(seconds / _SECONDS_WORTH_A_THREAD))
    if worthwhile >= threads:
        return threads, []
    return worthwhile, [Choice("threads", str(worthwhile), True, "the image is too small for more")]
