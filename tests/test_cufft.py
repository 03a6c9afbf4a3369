"""The calls to cuFFT: what arrives at the other side of ctypes, in which order, and what becomes of its refusals.

And its stand-in for tests: the same layouts and demands.

The library is a fake that records its calls. Its functions are called through machine code, with the types of
``cufft.h``: an argument of another size, or in another place, arrives as something else.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from ctypes import POINTER, c_int, c_longlong, c_size_t, c_void_p

import numpy as np
import pytest

from blurfast.cuda import cufft
from blurfast.cuda.cufft import CufftLibrary
from blurfast.cuda.device import DeviceError, DeviceMemoryError
from tests.scipy_fft import ScipyFft

LONGS = POINTER(c_longlong)
HEADER = {
    "cufftCreate": (POINTER(c_int),),
    "cufftSetAutoAllocation": (c_int, c_int),
    "cufftMakePlanMany64": (
        *(c_int, c_int, LONGS, LONGS, c_longlong, c_longlong),
        *(LONGS, c_longlong, c_longlong, c_int, c_longlong, POINTER(c_size_t)),
    ),
    "cufftSetWorkArea": (c_int, c_void_p),
    "cufftSetStream": (c_int, c_void_p),
    "cufftExecR2C": (c_int, c_void_p, c_void_p),
    "cufftExecC2R": (c_int, c_void_p, c_void_p),
    "cufftExecD2Z": (c_int, c_void_p, c_void_p),
    "cufftExecZ2D": (c_int, c_void_p, c_void_p),
    "cufftDestroy": (c_int,),
}
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
HIGH = 0x7F12_3456_7890  # an address that does not fit into 32 bits
WORK_SIZE = 5_000_000_000


class FakeCufft:
    """Records calls, with arrays as lists and results of functions as their arguments were on arrival.

    `results` is what each function returns, where it is not success.
    """

    def __init__(self, results=None):
        self.calls = []
        self._results = results or {}
        self._plans = 0
        self._trampolines = []
        for name, types in HEADER.items():
            setattr(self, name, self._function(name, types))

    def _function(self, name, types):
        """Return an untyped function of machine code, as a library's function is."""

        def record(*arguments):
            self.calls.append((name, *(self._arrived(name, argument) for argument in arguments)))
            return self._results.get(name, 0)

        trampoline = ctypes.CFUNCTYPE(c_int, *types)(record)
        self._trampolines.append(trampoline)
        return ctypes.CFUNCTYPE(c_longlong)(ctypes.cast(trampoline, c_void_p).value)

    def _arrived(self, name, argument):
        if not hasattr(argument, "contents"):
            return argument
        if name == "cufftCreate":
            self._plans += 1
            argument.contents.value = 40 + self._plans
            return "plan"
        if isinstance(argument.contents, c_size_t) and not isinstance(argument, LONGS):
            argument.contents.value = WORK_SIZE
            return "work size"
        return argument[:2]


def recorded(results=None):
    fake = FakeCufft(results)
    return fake, CufftLibrary(lambda: fake)


# ------------------------------------------------------------------------------------------------------ what arrives


def test_nothing_is_loaded_before_the_first_call():
    loads = []

    def load():
        loads.append(1)
        return FakeCufft()

    library = CufftLibrary(load)
    assert loads == []
    library.create()
    library.create()
    assert loads == [1]


def test_the_calls_of_a_plan_in_their_order():
    fake, library = recorded()
    plan = library.create()
    library.disable_auto_allocation(plan)
    work = library.make_plan(plan, (20, 28), FLOAT32, inverse=False, batch=3)
    library.set_work_area(plan, HIGH)
    library.set_stream(plan, HIGH + 1)
    library.execute(plan, HIGH + 256, HIGH + 512)
    library.destroy(plan)
    assert plan == 41
    assert work == WORK_SIZE
    assert fake.calls == [
        ("cufftCreate", "plan"),
        ("cufftSetAutoAllocation", 41, 0),
        ("cufftMakePlanMany64", 41, 2, [20, 28], [20, 30], 1, 600, [20, 15], 1, 300, 0x2A, 3, "work size"),
        ("cufftSetWorkArea", 41, HIGH),
        ("cufftSetStream", 41, HIGH + 1),
        ("cufftExecR2C", 41, HIGH + 256, HIGH + 512),
        ("cufftDestroy", 41),
    ]


