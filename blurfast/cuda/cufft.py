"""The calls to cuFFT that blurfast makes, by ctypes.

The library comes with the extras ``cuda12`` and ``cuda13``, and is loaded by the first call. NVIDIA's "cuFFT API
Reference" describes the functions, the order of the calls, and the layout of padded rows (sections "Data Layout" and
"Advanced Data Layout").
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from blurfast.cuda.device import Address, DeviceError, DeviceMemoryError, Stream
from blurfast.cuda.programs import REMEDY

_PLAN, _INT, _LONG, _ADDRESS = ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p
_LONGS = ctypes.POINTER(_LONG)
_TRANSFORM = (_PLAN, _ADDRESS, _ADDRESS)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cufftCreate": (ctypes.POINTER(_PLAN),),
    "cufftSetAutoAllocation": (_PLAN, _INT),
    "cufftMakePlanMany64": (
        *(_PLAN, _INT, _LONGS),
        *(_LONGS, _LONG, _LONG),
        *(_LONGS, _LONG, _LONG),
        *(_INT, _LONG, ctypes.POINTER(ctypes.c_size_t)),
    ),
    "cufftSetWorkArea": (_PLAN, _ADDRESS),
    "cufftSetStream": (_PLAN, _ADDRESS),
    "cufftExecR2C": _TRANSFORM,
    "cufftExecC2R": _TRANSFORM,
    "cufftExecD2Z": _TRANSFORM,
    "cufftExecZ2D": _TRANSFORM,
    "cufftDestroy": (_PLAN,),
}
"""The types of the arguments; all functions return a ``cufftResult``."""

_ALLOC_FAILED = 2
_RESULTS = {
    1: ("CUFFT_INVALID_PLAN", "there is no such plan"),
    _ALLOC_FAILED: ("CUFFT_ALLOC_FAILED", "there is too little memory on the device or the host"),
    3: ("CUFFT_INVALID_TYPE", "there is no such type of transform"),
    4: ("CUFFT_INVALID_VALUE", "an address or a parameter is invalid"),
    5: ("CUFFT_INTERNAL_ERROR", "the driver or the library failed"),
    6: ("CUFFT_EXEC_FAILED", "the device could not execute the transform"),
    7: ("CUFFT_SETUP_FAILED", "the library could not be initialised"),
    8: ("CUFFT_INVALID_SIZE", "it has no transform of this size"),
    9: ("CUFFT_UNALIGNED_DATA", "an address is not aligned"),
    10: ("CUFFT_INCOMPLETE_PARAMETER_LIST", "a parameter is missing"),
    11: ("CUFFT_INVALID_DEVICE", "the plan was made for another device"),
    12: ("CUFFT_PARSE_ERROR", "its data base of plans is damaged"),
    13: ("CUFFT_NO_WORKSPACE", "the plan has no work area"),
    14: ("CUFFT_NOT_IMPLEMENTED", "it does not implement this"),
    15: ("CUFFT_LICENSE_ERROR", "it has no licence"),
    16: ("CUFFT_NOT_SUPPORTED", "it does not support this"),
    17: ("CUFFT_MISSING_DEPENDENCY", "a library that it needs is missing"),
    18: ("CUFFT_NVRTC_FAILURE", "its kernels could not be compiled"),
    19: ("CUFFT_NVJITLINK_FAILURE", "its kernels could not be linked"),
    20: ("CUFFT_NVSHMEM_FAILURE", "NVSHMEM failed"),
}
"""Name and meaning of each ``cufftResult`` but that of success, also of those that versions before 13 had."""


class _Kind(NamedTuple):
    """A type of transform: its ``cufftType``, and the function that executes it."""

    code: int
    function: str


_KINDS = {
    ("float32", False): _Kind(0x2A, "cufftExecR2C"),
    ("float32", True): _Kind(0x2C, "cufftExecC2R"),
    ("float64", False): _Kind(0x6A, "cufftExecD2Z"),
    ("float64", True): _Kind(0x6C, "cufftExecZ2D"),
}
"""By the type of the real elements, and by whether they are the result."""


def load() -> ctypes.CDLL:
    """Load cuFFT into the process.

    Raises
    ------
    DeviceError
        If it is not installed.
    """
    try:
        from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib
    except ImportError as error:
        raise DeviceError("cuFFT is not installed", remedy=REMEDY) from error
    try:
        return ctypes.CDLL(load_nvidia_dynamic_lib("cufft").abs_path)
    except (DynamicLibNotFoundError, OSError) as error:
        raise DeviceError("cuFFT is not installed, or cannot be loaded", remedy=REMEDY) from error


class CufftLibrary:
    """cuFFT, on the device that is active in the calling thread; see `device.FftLibrary`.

    Parameters
    ----------
    load
        Returns the library; called when the first plan is made.
    """

    def __init__(self, load: Callable[[], Any] = load) -> None:
        self._load = load
        self._functions: dict[str, Callable[..., int]] = {}
        self._executors: dict[int, str] = {}

    def create(self) -> int:
        """See `device.FftLibrary`."""
        plan = _PLAN()
        self._call("cufftCreate", ctypes.byref(plan))
        return plan.value

    def disable_auto_allocation(self, plan: int) -> None:
        """See `device.FftLibrary`."""
        self._call("cufftSetAutoAllocation", plan, 0)

    def make_plan(self, plan: int, shape: tuple[int, int], sums: np.dtype[Any], *, inverse: bool, batch: int) -> int:
        """See `device.FftLibrary`."""
        rows, columns = shape
        half = columns // 2 + 1
        real = (_LONG * 2)(rows, 2 * half), 1, rows * 2 * half
        spectra = (_LONG * 2)(rows, half), 1, rows * half
        source, target = (spectra, real) if inverse else (real, spectra)
        kind = _KINDS[sums.name, inverse]
        work = ctypes.c_size_t()
        size = (_LONG * 2)(rows, columns)
        self._call("cufftMakePlanMany64", plan, 2, size, *source, *target, kind.code, batch, ctypes.byref(work))
        self._executors[plan] = kind.function
        return work.value

    def set_work_area(self, plan: int, address: Address) -> None:
        """See `device.FftLibrary`."""
        self._call("cufftSetWorkArea", plan, address)

    def set_stream(self, plan: int, stream: Stream) -> None:
        """See `device.FftLibrary`."""
        self._call("cufftSetStream", plan, stream)

    def execute(self, plan: int, source: Address, target: Address) -> None:
        """See `device.FftLibrary`."""
        self._call(self._executors[plan], plan, source, target)

    def destroy(self, plan: int) -> None:
        """See `device.FftLibrary`."""
        self._executors.pop(plan, None)
        self._call("cufftDestroy", plan)

    def _call(self, name: str, *arguments: Any) -> None:
        """Call a function, and raise what it returns unless it is success."""
        if not self._functions:
            self._functions = _functions(self._load())
        result = self._functions[name](*arguments)
        if result:
            code, meaning = _RESULTS.get(result, (f"cufftResult {result}", "the reason is unknown"))
            kind = DeviceMemoryError if result == _ALLOC_FAILED else DeviceError
            raise kind(f"{name} failed with {code}: {meaning}")


def _functions(library: Any) -> dict[str, Callable[..., int]]:
    """Return the functions of the library, told of their arguments."""
    functions = {}
    for name, signature in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = signature, ctypes.c_int
        functions[name] = function
    return functions
