"""Real devices, over a stand-in for NVIDIA's bindings: which calls are made, and what becomes of those that fail."""

from __future__ import annotations

import gc
import inspect
import os
import struct
import sys
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.driver", reason="needs the extra cuda-test", exc_type=ImportError)

from cuda.bindings import driver as real_driver

from blurfast.cuda import cufft, programs
from blurfast.cuda.catalogue import Kernel
from blurfast.cuda.device import DeviceError, DeviceMemoryError, Event, Launch, Stream
from blurfast.cuda.driver import (
    _REMEDIES,
    SHARED_BYTES,
    DriverCalls,
    DriverDevice,
    connect,
    locate,
    pack,
    read_properties,
)
from blurfast.cuda.programs import Program
from tests.driver_stand_in import DriverStandIn

CUresult = real_driver.CUresult
KERNEL = Kernel("toy", "scale", "uint8", "float32", "float32")
OTHER_KERNEL = KERNEL._replace(pixel="uint16")
PROGRAM = Program(
    entry="toy_scale",
    parameter_bytes=(8, 4, 4, 8, 2),
    ptx="// text",
    cubin=b"\x7fELF machine code",
    registers=20,
    spill_bytes=0,
    shared_bytes=1024,
    local_bytes=0,
)
ARGUMENTS = (0x7F00_1234_5678, np.uint32(2**32 - 1), np.float32(0.1), np.float64(-0.1), np.int16(-2))


@pytest.fixture(autouse=True)
def obtained(monkeypatch):
    """Return the list of what is asked of the compiler, which returns `PROGRAM` for everything."""
    asked = []

    def obtain(kernels, capability):
        asked.append((list(kernels), capability))
        return [PROGRAM for _ in asked[-1][0]]

    monkeypatch.setattr(programs, "obtain", obtain)
    return asked


def open_device(**options):
    stand_in = DriverStandIn(parameter_count=len(ARGUMENTS), **options)
    return DriverDevice(DriverCalls(stand_in), 1), stand_in


def launch(kernel=KERNEL, arguments=ARGUMENTS, shared_bytes=0):
    return Launch(kernel, (7, 5, 3), (32, 4, 2), arguments, shared_bytes)


def functions_of_the_driver():
    return [name for name in vars(DriverStandIn) if name.startswith("cu")]


@pytest.mark.parametrize("name", functions_of_the_driver())
def test_the_stand_in_has_the_signatures_of_the_bindings(name):
    ours = inspect.signature(getattr(DriverStandIn(), name))
    theirs = inspect.signature(getattr(real_driver, name))
    assert len(ours.parameters) == len(theirs.parameters)


# ---------------------------------------------------------------------------------------------------------- set-up


def test_properties():
    properties = read_properties(DriverCalls(DriverStandIn()), 1)
    assert (properties.index, properties.name, properties.capability) == (1, "Stand-in 1", (8, 6))
    assert (properties.memory, properties.multiprocessors, properties.shared_memory) == (24 * 2**30, 84, 101376)
    assert properties.bandwidth == pytest.approx(936.1e9, rel=1e-4)  # what its maker says of such a device


@pytest.mark.parametrize("attribute", ["MEMORY_CLOCK_RATE", "GLOBAL_MEMORY_BUS_WIDTH"])
def test_a_driver_that_does_not_tell_the_bandwidth(attribute):
    assert read_properties(DriverCalls(DriverStandIn(attributes={attribute: 0})), 0).bandwidth == 0.0


def test_a_driver_that_does_not_know_old_attributes_any_more(monkeypatch):
    stand_in = DriverStandIn()
    ask = stand_in.cuDeviceGetAttribute

    def refuse_clocks(attribute, handle):
        if attribute == real_driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
            return CUresult.CUDA_ERROR_INVALID_VALUE, None
        return ask(attribute, handle)

    monkeypatch.setattr(stand_in, "cuDeviceGetAttribute", refuse_clocks, raising=False)
    properties = read_properties(DriverCalls(stand_in), 0)
    assert (properties.bandwidth, properties.capability) == (0.0, (8, 6))


def test_connecting(monkeypatch):
    stand_in = DriverStandIn()
    monkeypatch.setattr("cuda.bindings.driver", stand_in)
    calls = connect()
    assert calls is not None
    assert calls("cuDeviceGetCount") == 2
    assert stand_in.names() == ["cuInit", "cuDeviceGetCount"]


