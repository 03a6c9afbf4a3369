"""Real devices, over NVIDIA's own bindings of the driver, `cuda.bindings.driver`.

A device's primary context is used, as CuPy, PyTorch and Numba do: so they can use the same memory. NVIDIA's "CUDA
Driver API" describes the calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blurfast.cuda import programs
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import (
    Address,
    DeviceError,
    DeviceMemoryError,
    DeviceProperties,
    Event,
    FftLibrary,
    HostBytes,
    Launch,
    Stream,
)
from blurfast.cuda.programs import Program

SHARED_BYTES = 48 * 1024
"""What the threads of a block may share before a kernel asks for more."""

_OTHER_VERSION = f"update the NVIDIA driver, or install the compiler for its version of CUDA: {programs.REMEDY}"
_LOST = "start the program again, since this process can no longer use the device, and report this error"
_REMEDIES = {
    "CUDA_ERROR_OUT_OF_MEMORY": "make memory free by ending other programs, or use the cpu backend",
    "CUDA_ERROR_NOT_INITIALIZED": "start processes by spawn: one that was forked cannot use its parent's devices",
    "CUDA_ERROR_DEVICE_UNAVAILABLE": "wait for the program that has the device for itself, or use the cpu backend",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "restart the machine, whose NVIDIA driver was updated while it ran",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": _OTHER_VERSION,
    "CUDA_ERROR_INVALID_IMAGE": _OTHER_VERSION,
    "CUDA_ERROR_INVALID_PTX": _OTHER_VERSION,
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": _OTHER_VERSION,
    "CUDA_ERROR_JIT_COMPILER_NOT_FOUND": "install the NVIDIA driver whole, with its compiler for PTX",
    "CUDA_ERROR_LAUNCH_TIMEOUT": "use a device that drives no display, or the cpu backend",
    "CUDA_ERROR_ECC_UNCORRECTABLE": "start the program again; the memory of the device may be defective",
    "CUDA_ERROR_ILLEGAL_ADDRESS": _LOST,
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": _LOST,
    "CUDA_ERROR_MISALIGNED_ADDRESS": _LOST,
    "CUDA_ERROR_LAUNCH_FAILED": _LOST,
}


class DriverCalls:
    """The functions of the driver, each by its name: every result is checked.

    Parameters
    ----------
    module
        `cuda.bindings.driver`, whose functions return a status and then their results.
    """

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Call a function, and return its result, if it has any, or a list of several.

        Raises
        ------
        DeviceError
            If it fails: a `DeviceMemoryError` for want of memory.
        """
        status, *results = self._run(name, *arguments)
        if status != self.module.CUresult.CUDA_SUCCESS:
            raise self._error(name, status)
        return results[0] if len(results) == 1 else results

    def initialise(self) -> bool:
        """Make the driver ready, which is where most of what it may refuse shows; return whether it finds a device."""
        (status,) = self._run("cuInit", 0)
        if status not in {self.module.CUresult.CUDA_SUCCESS, self.module.CUresult.CUDA_ERROR_NO_DEVICE}:
            raise self._error("cuInit", status)
        return bool(status == self.module.CUresult.CUDA_SUCCESS)

    def _run(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self.module, name)(*arguments)
        except (RuntimeError, ValueError) as error:  # a function that the driver lacks, an error that is newer
            raise DeviceError(f"{name} failed ({error})", remedy="use the cpu backend") from error

    def _error(self, name: str, status: Any) -> DeviceError:
        _, meaning = self.module.cuGetErrorString(status)
        kind = DeviceMemoryError if status == self.module.CUresult.CUDA_ERROR_OUT_OF_MEMORY else DeviceError
        remedy = _REMEDIES.get(status.name, "use the cpu backend")
        return kind(f"{name} failed with {status.name} ({meaning.decode()})", remedy=remedy)


def connect() -> DriverCalls | None:
    """Return the driver, or None if it finds no device.

    Raises
    ------
    DeviceError
        If the driver refuses, or cannot be reached.
    """
    try:
        from cuda.bindings import driver
    except ImportError as error:
        fact = f"cuda-bindings cannot be imported ({error})"
        raise DeviceError(fact, remedy="install it again, or use the cpu backend") from error
    calls = DriverCalls(driver)
    return calls if calls.initialise() else None


