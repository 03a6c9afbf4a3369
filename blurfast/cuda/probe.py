"""Which devices there are, and if there are none, why.

The first look is for the driver, which costs 0.2 ms where there is none. Nothing is imported before it is needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import threading
from collections.abc import Hashable, Iterator
from typing import NamedTuple, Protocol

from blurfast.cuda.device import Address, Device, DeviceError, DeviceProperties

OLDEST_CAPABILITY = (7, 5)
"""The least compute capability that kernels are compiled for: that of the Turing generation."""

OLDEST_CUDA = 12
"""The least version of CUDA that a driver has to be for."""

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_PACKAGES = ("cuda-bindings", "numba-cuda")
_OR_CPU = "or use the cpu backend"


class Provider(Hashable, Protocol):
    """Where devices come from."""

    def properties(self) -> list[DeviceProperties]:
        """Return what is known of each device; raise a `DeviceError` where none can be reached."""

    def open(self, index: int) -> Device:
        """Return one of these devices."""

    def locate(self, address: Address) -> int:
        """Return the number of the device that an address is of."""


class Survey(NamedTuple):
    """The devices that kernels can be compiled for, the preferred one first; or why there is none, and what to do."""

    devices: tuple[DeviceProperties, ...]
    fact: str
    remedy: str | None


def survey() -> Survey:
    """Look for devices, once for each place that they may come from."""
    return _survey(_provider)


@functools.lru_cache(maxsize=4)
def _survey(provider: Provider) -> Survey:
    try:
        return Survey(tuple(_usable(provider)), "", None)
    except DeviceError as error:
        return Survey((), error.fact, error.remedy)


def devices() -> list[DeviceProperties]:
    """Return the devices that kernels can be compiled for, the preferred one first."""
    try:
        return _usable(_provider)
    except DeviceError:
        return []


def why_none() -> str | None:
    """Return why there is no device, with what can be done about it; None if there is one."""
    try:
        _usable(_provider)
    except DeviceError as error:
        return str(error)
    return None


def open_device(index: int | None = None) -> Device:
    """Return a device, ready for work.

    Parameters
    ----------
    index
        Its number; the preferred device if None.

    Raises
    ------
    DeviceError
        If there is no such device, or if it cannot be used.
    """
    indices = [properties.index for properties in _usable(_provider)]
    if index is None:
        index = indices[0]
    if index not in indices:
        numbers = ", ".join(map(str, indices))
        raise DeviceError(f"there is no CUDA device {index} that can be used", remedy=f"use device {numbers}")
    return _provider.open(index)


def device_of(address: Address) -> Device:
    """Return the device that an address is of, ready for work."""
    return open_device(_provider.locate(address))


@contextlib.contextmanager
def use(provider: Provider) -> Iterator[None]:
    """Take devices from `provider`, in the whole process, until the context ends; for tests."""
    global _provider
    before, _provider = _provider, provider
    try:
        yield
    finally:
        _provider = before


def _usable(provider: Provider) -> list[DeviceProperties]:
    found = provider.properties()
    if not found:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = "" if visible is None else f", where CUDA_VISIBLE_DEVICES is {visible!r}"
        raise DeviceError(f"the NVIDIA driver finds no device{hint}", remedy="use the cpu backend")
    usable = [properties for properties in found if properties.capability >= OLDEST_CAPABILITY]
    if not usable:
        least = "{}.{}".format(*OLDEST_CAPABILITY)
        fact = "{} has compute capability {}.{}".format(found[0].name, *found[0].capability)
        raise DeviceError(f"{fact}, and {least} is the least that is supported", remedy="use the cpu backend")
    return usable


class InstalledDriver:
    """The devices of this machine. One that was opened stays open, with the kernels that it has loaded."""

    def __init__(self) -> None:
        self._opened: dict[int, Device] = {}
        self._lock = threading.Lock()

    def properties(self) -> list[DeviceProperties]:
        """See `Provider`."""
        check_packages(driver_version())
        from blurfast.cuda import driver

        calls = driver.connect()
        if calls is None:
            return []
        return [driver.read_properties(calls, index) for index in range(calls("cuDeviceGetCount"))]

    def open(self, index: int) -> Device:
        """See `Provider`."""
        from blurfast.cuda import driver

        with self._lock:
            if index not in self._opened:
                calls = driver.connect()
                if calls is None:
                    raise DeviceError("the NVIDIA driver finds no device any more", remedy="use the cpu backend")
                self._opened[index] = driver.DriverDevice(calls, index)
            return self._opened[index]

    def locate(self, address: Address) -> int:
        """See `Provider`."""
        from blurfast.cuda import driver

        calls = driver.connect()
        if calls is None:
            raise DeviceError("the NVIDIA driver finds no device any more", remedy="use the cpu backend")
        return driver.locate(calls, address)


_provider: Provider = InstalledDriver()


def driver_version() -> tuple[int, int]:
    """Return the version of CUDA that the NVIDIA driver is for.

    Raises
    ------
    DeviceError
        If there is no driver.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise DeviceError(f"no NVIDIA driver was found ({_LIBRARY})", remedy=f"install one, {_OR_CPU}") from error
    version = ctypes.c_int()
    status = library.cuDriverGetVersion(ctypes.byref(version))
    if status:
        remedy = f"install the driver again, {_OR_CPU}"
        raise DeviceError(f"the NVIDIA driver does not tell its version (error {status})", remedy=remedy)
    return version.value // 1000, version.value % 1000 // 10


def check_packages(version: tuple[int, int]) -> None:
    """Raise a `DeviceError` unless what blurfast needs for devices is installed, and for this version of CUDA."""
    cuda = ".".join(map(str, version))
    if version[0] < OLDEST_CUDA:
        remedy = f"install a newer one, {_OR_CPU}"
        raise DeviceError(f"the NVIDIA driver is for CUDA {cuda}, older than {OLDEST_CUDA}", remedy=remedy)
    remedy = f"pip install 'blurfast[cuda{min(version[0], 13)}]', {_OR_CPU}"
    versions = {package: _installed_version(package) for package in _PACKAGES}
    missing = [package for package, installed in versions.items() if not installed]
    if missing:
        raise DeviceError(f"GPUs need {' and '.join(missing)}, not installed here", remedy=remedy)
    bindings = versions["cuda-bindings"]
    if int(bindings.split(".")[0]) > version[0]:
        fact = f"cuda-bindings {bindings} is for newer NVIDIA drivers than the one here, which is for CUDA {cuda}"
        raise DeviceError(fact, remedy=f"install a newer driver, {remedy}")


def _installed_version(package: str) -> str:
    import importlib.metadata  # takes 10 ms

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