def test_connecting_without_devices(monkeypatch):
    monkeypatch.setattr("cuda.bindings.driver", DriverStandIn({"cuInit": CUresult.CUDA_ERROR_NO_DEVICE}))
    assert connect() is None


def test_connecting_to_a_driver_that_refuses(monkeypatch):
    status = CUresult.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
    monkeypatch.setattr("cuda.bindings.driver", DriverStandIn({"cuInit": status}))
    with pytest.raises(DeviceError, match=r"cuInit failed with \w+_DRIVER_MISMATCH .*restart the machine"):
        connect()


def test_connecting_by_bindings_that_are_broken(monkeypatch):
    monkeypatch.delattr("cuda.bindings.driver")
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(DeviceError, match="cuda-bindings cannot be imported"):
        connect()


def test_a_device_has_its_context_as_long_as_it_lives():
    device, stand_in = open_device()
    with device.activate():
        stream = device.open_stream()
        device.launch(launch(), stream)
        device.launch(launch(OTHER_KERNEL), stream)
        device.close_stream(stream)
    del device
    gc.collect()
    assert stand_in.names()[-5:] == [
        "cuCtxPushCurrent",
        "cuModuleUnload",
        "cuModuleUnload",
        "cuCtxPopCurrent",
        "cuDevicePrimaryCtxRelease",
    ]
    stand_in.assert_nothing_is_left()


@pytest.mark.parametrize("name", ["cuCtxPushCurrent", "cuModuleUnload"])
def test_the_context_of_a_lost_device_is_given_back(name):
    device, stand_in = open_device()
    with device.activate():
        device.launch(launch(), device.open_stream())
    stand_in.failing[name] = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    del device
    gc.collect()
    assert stand_in.names()[-1] == "cuDevicePrimaryCtxRelease"
    assert stand_in.contexts == []


def test_a_forked_process_gives_nothing_back(monkeypatch):
    device, stand_in = open_device()
    before = len(stand_in.calls)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        del device
        gc.collect()
    assert len(stand_in.calls) == before


@pytest.mark.parametrize(
    "name", ["cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem", "cuDeviceGetAttribute", "cuDevicePrimaryCtxRetain"]
)
def test_a_device_that_cannot_be_opened_leaves_nothing(name):
    stand_in = DriverStandIn({name: CUresult.CUDA_ERROR_UNKNOWN})
    with pytest.raises(DeviceError, match=f"{name} failed with CUDA_ERROR_UNKNOWN"):
        DriverDevice(DriverCalls(stand_in), 0)
    gc.collect()
    stand_in.assert_nothing_is_left()


def test_activation_is_nested_and_ends_with_errors():
    device, stand_in = open_device()
    with device.activate():
        with device.activate():
            assert stand_in.contexts == [0xC1, 0xC1]
        with pytest.raises(KeyError), device.activate():
            raise KeyError
        assert stand_in.contexts == [0xC1]
    assert stand_in.contexts == []


def test_the_error_that_ends_an_activation_is_not_replaced():
    device, stand_in = open_device()
    stand_in.failing["cuCtxPopCurrent"] = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(KeyError), device.activate():
        raise KeyError
    with pytest.raises(DeviceError, match="cuCtxPopCurrent failed"), device.activate():
        pass


def test_transforms_are_those_of_cufft():
    device, _ = open_device()
    assert isinstance(device.fft, cufft.CufftLibrary)
    assert device.fft is device.fft


# ------------------------------------------------------------------------------------------------------ operations


def test_memory_of_the_device():
    device, stand_in = open_device()
    with device.activate():
        assert device.free_memory() == 20 * 2**30
        addresses = [device.allocate(5000), device.allocate(0)]
        assert [type(address) for address in addresses] == [int, int]
        for address in addresses:
            device.release(address)
    allocations = [arguments for name, *arguments in stand_in.calls if name == "cuMemAlloc"]
    assert allocations == [[5000], [1]], "the driver refuses to allocate nothing"


def test_memory_of_the_host():
    device, stand_in = open_device()
    with device.activate():
        memory, nothing = device.allocate_host(1000), device.allocate_host(0)
        memory[:] = np.arange(1000) % 251
        assert (memory.dtype, memory.shape, nothing.shape) == (np.uint8, (1000,), (0,))
        assert stand_in._host[memory.ctypes.data].raw[:252] == bytes([*range(251), 0])
        device.release_host(memory)
        device.release_host(nothing)
    assert stand_in._host == {}