def read_properties(calls: DriverCalls, index: int) -> DeviceProperties:
    """Return what the driver tells of a device."""
    handle = calls("cuDeviceGet", index)
    attributes = calls.module.CUdevice_attribute

    def attribute(name: str) -> int:
        return int(calls("cuDeviceGetAttribute", getattr(attributes, f"CU_DEVICE_ATTRIBUTE_{name}"), handle))

    def attribute_if_told(name: str) -> int:
        try:
            return attribute(name)
        except DeviceError:  # deprecated: new drivers may not know it any more
            return 0

    # The clock is in kHz, and data come on both of its edges.
    bandwidth = 2e3 * attribute_if_told("MEMORY_CLOCK_RATE") * attribute_if_told("GLOBAL_MEMORY_BUS_WIDTH") / 8
    return DeviceProperties(
        index=index,
        name=calls("cuDeviceGetName", 256, handle).split(b"\0")[0].decode(),
        capability=(attribute("COMPUTE_CAPABILITY_MAJOR"), attribute("COMPUTE_CAPABILITY_MINOR")),
        memory=int(calls("cuDeviceTotalMem", handle)),
        bandwidth=bandwidth,
        multiprocessors=attribute("MULTIPROCESSOR_COUNT"),
        shared_memory=attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"),
    )


def locate(calls: DriverCalls, address: Address) -> int:
    """Return the number of the device that an address is of."""
    attribute = calls.module.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    return int(calls("cuPointerGetAttribute", attribute, address))


@dataclass
class _LoadedKernel:
    """A kernel in the memory of a device; `launch_bytes` is what launches may let its threads share."""

    program: Program
    module: Any
    function: Any
    launch_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.launch_bytes = SHARED_BYTES - self.program.shared_bytes


class DriverDevice:
    """A device of the driver; see `device.Device`.

    Its context lasts as long as this object, and as others use it.

    Parameters
    ----------
    calls
        The driver.
    index
        The number of the device.
    """

    def __init__(self, calls: DriverCalls, index: int) -> None:
        self._call = calls
        self._properties = read_properties(calls, index)
        self._loaded: dict[Kernel, _LoadedKernel] = {}
        self._fft: FftLibrary | None = None
        self._lock = threading.Lock()
        handle = calls("cuDeviceGet", index)
        self._context = calls("cuDevicePrimaryCtxRetain", handle)
        finalizer = weakref.finalize(self, _give_back, calls, handle, self._context, self._loaded, os.getpid())
        finalizer.atexit = False  # the driver may have shut down by then

    @property
    def properties(self) -> DeviceProperties:
        """See `device.Device`."""
        return self._properties

    @property
    def fft(self) -> FftLibrary:
        """See `device.Device`."""
        from blurfast.cuda.cufft import CufftLibrary

        with self._lock:
            if self._fft is None:
                self._fft = CufftLibrary()
            return self._fft

    def activate(self) -> contextlib.AbstractContextManager[None]:
        """See `device.Device`."""
        return _current(self._call, self._context)

    # ----------------------------------------------------------------------------------------------------- memory

    def free_memory(self) -> int:
        """See `device.Device`."""
        free, _ = self._call("cuMemGetInfo")
        return int(free)

    def allocate(self, count: int) -> Address:
        """See `device.Device`."""
        return int(self._call("cuMemAlloc", max(count, 1)))

    def release(self, address: Address) -> None:
        """See `device.Device`."""
        self._call("cuMemFree", address)

    def allocate_host(self, count: int) -> HostBytes:
        """See `device.Device`."""
        address = int(self._call("cuMemHostAlloc", max(count, 1), 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address))

    def release_host(self, memory: HostBytes) -> None:
        """See `device.Device`."""
        self._call("cuMemFreeHost", memory.ctypes.data)

    # ---------------------------------------------------------------------------------------- streams and events

    def open_stream(self) -> Stream:
        """See `device.Device`."""
        return Stream(int(self._call("cuStreamCreate", self._call.module.CUstream_flags.CU_STREAM_NON_BLOCKING.value)))

    def close_stream(self, stream: Stream) -> None:
        """See `device.Device`."""
        self._call("cuStreamDestroy", stream)

    def open_event(self) -> Event:
        """See `device.Device`.

        Whoever waits for it sleeps: while a tile is computed, the processor has others to decode and to encode.
        """
        return Event(int(self._call("cuEventCreate", self._call.module.CUevent_flags.CU_EVENT_BLOCKING_SYNC.value)))

    def close_event(self, event: Event) -> None:
        """See `device.Device`."""
        self._call("cuEventDestroy", event)

    def record(self, event: Event, stream: Stream) -> None:
        """See `device.Device`."""
        self._call("cuEventRecord", event, stream)

    def wait(self, stream: Stream, event: Event) -> None:
        """See `device.Device`."""
        self._call("cuStreamWaitEvent", stream, event, 0)

    def synchronize(self, event: Event) -> None:
        """See `device.Device`."""
        self._call("cuEventSynchronize", event)

    def synchronize_stream(self, stream: Stream) -> None:
        """See `device.Device`."""
        self._call("cuStreamSynchronize", stream)

    def elapsed(self, start: Event, stop: Event) -> float:
        """See `device.Device`."""
        return 1e-3 * float(self._call("cuEventElapsedTime", start, stop))

    # ------------------------------------------------------------------------------------------------------- work

    def upload(self, target: Address, source: HostBytes, stream: Stream) -> None:
        """See `device.Device`."""
        self._call("cuMemcpyHtoDAsync", target, source.ctypes.data, source.nbytes, stream)

    def download(self, target: HostBytes, source: Address, stream: Stream) -> None:
        """See `device.Device`."""
        self._call("cuMemcpyDtoHAsync", target.ctypes.data, source, target.nbytes, stream)

    def copy_rows(
        self,
        target: Address,
        target_pitch: int,
        source: Address,
        source_pitch: int,
        *,
        row_bytes: int,
        rows: int,
        stream: Stream,
    ) -> None:
        """See `device.Device`."""
        module = self._call.module
        copy = module.CUDA_MEMCPY2D()
        copy.srcMemoryType = copy.dstMemoryType = module.CUmemorytype.CU_MEMORYTYPE_DEVICE
        copy.srcDevice, copy.srcPitch = source, source_pitch
        copy.dstDevice, copy.dstPitch = target, target_pitch
        copy.WidthInBytes, copy.Height = row_bytes, rows
        self._call("cuMemcpy2DAsync", copy, stream)

    def clear(self, address: Address, count: int, stream: Stream) -> None:
        """See `device.Device`."""
        self._call("cuMemsetD8Async", address, 0, count, stream)

    def launch(self, launch: Launch, stream: Stream) -> None:
        """See `device.Device`.

        Raises
        ------
        ValueError
            If the arguments are not what the kernel's parameters are.
        """
        kernel = self._load(launch.kernel, launch.shared_bytes)
        values = pack(launch.arguments, kernel.program)
        base = ctypes.addressof(values)
        addresses = (ctypes.c_void_p * len(values))(*range(base, base + ctypes.sizeof(values), 8))
        self._call(
            "cuLaunchKernel",
            kernel.function,
            *launch.grid,
            *launch.block,
            launch.shared_bytes,
            stream,
            ctypes.addressof(addresses),
            0,
        )

    def _load(self, kernel: Kernel, launch_bytes: int) -> _LoadedKernel:
        """Return a kernel whose threads may share what a launch asks for."""
        with self._lock:
            loaded = self._loaded.get(kernel)
            if loaded is None:
                (program,) = programs.obtain([kernel], self._properties.capability)
                loaded = self._loaded[kernel] = self._load_program(program)
            if launch_bytes > loaded.launch_bytes:
                attribute = self._call.module.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                self._call("cuFuncSetAttribute", loaded.function, attribute, launch_bytes)
                loaded.launch_bytes = launch_bytes
            return loaded

    def _load_program(self, program: Program) -> _LoadedKernel:
        # Text ends with a zero; the driver tells it from machine code by its beginning.
        module = self._call("cuModuleLoadData", program.cubin or program.ptx.encode() + b"\0")
        try:
            function = self._call("cuModuleGetFunction", module, program.entry.encode())
        except DeviceError:
            self._call("cuModuleUnload", module)
            raise
        return _LoadedKernel(program, module, function)


