"""Compile kernels with Numba into programs that run without it.

Besides the kernels and `simt`, which they are written in, this is the only module here that imports Numba. `programs`
calls it in a child process (``python -m blurfast.cuda.compiler``). It needs no GPU and no driver.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cuda.bindings import nvjitlink, nvrtc
from cuda.pathfinder import DynamicLibNotFoundError
from numba import cuda
from numba.cuda import types

from blurfast.cuda import programs, simt_values
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import DeviceError
from blurfast.cuda.programs import Capability, Program

_PIXELS: dict[str, Any] = {"float16": simt_values.float16, "bool": simt_values.bool8}

# Numba adds a variable to each kernel that only its own runtime would read.
_RUNTIME_VARIABLE = re.compile(r"^\.common \.global .* _ZN08NumbaEnv\w*;\n", re.MULTILINE)

# The linker's report counts in what some devices need themselves. Arrays whose size a launch tells have no number.
_SHARED_ARRAY = re.compile(r"\.shared \.align \d+ \.b8 \w+\[(\d+)\];")


def _numba_type(name: str) -> Any:
    return _PIXELS.get(name) or getattr(types, name)


def compile_kernel(kernel: Kernel, capability: Capability) -> Program:
    """Compile one kernel for a kind of GPU.

    For a GPU that is newer than the compiler, the program is made for the newest one before it, and has no machine
    code: drivers know newer GPUs, and make it of the text.

    Raises
    ------
    DeviceError
        If a part of the compiler is missing, or too old for another part.
    """
    module = importlib.import_module(f"blurfast.cuda.{kernel.module}_kernels")
    dtypes = (_numba_type(name) for name in (kernel.pixel, kernel.target, kernel.sums))
    function, arguments = module.entry_points(*dtypes)[kernel.function]
    entry = str(kernel).replace(".", "_")
    try:
        architecture = _nearest_architecture(capability, _architectures())
        ptx, _ = cuda.compile_ptx(function, types.void(*arguments), cc=architecture)
        ptx = _rename_entry(ptx, entry)
        cubin, log = _link(ptx, architecture)
    except DynamicLibNotFoundError as error:
        raise DeviceError(f"a part of CUDA's compiler is missing: {error}", remedy=programs.REMEDY) from error
    return Program(
        entry=entry,
        parameter_bytes=tuple(_parameter_bytes(argument) for argument in arguments),
        ptx=ptx,
        cubin=cubin if architecture == capability else b"",
        registers=_largest(r"used (\d+) registers", log),
        spill_bytes=_largest(r"(\d+) bytes spill", log),
        shared_bytes=sum(map(int, _SHARED_ARRAY.findall(ptx))),
        local_bytes=_largest(r"(\d+) bytes stack", log),
    )


def _architectures() -> list[Capability]:
    """Return what the compiler can compile for."""
    _, numbers = nvrtc.nvrtcGetSupportedArchs()
    return [divmod(number, 10) for number in numbers]


def _nearest_architecture(capability: Capability, architectures: Iterable[Capability]) -> Capability:
    """Return the newest architecture that a GPU of this compute capability can run."""
    earlier = [architecture for architecture in architectures if architecture <= capability]
    if not earlier:
        version = ".".join(map(str, capability))
        raise DeviceError(f"CUDA's compiler does not support GPUs of compute capability {version} any more")
    return max(earlier)


def _rename_entry(ptx: str, name: str) -> str:
    """Call the kernel `name`: Numba's own name for it depends on what else it has compiled, and fills several lines."""
    ptx = _RUNTIME_VARIABLE.sub("", ptx)
    (mangled,) = re.findall(r"\.visible \.entry (\w+)\(", ptx)
    return str(ptx.replace(mangled, name))


def _link(ptx: str, architecture: Capability) -> tuple[bytes, str]:
    """Make machine code of PTX; return it with the linker's report on what it uses."""
    options = ["-arch=sm_{}{}".format(*architecture), "-verbose"]
    linker = nvjitlink.create(len(options), options)
    try:
        text = ptx.encode()
        nvjitlink.add_data(linker, nvjitlink.InputType.PTX, text, len(text), "kernel")
        nvjitlink.complete(linker)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(linker))
        nvjitlink.get_linked_cubin(linker, cubin)
        return bytes(cubin), _log(linker, nvjitlink.get_info_log_size, nvjitlink.get_info_log)
    except nvjitlink.nvJitLinkError as error:
        log = _log(linker, nvjitlink.get_error_log_size, nvjitlink.get_error_log)
        reason = (log.splitlines() or [str(error)])[0]
        remedy = f"install the parts of CUDA's compiler in versions that match: {programs.REMEDY}"
        raise DeviceError(f"CUDA's linker refuses a kernel: {reason}", remedy=remedy) from error
    finally:
        nvjitlink.destroy(linker)


def _log(linker: int, size: Any, get: Any) -> str:
    text = bytearray(size(linker))
    get(linker, text)
    return text.decode(errors="replace").rstrip("\0\n ")


def _largest(pattern: str, log: str) -> int:
    """Return the largest number in the linker's report: for parts of a kernel, it reports more than once."""
    return max(map(int, re.findall(pattern, log, re.IGNORECASE)), default=0)


def _parameter_bytes(argument: Any) -> int:
    return 8 if isinstance(argument, types.CPointer) else int(argument.bitwidth) // 8


def main(arguments: list[str]) -> None:
    """Compile kernels: the arguments are a directory, a compute capability such as ``9.0``, and kernels' names."""
    directory, version, *names = arguments
    major, minor = version.split(".")
    capability = int(major), int(minor)
    cache = programs.cache(capability, Path(directory))
    for kernel in map(Kernel.parse, names):
        cache.write(kernel, compile_kernel(kernel, capability))


if __name__ == "__main__":
    main(sys.argv[1:])