def test_streams_and_events():
    device, stand_in = open_device()
    with device.activate():
        stream, event, other = device.open_stream(), device.open_event(), device.open_event()
        started = len(stand_in.calls)
        device.record(event, stream)
        device.wait(stream, event)
        device.synchronize(event)
        device.synchronize_stream(stream)
        assert device.elapsed(event, other) == 0.0025
        device.close_event(event)
        device.close_event(other)
        device.close_stream(stream)
        assert stand_in.calls[started:] == [
            ("cuEventRecord", event, stream),
            ("cuStreamWaitEvent", stream, event, 0),
            ("cuEventSynchronize", event),
            ("cuStreamSynchronize", stream),
            ("cuEventElapsedTime", event, other),
            ("cuEventDestroy", event),
            ("cuEventDestroy", other),
            ("cuStreamDestroy", stream),
        ]
    created = {name: arguments for name, *arguments in stand_in.calls if name.endswith("Create")}
    assert created["cuStreamCreate"] == [1], "it would wait for the default stream"
    assert created["cuEventCreate"] == [1], "the host would not sleep, or the event would have no time"


def test_copies():
    device, stand_in = open_device()
    with device.activate():
        stream, memory = device.open_stream(), device.allocate_host(1000)
        part = memory[100:350]
        device.upload(0x5000, part, stream)
        device.download(part, 0x6000, stream)
        device.clear(0x7000, 77, stream)
        assert stand_in.calls[-3:] == [
            ("cuMemcpyHtoDAsync", 0x5000, memory.ctypes.data + 100, 250, stream),
            ("cuMemcpyDtoHAsync", memory.ctypes.data + 100, 0x6000, 250, stream),
            ("cuMemsetD8Async", 0x7000, 0, 77, stream),
        ]


def test_copies_of_rows():
    device, stand_in = open_device()
    with device.activate():
        stream = device.open_stream()
        device.copy_rows(0x5000, 512, 0x6000, 768, row_bytes=300, rows=7, stream=stream)
    ((_, copy, used_stream),) = (call for call in stand_in.calls if call[0] == "cuMemcpy2DAsync")
    assert used_stream == stream
    assert (int(copy.dstDevice), copy.dstPitch, int(copy.srcDevice), copy.srcPitch) == (0x5000, 512, 0x6000, 768)
    assert (copy.WidthInBytes, copy.Height) == (300, 7)
    assert copy.srcMemoryType == copy.dstMemoryType == real_driver.CUmemorytype.CU_MEMORYTYPE_DEVICE
    assert (copy.srcXInBytes, copy.srcY, copy.dstXInBytes, copy.dstY) == (0, 0, 0, 0)


def test_an_address_tells_its_device():
    stand_in = DriverStandIn()
    assert locate(DriverCalls(stand_in), (1 << 40) + 512) == 1
    stand_in.failing["cuPointerGetAttribute"] = real_driver.CUresult.CUDA_ERROR_INVALID_VALUE
    with pytest.raises(DeviceError, match="cuPointerGetAttribute failed with CUDA_ERROR_INVALID_VALUE"):
        locate(DriverCalls(stand_in), 512)


# --------------------------------------------------------------------------------------------------------- kernels


def test_a_launch(obtained):
    device, stand_in = open_device()
    with device.activate():
        stream = device.open_stream()
        device.launch(launch(), stream)
    assert obtained == [([KERNEL], (8, 6))]
    (load,) = (arguments for name, *arguments in stand_in.calls if name == "cuModuleLoadData")
    (get,) = (arguments for name, *arguments in stand_in.calls if name == "cuModuleGetFunction")
    assert load == [PROGRAM.cubin]
    assert get[1] == b"toy_scale"
    *geometry, _, _ = stand_in.calls[-2][2:]
    assert geometry == [7, 5, 3, 32, 4, 2, 0, stream]
    address, count, factor, offset, shift = stand_in.launched[0]
    assert struct.unpack("<Q", address) == (0x7F00_1234_5678,)
    assert struct.unpack("<I", count[:4]) == (2**32 - 1,)
    assert struct.unpack("<f", factor[:4]) == (np.float32(0.1),)
    assert struct.unpack("<d", offset) == (-0.1,)
    assert struct.unpack("<h", shift[:2]) == (-2,)