@pytest.mark.parametrize(
    ("sums", "inverse", "code", "function"),
    [
        (FLOAT32, False, 0x2A, "cufftExecR2C"),
        (FLOAT32, True, 0x2C, "cufftExecC2R"),
        (FLOAT64, False, 0x6A, "cufftExecD2Z"),
        (FLOAT64, True, 0x6C, "cufftExecZ2D"),
    ],
)
def test_every_type_of_transform(sums, inverse, code, function):
    fake, library = recorded()
    plan = library.create()
    library.make_plan(plan, (6, 9), sums, inverse=inverse, batch=1)
    library.execute(plan, HIGH, HIGH)
    real, spectra = ([6, 10], 1, 60), ([6, 5], 1, 30)
    layout = (*spectra, *real) if inverse else (*real, *spectra)
    assert fake.calls[1:] == [
        ("cufftMakePlanMany64", plan, 2, [6, 9], *layout, code, 1, "work size"),
        (function, plan, HIGH, HIGH),
    ]


def test_sizes_beyond_32_bits_arrive():
    fake, library = recorded()
    library.make_plan(library.create(), (2**17, 2**16), FLOAT64, inverse=False, batch=2**33)
    assert fake.calls[-1][6] == 2**17 * (2**16 + 2)
    assert fake.calls[-1][-2] == 2**33


def test_plans_of_both_directions_are_told_apart():
    fake, library = recorded()
    forward, inverse = library.create(), library.create()
    library.make_plan(inverse, (4, 4), FLOAT32, inverse=True, batch=1)
    library.make_plan(forward, (4, 4), FLOAT32, inverse=False, batch=1)
    library.execute(forward, HIGH, HIGH)
    library.execute(inverse, HIGH, HIGH)
    assert fake.calls[-2:] == [("cufftExecR2C", 41, HIGH, HIGH), ("cufftExecC2R", 42, HIGH, HIGH)]


# ------------------------------------------------------------------------------------------------------- what fails


def run_all(library):
    plan = library.create()
    library.disable_auto_allocation(plan)
    library.make_plan(plan, (4, 4), FLOAT32, inverse=False, batch=1)
    library.set_work_area(plan, HIGH)
    library.set_stream(plan, HIGH)
    library.execute(plan, HIGH, HIGH)
    library.destroy(plan)


@pytest.mark.parametrize(
    "name", [name for name in HEADER if name not in ("cufftExecC2R", "cufftExecD2Z", "cufftExecZ2D")]
)
def test_every_refusal_is_an_error(name):
    fake, library = recorded({name: 5})
    with pytest.raises(DeviceError, match=f"{name} failed with CUFFT_INTERNAL_ERROR: the driver or the library failed"):
        run_all(library)
    assert fake.calls[-1][0] == name


@pytest.mark.parametrize(
    ("first", "names"),
    [
        (1, ["INVALID_PLAN", "ALLOC_FAILED", "INVALID_TYPE", "INVALID_VALUE", "INTERNAL_ERROR", "EXEC_FAILED"]),
        (7, ["SETUP_FAILED", "INVALID_SIZE", "UNALIGNED_DATA"]),
        (11, ["INVALID_DEVICE"]),
        (13, ["NO_WORKSPACE", "NOT_IMPLEMENTED"]),
        (16, ["NOT_SUPPORTED", "MISSING_DEPENDENCY", "NVRTC_FAILURE", "NVJITLINK_FAILURE", "NVSHMEM_FAILURE"]),
    ],
)
def test_every_result_of_the_header_has_a_name(first, names):
    for code, name in enumerate(names, first):
        _, library = recorded({"cufftCreate": code})
        with pytest.raises(DeviceError, match=f"CUFFT_{name}:"):
            library.create()


def test_too_little_memory_is_an_error_of_its_own():
    _, library = recorded({"cufftMakePlanMany64": 2})
    with pytest.raises(DeviceMemoryError, match="CUFFT_ALLOC_FAILED"):
        run_all(library)


def test_a_result_of_the_future():
    _, library = recorded({"cufftCreate": 99})
    with pytest.raises(DeviceError, match="cufftResult 99"):
        library.create()


def test_without_the_library(monkeypatch):
    pathfinder = pytest.importorskip("cuda.pathfinder")

    def refuse(name):
        assert name == "cufft"
        raise pathfinder.DynamicLibNotFoundError("nowhere")

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", refuse)
    with pytest.raises(DeviceError, match=r"not installed.*'blurfast\[cuda13\]' \(or blurfast\[cuda12\]"):
        CufftLibrary().create()


