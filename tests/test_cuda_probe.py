"""Which devices there are: every reason why there is none, in words that help, at no cost for who needs none."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blurfast.cuda import probe
from blurfast.cuda.device import DeviceError, DeviceProperties

ROOT = Path(__file__).parents[1]

BOTH_PACKAGES = {"cuda-bindings": "13.5.0", "numba-cuda": "0.30.4"}


def a_device(index: int, capability: tuple[int, int], name: str = "Test device") -> DeviceProperties:
    return DeviceProperties(index, name, capability, 2**33, 1e12, 80, 101376)


class Devices:
    """A provider of devices that are only their numbers."""

    def __init__(self, *properties: DeviceProperties) -> None:
        self._properties = list(properties)

    def properties(self) -> list[DeviceProperties]:
        return self._properties

    def open(self, index: int) -> str:
        return f"device {index}"


class Library:
    """`libcuda`, as far as the probe calls it."""

    def __init__(self, version: int, status: int = 0) -> None:
        self._version, self._status = version, status

    def cuDriverGetVersion(self, pointer) -> int:  # noqa: N802
        pointer._obj.value = self._version
        return self._status


@pytest.fixture
def machine(monkeypatch):
    """Return a function that says what is installed."""

    def install(library: Library | None, packages: dict[str, str], calls=None) -> None:
        def load(name):
            assert name in {"libcuda.so.1", "nvcuda.dll"}
            if library is None:
                raise OSError(f"{name}: cannot open shared object file")
            return library

        def version(package):
            if package not in packages:
                raise importlib.metadata.PackageNotFoundError(package)
            return packages[package]

        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr("blurfast.cuda.driver.connect", lambda: calls)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with probe.use(probe.InstalledDriver()):
        yield install


def assert_there_is_none(reason: str) -> None:
    """Check what all functions say where there is no device that can be used."""
    assert probe.why_none() == reason
    assert probe.devices() == []
    for index in (None, 0):
        with pytest.raises(DeviceError) as caught:
            probe.open_device(index)
        assert str(caught.value) == reason


# --------------------------------------------------------------------------------------------------------- reasons


def test_no_driver(machine):
    machine(None, BOTH_PACKAGES)
    assert_there_is_none(f"no NVIDIA driver was found ({probe._LIBRARY}); install one, or use the cpu backend")


@pytest.mark.parametrize(
    ("version", "extra"), [(12000, "cuda12"), (12090, "cuda12"), (13000, "cuda13"), (14020, "cuda13")]
)
@pytest.mark.parametrize(
    ("packages", "missing"),
    [
        ({}, "cuda-bindings and numba-cuda"),
        ({"cuda-bindings": "12.9.1"}, "numba-cuda"),
        ({"numba-cuda": "0.30.4"}, "cuda-bindings"),
    ],
)
def test_a_driver_without_packages(machine, version, extra, packages, missing):
    machine(Library(version), packages)
    assert_there_is_none(
        f"GPUs need {missing}, not installed here; pip install 'blurfast[{extra}]', or use the cpu backend"
    )


def test_packages_for_a_newer_driver(machine):
    machine(Library(12040), BOTH_PACKAGES)
    assert_there_is_none(
        "cuda-bindings 13.5.0 is for newer NVIDIA drivers than the one here, which is for CUDA 12.4; "
        "install a newer driver, pip install 'blurfast[cuda12]', or use the cpu backend"
    )


def test_a_driver_that_is_too_old(machine):
    machine(Library(11080), BOTH_PACKAGES)
    assert_there_is_none(
        "the NVIDIA driver is for CUDA 11.8, older than 12; install a newer one, or use the cpu backend"
    )


def test_a_driver_that_does_not_tell_its_version(machine):
    machine(Library(0, status=34), BOTH_PACKAGES)
    assert_there_is_none(
        "the NVIDIA driver does not tell its version (error 34); install the driver again, or use the cpu backend"
    )


def test_a_driver_that_refuses(machine, monkeypatch):
    machine(Library(13000), BOTH_PACKAGES)

    def refuse():
        raise DeviceError("cuInit failed", remedy="restart the machine")

    monkeypatch.setattr("blurfast.cuda.driver.connect", refuse)
    assert_there_is_none("cuInit failed; restart the machine")


@pytest.mark.parametrize(
    ("visible", "hint"),
    [(None, ""), ("", ", where CUDA_VISIBLE_DEVICES is ''"), ("-1", ", where CUDA_VISIBLE_DEVICES is '-1'")],
)
def test_no_devices(machine, monkeypatch, visible, hint):
    machine(Library(13000), BOTH_PACKAGES, calls=None)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert_there_is_none(f"the NVIDIA driver finds no device{hint}; use the cpu backend")


def test_devices_that_are_too_old():
    with probe.use(Devices(a_device(0, (6, 1), "Old device"), a_device(1, (7, 0)))):
        assert_there_is_none(
            "Old device has compute capability 6.1, and 7.5 is the least that is supported; use the cpu backend"
        )


# --------------------------------------------------------------------------------------------------------- devices


def test_devices_that_can_be_used():
    old, first, second = a_device(0, (7, 0)), a_device(1, (7, 5)), a_device(2, (12, 0))
    with probe.use(Devices(old, first, second)):
        assert probe.why_none() is None
        assert probe.devices() == [first, second]
        assert probe.open_device() == "device 1"
        assert probe.open_device(2) == "device 2"
        for index in (0, 3, -1):
            with pytest.raises(DeviceError, match=rf"no CUDA device {index} that can be used; use device 1, 2"):
                probe.open_device(index)


def test_another_provider_is_used_until_the_context_ends():
    before = probe._provider
    outer, inner = Devices(a_device(0, (8, 0))), Devices(a_device(7, (8, 0)))
    with probe.use(outer):
        with probe.use(inner):
            assert probe.open_device() == "device 7"
        with pytest.raises(KeyError), probe.use(inner):
            raise KeyError
        assert probe.open_device() == "device 0"
    assert probe._provider is before


def test_a_device_of_the_driver_is_opened_once(machine):
    pytest.importorskip("cuda.bindings.driver", reason="needs the extra cuda-test", exc_type=ImportError)
    from blurfast.cuda.driver import DriverCalls
    from tests.driver_stand_in import DriverStandIn

    stand_in = DriverStandIn()
    machine(Library(13000), BOTH_PACKAGES, calls=DriverCalls(stand_in))
    assert [properties.name for properties in probe.devices()] == ["Stand-in 0", "Stand-in 1"]
    first = probe.open_device()
    assert first.properties.index == 0
    assert probe.open_device(0) is first
    assert probe.open_device(1) is not first
    assert stand_in.names().count("cuDevicePrimaryCtxRetain") == 2


def test_devices_that_are_gone_when_one_is_opened(machine):
    machine(Library(13000), BOTH_PACKAGES, calls=None)
    with pytest.raises(DeviceError, match="the NVIDIA driver finds no device any more"):
        probe.InstalledDriver().open(0)


# ------------------------------------------------------------------------------------------------- what is imported


def modules_after(code: str) -> set[str]:
    """Return what is imported in a process of its own, where no driver can be found, that runs `code`."""
    no_driver = "import ctypes\nload = ctypes.CDLL\n" + (
        "def CDLL(name, *arguments, **options):\n"
        "    if name and ('libcuda.so' in str(name) or 'nvcuda' in str(name)):\n"
        "        raise OSError(name)\n"
        "    return load(name, *arguments, **options)\n"
        "ctypes.CDLL = CDLL\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{no_driver}{code}\nimport sys\nprint(*sys.modules)"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return set(run.stdout.splitlines()[-1].split())


def heavy(modules: set[str]) -> set[str]:
    """Return those of the modules that only work on GPUs may import."""
    ours = {"compiler", "cufft", "driver", "pipeline", "programs", "simt", "simt_values"}
    return {
        name
        for name in modules
        if name.split(".")[0] in {"cuda", "numba", "numba_cuda"}
        or (name.startswith("blurfast.cuda.") and (name.endswith("_kernels") or name.split(".")[2] in ours))
    }


def test_filtering_on_the_processor_imports_nothing_of_cuda():
    modules = modules_after(
        "import numpy as np, blurfast\nprint(blurfast.gaussian(np.ones((30, 40), 'uint8'), 2.0).sum())"
    )
    assert "blurfast.cpu.objects" in modules
    assert heavy(modules) == set()


def test_the_help_imports_nothing_of_cuda():
    modules = modules_after("from blurfast_cli.main import main\nassert main(['--help']) == 0")
    assert "blurfast_cli.main" in modules
    assert heavy(modules) == set()


def test_looking_for_devices_where_there_is_no_driver_imports_nothing():
    modules = modules_after("from blurfast.cuda import probe\nassert 'no NVIDIA driver' in probe.why_none()")
    assert "blurfast.cuda.probe" in modules
    assert heavy(modules) == set()
