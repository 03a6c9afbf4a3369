"""A stand-in for `cuda.bindings.driver`: it records calls, keeps account of what is handed out, and fails on demand.

Functions return what NVIDIA's bindings return, a status and then the results, in the bindings' own types. What a real
driver would refuse, because a handle is unknown or no context is current, is an assertion here.
"""

from __future__ import annotations

import ctypes
import functools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from cuda.bindings import driver

SUCCESS = driver.CUresult.CUDA_SUCCESS

ATTRIBUTES = {
    "COMPUTE_CAPABILITY_MAJOR": 8,
    "COMPUTE_CAPABILITY_MINOR": 6,
    "MULTIPROCESSOR_COUNT": 84,
    "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": 101376,
    "MEMORY_CLOCK_RATE": 9_751_000,
    "GLOBAL_MEMORY_BUS_WIDTH": 384,
}


def call(result_count: int = 0, *, needs_context: bool = True) -> Callable[[Callable[..., Any]], Any]:
    """Make a method a function of the driver with so many results."""

    def decorate(method: Callable[..., Any]) -> Any:
        name = method.__name__

        @functools.wraps(method)
        def function(self: DriverStandIn, *arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, *arguments))
            assert self.contexts or not needs_context, f"{name} is called where no context is current"
            status = self.failing.get(name, SUCCESS)
            if status != SUCCESS:
                return (status, *[None] * result_count)
            results = method(self, *arguments)
            return (SUCCESS, *(results if result_count > 1 else [results] * result_count))

        return function

    return decorate