def test_without_the_pathfinder(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    with pytest.raises(DeviceError, match=r"not installed; pip install 'blurfast\[cuda13\]'") as caught:
        cufft.load()
    assert caught.value.exit_status == 4


def find(monkeypatch, path):
    """Let cuFFT be found at a path."""
    pathfinder = pytest.importorskip("cuda.pathfinder")
    found = type("Found", (), {"abs_path": path})
    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", {"cufft": found}.__getitem__)


def test_what_is_found_is_loaded(monkeypatch):
    find(monkeypatch, ctypes.util.find_library("c"))
    assert cufft.load().abs(c_int(-3)) == 3


def test_what_is_found_but_broken(monkeypatch, tmp_path):
    broken = tmp_path / "libcufft.so"
    broken.write_bytes(b"no library")
    find(monkeypatch, str(broken))
    with pytest.raises(DeviceError, match="cannot be loaded"):
        CufftLibrary().create()


# ------------------------------------------------------------------------------------------- the stand-in for tests


class Arrays:
    """Memory of which each array has an address."""

    def __init__(self, **arrays):
        self.arrays = {1024 * number: array.reshape(-1).view(np.uint8) for number, array in enumerate(arrays.values())}

    def read(self, address, dtype, shape):
        count = np.dtype(dtype).itemsize * int(np.prod(shape))
        return self.arrays[address][:count].view(dtype).reshape(shape).copy()

    def write(self, address, array):
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.arrays[address][: content.size] = content


@pytest.mark.parametrize("sums", [FLOAT32, FLOAT64])
@pytest.mark.parametrize("shape", [(4, 6), (3, 5), (1, 1), (7, 2)])
def test_the_stand_in_transforms_padded_rows(shape, sums):
    rows, columns = shape
    pitch = 2 * (columns // 2 + 1)
    data = np.zeros((2, rows, pitch), sums)
    real = np.random.default_rng(0).uniform(-1, 1, (2, rows, columns)).astype(sums)
    data[..., :columns] = real
    data[..., columns:] = np.nan
    memory = Arrays(data=data, work=np.zeros(1000, np.uint8))
    fft = ScipyFft(memory)
    for inverse in (False, True):
        plan = ready_plan(fft, shape, sums, inverse=inverse, batch=2)
        fft.execute(plan, 0, 0)
        fft.destroy(plan)
        if not inverse:
            spectra = data.view(np.result_type(sums, np.complex64))
            np.testing.assert_allclose(spectra, np.fft.rfft2(real.astype(float)), atol=1e-5)
    np.testing.assert_allclose(data[..., :columns], real * rows * columns, atol=1e-4)
    assert np.isnan(data[..., columns:]).all()
    assert memory.arrays[1024].any()
    fft.assert_nothing_is_left()


def ready_plan(fft, shape=(2, 2), sums=FLOAT32, *, inverse=False, batch=1):
    plan = fft.create()
    fft.disable_auto_allocation(plan)
    fft.make_plan(plan, shape, sums, inverse=inverse, batch=batch)
    fft.set_work_area(plan, 1024)
    fft.set_stream(plan, 1)
    return plan


def make(fft, plan, shape=(2, 2), batch=1):
    fft.make_plan(plan, shape, FLOAT32, inverse=False, batch=batch)


@pytest.mark.parametrize(
    ("demand", "violate"),
    [
        ("there is no plan 7", lambda fft: fft.execute(7, 0, 0)),
        ("would allocate", lambda fft: make(fft, fft.create())),
        ("made already", lambda fft: make(fft, ready_plan(fft))),
        ("no transform of", lambda fft: ready_plan(fft, (0, 2))),
        ("no batch of", lambda fft: ready_plan(fft, batch=0)),
        ("allocated its work area already", lambda fft: fft.disable_auto_allocation(ready_plan(fft))),
        ("not been made", lambda fft: fft.set_work_area(fft.create(), 1024)),
        ("not aligned", lambda fft: fft.set_work_area(ready_plan(fft), 1025)),
        ("no work area", lambda fft: fft.set_stream(fft.create(), 1)),
        ("no stream", lambda fft: fft.execute(fft.create(), 0, 0)),
        ("are not aligned", lambda fft: fft.execute(ready_plan(fft), 4, 4)),
        ("source and target overlap", lambda fft: fft.execute(ready_plan(fft), 0, 8)),
        ("work area overlaps", lambda fft: fft.execute(ready_plan(fft), 1024 - 16, 0)),
        ("there is no plan 1", lambda fft: (fft.destroy(ready_plan(fft)), fft.destroy(1))),
        ("plans .* are left", lambda fft: (ready_plan(fft), fft.assert_nothing_is_left())),
    ],
)
def test_the_stand_in_has_demands(demand, violate):
    fft = ScipyFft(Arrays(data=np.zeros(1024, np.uint8), work=np.zeros(1024, np.uint8)))
    with pytest.raises(AssertionError, match=demand):
        violate(fft)