def test_kernels_are_loaded_once(obtained):
    device, stand_in = open_device()
    with device.activate():
        stream = device.open_stream()
        for kernel in (KERNEL, OTHER_KERNEL, KERNEL, OTHER_KERNEL):
            device.launch(launch(kernel), stream)
    assert [kernels for kernels, _ in obtained] == [[KERNEL], [OTHER_KERNEL]]
    assert stand_in.names().count("cuModuleLoadData") == 2
    functions = [arguments[0] for name, *arguments in stand_in.calls if name == "cuLaunchKernel"]
    assert int(functions[0]) == int(functions[2]) != int(functions[1]) == int(functions[3])


def test_a_program_without_machine_code_is_loaded_as_text(monkeypatch):
    monkeypatch.setattr(programs, "obtain", lambda *_: [PROGRAM._replace(cubin=b"")])
    device, stand_in = open_device()
    with device.activate():
        device.launch(launch(), device.open_stream())
    assert ("cuModuleLoadData", b"// text\0") in stand_in.calls


def test_more_shared_memory_is_asked_for_where_it_is_needed():
    device, stand_in = open_device()
    least = SHARED_BYTES - PROGRAM.shared_bytes
    with device.activate():
        stream = device.open_stream()
        for shared_bytes in (0, least, least + 1, 60_000, least + 1, 50_000):
            device.launch(launch(shared_bytes=shared_bytes), stream)
    asked = [arguments[1:] for name, *arguments in stand_in.calls if name == "cuFuncSetAttribute"]
    attribute = real_driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    assert asked == [[attribute, least + 1], [attribute, 60_000]]
    assert [arguments[7] for name, *arguments in stand_in.calls if name == "cuLaunchKernel"][-1] == 50_000


def test_shared_memory_that_was_refused_is_asked_for_again():
    device, stand_in = open_device(failing={"cuFuncSetAttribute": CUresult.CUDA_ERROR_INVALID_VALUE})
    with device.activate():
        stream = device.open_stream()
        for _ in range(2):
            with pytest.raises(DeviceError, match="cuFuncSetAttribute failed"):
                device.launch(launch(shared_bytes=100_000), stream)
    assert stand_in.names().count("cuModuleLoadData") == 1
    assert stand_in.launched == []


def test_a_module_without_the_kernel_is_unloaded():
    device, stand_in = open_device(failing={"cuModuleGetFunction": CUresult.CUDA_ERROR_NOT_FOUND})
    with device.activate():
        stream = device.open_stream()
        with pytest.raises(DeviceError, match="cuModuleGetFunction failed with CUDA_ERROR_NOT_FOUND"):
            device.launch(launch(), stream)
        assert stand_in.names()[-1] == "cuModuleUnload"
        stand_in.failing.clear()
        device.launch(launch(), stream)
        device.close_stream(stream)
    assert len(stand_in.launched) == 1
    del device
    gc.collect()
    stand_in.assert_nothing_is_left()


@pytest.mark.parametrize(
    "arguments",
    [
        ARGUMENTS[:-1],
        (*ARGUMENTS, np.int16(0)),
        (ARGUMENTS[0], 2**32 - 1, *ARGUMENTS[2:]),
        (*ARGUMENTS[:2], np.float64(0.1), *ARGUMENTS[3:]),
    ],
    ids=["too few", "too many", "an int for 32 bits", "a double for a float"],
)
def test_arguments_that_do_not_fit_the_parameters(arguments):
    device, stand_in = open_device()
    message = r"toy_scale has parameters of \(8, 4, 4, 8, 2\) bytes, not of"
    with device.activate(), pytest.raises(ValueError, match=message):
        device.launch(launch(arguments=arguments), device.open_stream())
    assert stand_in.launched == []


def test_narrow_arguments_are_followed_by_zeros():
    values = pack((np.uint8(200), -1), PROGRAM._replace(parameter_bytes=(1, 8)))
    assert list(values) == [200, 2**64 - 1]


# ---------------------------------------------------------------------------------------------------------- errors


class Opened(NamedTuple):
    """A device, and what an operation may need."""

    device: DriverDevice
    stream: Stream
    event: Event