@contextlib.contextmanager
def _current(calls: DriverCalls, context: Any) -> Iterator[None]:
    """Let a context be that of the calling thread, and then the one before."""
    calls("cuCtxPushCurrent", context)
    try:
        yield
    except BaseException:
        with contextlib.suppress(DeviceError):  # it follows from the one that is on its way to the caller
            calls("cuCtxPopCurrent")
        raise
    calls("cuCtxPopCurrent")


def _give_back(
    calls: DriverCalls, handle: Any, context: Any, loaded: Mapping[Kernel, _LoadedKernel], process: int
) -> None:
    """Unload the kernels of a device and leave its context. What a forked process inherited belongs to the other."""
    if os.getpid() != process:
        return
    with contextlib.suppress(DeviceError), _current(calls, context):  # a device that is lost has forgotten them
        for kernel in loaded.values():
            calls("cuModuleUnload", kernel.module)
    with contextlib.suppress(DeviceError):
        calls("cuDevicePrimaryCtxRelease", handle)


def pack(arguments: Sequence[int | np.generic], program: Program) -> ctypes.Array[ctypes.c_uint64]:
    """Return arguments as the driver reads them: each at the beginning of 8 bytes of its own.

    Parameters
    ----------
    arguments
        An int has 64 bits, as addresses have; a numpy scalar is as wide as its type.
    program
        What they are for.

    Raises
    ------
    ValueError
        If there are more or fewer than the program has parameters, or if one is wider or narrower.
    """
    data = [(np.int64(argument) if isinstance(argument, int) else argument).tobytes() for argument in arguments]
    sizes = tuple(map(len, data))
    if sizes != program.parameter_bytes:
        raise ValueError(f"{program.entry} has parameters of {program.parameter_bytes} bytes, not of {sizes}")
    return (ctypes.c_uint64 * len(data)).from_buffer_copy(b"".join(value.ljust(8, b"\0") for value in data))