class DriverStandIn:
    """What is used of `cuda.bindings.driver`, for two devices.

    Parameters
    ----------
    failing
        The status that a function returns instead of doing anything.
    attributes
        What devices say of themselves, where it differs from `ATTRIBUTES`.
    parameter_count
        Of the kernel that is launched.
    """

    CUresult = driver.CUresult
    CUdevice_attribute = driver.CUdevice_attribute
    CUDA_MEMCPY2D = driver.CUDA_MEMCPY2D
    CUmemorytype = driver.CUmemorytype
    CUevent_flags = driver.CUevent_flags
    CUpointer_attribute = driver.CUpointer_attribute
    CUfunction_attribute = driver.CUfunction_attribute
    CUstream_flags = driver.CUstream_flags

    def __init__(
        self,
        failing: dict[str, Any] | None = None,
        *,
        attributes: dict[str, int] | None = None,
        parameter_count: int = 0,
    ) -> None:
        self.failing = failing or {}
        self.calls: list[tuple[Any, ...]] = []
        self.contexts: list[int] = []
        self.launched: list[list[bytes]] = []
        self._attributes = {**ATTRIBUTES, **(attributes or {})}
        self._parameter_count = parameter_count
        self._retained: Counter[int] = Counter()
        self._host: dict[int, Any] = {}
        self._handles: dict[int, str] = {}
        self._next_handle = 0x1000

    def names(self, *, without: Iterable[str] = ()) -> list[str]:
        """Return which functions were called."""
        return [name for name, *_ in self.calls if name not in without]

    def assert_nothing_is_left(self) -> None:
        left = {"contexts": +self._retained, "current": self.contexts, "handles": self._handles, "host": self._host}
        assert not any(left.values()), left

    def _hand_out(self, kind: str, wrapper: Callable[[int], Any]) -> Any:
        self._next_handle += 0x100
        self._handles[self._next_handle] = kind
        return wrapper(self._next_handle)

    def _check(self, kind: str, handle: Any) -> None:
        assert self._handles.get(int(handle)) == kind, f"{handle} is no {kind}"

    def _take_back(self, kind: str, handle: Any) -> None:
        self._check(kind, handle)
        del self._handles[int(handle)]

    # ---------------------------------------------------------------------------------------------------- devices

    @call(needs_context=False)
    def cuInit(self, flags):  # noqa: N802
        assert flags == 0

    @call(1, needs_context=False)
    def cuDeviceGetCount(self):  # noqa: N802
        return 2

    @call(1, needs_context=False)
    def cuDeviceGet(self, ordinal):  # noqa: N802
        return driver.CUdevice(ordinal)

    @call(1, needs_context=False)
    def cuDeviceGetName(self, length, device):  # noqa: N802
        return f"Stand-in {int(device)}".encode().ljust(length, b"\0")

    @call(1, needs_context=False)
    def cuDeviceTotalMem(self, device):  # noqa: N802
        return 24 * 2**30

    @call(1, needs_context=False)
    def cuDeviceGetAttribute(self, attribute, device):  # noqa: N802
        assert isinstance(attribute, driver.CUdevice_attribute)
        return self._attributes[attribute.name.removeprefix("CU_DEVICE_ATTRIBUTE_")]

    @call(1, needs_context=False)
    def cuGetErrorString(self, status):  # noqa: N802
        return f"it means {int(status)}".encode()

    # --------------------------------------------------------------------------------------------------- contexts

    @call(1, needs_context=False)
    def cuDevicePrimaryCtxRetain(self, device):  # noqa: N802
        self._retained[int(device)] += 1
        return driver.CUcontext(0xC0 + int(device))

    @call(needs_context=False)
    def cuDevicePrimaryCtxRelease(self, device):  # noqa: N802
        assert self._retained[int(device)] > 0
        self._retained[int(device)] -= 1

    @call(needs_context=False)
    def cuCtxPushCurrent(self, context):  # noqa: N802
        assert self._retained[int(context) - 0xC0] > 0
        self.contexts.append(int(context))

    @call(1)
    def cuCtxPopCurrent(self):  # noqa: N802
        return driver.CUcontext(self.contexts.pop())

    # ----------------------------------------------------------------------------------------------------- memory

    @call(2)
    def cuMemGetInfo(self):  # noqa: N802
        return 20 * 2**30, 24 * 2**30

    @call(1)
    def cuMemAlloc(self, count):  # noqa: N802
        assert count > 0
        return self._hand_out("memory", driver.CUdeviceptr)

    @call()
    def cuMemFree(self, address):  # noqa: N802
        self._take_back("memory", address)

    @call(1)
    def cuMemHostAlloc(self, count, flags):  # noqa: N802
        assert count > 0
        memory = ctypes.create_string_buffer(count)
        self._host[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    @call()
    def cuMemFreeHost(self, address):  # noqa: N802
        del self._host[address]

    @call()
    def cuMemcpyHtoDAsync(self, target, source, count, stream):  # noqa: N802
        self._check("stream", stream)

    @call()
    def cuMemcpyDtoHAsync(self, target, source, count, stream):  # noqa: N802
        self._check("stream", stream)

    @call()
    def cuMemcpy2DAsync(self, copy, stream):  # noqa: N802
        assert isinstance(copy, driver.CUDA_MEMCPY2D)
        self._check("stream", stream)

    @call(1, needs_context=False)
    def cuPointerGetAttribute(self, attribute, address):  # noqa: N802
        assert attribute == driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        return address >> 40

    @call()
    def cuMemsetD8Async(self, address, value, count, stream):  # noqa: N802
        self._check("stream", stream)

    # ----------------------------------------------------------------------------------------- streams and events

    @call(1)
    def cuStreamCreate(self, flags):  # noqa: N802
        return self._hand_out("stream", driver.CUstream)

    @call()
    def cuStreamDestroy(self, stream):  # noqa: N802
        self._take_back("stream", stream)

    @call()
    def cuStreamSynchronize(self, stream):  # noqa: N802
        self._check("stream", stream)

    @call()
    def cuStreamWaitEvent(self, stream, event, flags):  # noqa: N802
        self._check("stream", stream)
        self._check("event", event)

    @call(1)
    def cuEventCreate(self, flags):  # noqa: N802
        return self._hand_out("event", driver.CUevent)

    @call()
    def cuEventDestroy(self, event):  # noqa: N802
        self._take_back("event", event)

    @call()
    def cuEventRecord(self, event, stream):  # noqa: N802
        self._check("event", event)
        self._check("stream", stream)

    @call()
    def cuEventSynchronize(self, event):  # noqa: N802
        self._check("event", event)

    @call(1)
    def cuEventElapsedTime(self, start, stop):  # noqa: N802
        self._check("event", start)
        self._check("event", stop)
        return 2.5

    # ---------------------------------------------------------------------------------------------------- kernels

    @call(1)
    def cuModuleLoadData(self, image):  # noqa: N802
        assert isinstance(image, bytes)
        return self._hand_out("module", driver.CUmodule)

    @call(1)
    def cuModuleGetFunction(self, module, name):  # noqa: N802
        self._check("module", module)
        assert isinstance(name, bytes)
        return driver.CUfunction(int(module) + 1)

    @call()
    def cuModuleUnload(self, module):  # noqa: N802
        self._take_back("module", module)

    @call()
    def cuFuncSetAttribute(self, function, attribute, value):  # noqa: N802
        self._check("module", int(function) - 1)
        assert isinstance(attribute, driver.CUfunction_attribute)

    @call()
    def cuLaunchKernel(  # noqa: N802
        self, function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream, parameters, extra
    ):
        self._check("module", int(function) - 1)
        self._check("stream", stream)
        assert extra == 0
        addresses = (ctypes.c_uint64 * self._parameter_count).from_address(parameters)
        self.launched.append([ctypes.string_at(address, 8) for address in addresses])