OPERATIONS = {
    "cuCtxPushCurrent": lambda on: on.device.activate().__enter__(),
    "cuMemGetInfo": lambda on: on.device.free_memory(),
    "cuMemAlloc": lambda on: on.device.allocate(10),
    "cuMemFree": lambda on: on.device.release(4096),
    "cuMemHostAlloc": lambda on: on.device.allocate_host(10),
    "cuMemFreeHost": lambda on: on.device.release_host(np.zeros(8, np.uint8)),
    "cuStreamCreate": lambda on: on.device.open_stream(),
    "cuStreamDestroy": lambda on: on.device.close_stream(on.stream),
    "cuStreamSynchronize": lambda on: on.device.synchronize_stream(on.stream),
    "cuStreamWaitEvent": lambda on: on.device.wait(on.stream, on.event),
    "cuEventCreate": lambda on: on.device.open_event(),
    "cuEventDestroy": lambda on: on.device.close_event(on.event),
    "cuEventRecord": lambda on: on.device.record(on.event, on.stream),
    "cuEventSynchronize": lambda on: on.device.synchronize(on.event),
    "cuEventElapsedTime": lambda on: on.device.elapsed(on.event, on.event),
    "cuMemcpyHtoDAsync": lambda on: on.device.upload(0, np.zeros(8, np.uint8), on.stream),
    "cuMemcpyDtoHAsync": lambda on: on.device.download(np.zeros(8, np.uint8), 0, on.stream),
    "cuMemcpy2DAsync": lambda on: on.device.copy_rows(0, 8, 0, 8, row_bytes=8, rows=2, stream=on.stream),
    "cuMemsetD8Async": lambda on: on.device.clear(0, 8, on.stream),
    "cuModuleLoadData": lambda on: on.device.launch(launch(), on.stream),
    "cuModuleGetFunction": lambda on: on.device.launch(launch(), on.stream),
    "cuFuncSetAttribute": lambda on: on.device.launch(launch(shared_bytes=90_000), on.stream),
    "cuLaunchKernel": lambda on: on.device.launch(launch(), on.stream),
}
STATUSES = {
    "CUDA_ERROR_OUT_OF_MEMORY": (DeviceMemoryError, 5, "make memory free"),
    "CUDA_ERROR_NOT_INITIALIZED": (DeviceError, 4, "start processes by spawn"),
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": (DeviceError, 4, "update the NVIDIA driver, .*blurfast\\[cuda12\\]"),
    "CUDA_ERROR_ILLEGAL_ADDRESS": (DeviceError, 4, "start the program again"),
    "CUDA_ERROR_INVALID_VALUE": (DeviceError, 4, "use the cpu backend"),
}


@pytest.mark.parametrize("status", list(STATUSES))
@pytest.mark.parametrize("name", list(OPERATIONS))
def test_every_failure_is_an_error_that_says_what_to_do(name, status):
    device, stand_in = open_device()
    kind, exit_status, remedy = STATUSES[status]
    with device.activate():
        opened = Opened(device, device.open_stream(), device.open_event())
        stand_in.failing[name] = getattr(CUresult, status)
        fact = rf"^{name} failed with {status} \(it means {int(getattr(CUresult, status))}\); {remedy}"
        with pytest.raises(DeviceError, match=fact) as caught:
            OPERATIONS[name](opened)
    assert type(caught.value) is kind
    assert caught.value.exit_status == exit_status


def test_all_that_may_fail_is_tried():
    elsewhere = {"cuInit", "cuGetErrorString", "cuModuleUnload", "cuCtxPopCurrent", "cuPointerGetAttribute"}
    assert {name for name in functions_of_the_driver() if not name.startswith("cuDevice")} == {*OPERATIONS, *elsewhere}


@pytest.mark.parametrize("error", [ValueError("9777 is not a valid CUresult"), RuntimeError("cuInit is not found")])
def test_what_the_bindings_do_not_know(monkeypatch, error):
    stand_in = DriverStandIn()

    def fail(*_):
        raise error

    monkeypatch.setattr(stand_in, "cuInit", fail, raising=False)
    with pytest.raises(DeviceError, match="cuInit failed"):
        DriverCalls(stand_in).initialise()


def test_the_names_of_statuses_that_have_remedies_exist():
    assert set(_REMEDIES) <= {status.name for status in CUresult}
