"""Transforms for devices of tests: scipy.fft in place of cuFFT, with cuFFT's layouts, and with its demands as asserts.

What cuFFT would let pass unnoticed, or answer by an error, is an `AssertionError` here: calls in the wrong order,
memory that is not there or not aligned, a work area that overlaps the data. What cuFFT leaves undefined is spoilt:
the work area, and the elements that pad the rows of real results.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from blurfast.cuda.device import ALIGNMENT, Address, Stream


class Memory(Protocol):
    """The memory of a device, as `tests.ptx.GlobalMemory` has it."""

    def read(self, address: int, dtype: Any, shape: Sequence[int]) -> NDArray[Any]:
        """Return a copy of an array."""

    def write(self, address: int, array: NDArray[Any]) -> None:
        """Overwrite an array."""


class _Layout(NamedTuple):
    """What a plan transforms."""

    rows: int
    columns: int
    real: np.dtype
    inverse: bool
    batch: int

    @property
    def spectra_shape(self) -> tuple[int, int, int]:
        return self.batch, self.rows, self.columns // 2 + 1

    @property
    def real_shape(self) -> tuple[int, int, int]:
        return self.batch, self.rows, 2 * (self.columns // 2 + 1)

    @property
    def complex(self) -> np.dtype:
        return np.result_type(self.real, np.complex64)

    @property
    def byte_count(self) -> int:
        """The size of the data, which is the same on both sides."""
        return math.prod(self.spectra_shape) * self.complex.itemsize


@dataclass
class _Plan:
    """How far a plan has got."""

    allocates: bool = True
    layout: _Layout | None = None
    work_size: int = 0
    work_area: Address | None = None
    stream: Stream | None = None


class ScipyFft:
    """An `FftLibrary` that computes at once.

    Parameters
    ----------
    memory
        Of the device.
    spectra_of_work
        The size of the work areas, in spectra.
    """

    def __init__(self, memory: Memory, spectra_of_work: float = 1.25):
        self.executions = self.work_areas_set = 0
        self._memory = memory
        self._spectra_of_work = spectra_of_work
        self._created = 0
        self._plans: dict[int, _Plan] = {}

    def assert_nothing_is_left(self) -> None:
        """Assert that all plans have been destroyed."""
        assert not self._plans, f"plans {list(self._plans)} are left"

    def create(self) -> int:
        self._created += 1
        self._plans[self._created] = _Plan()
        return self._created

    def disable_auto_allocation(self, plan: int) -> None:
        found = self._find(plan)
        assert found.layout is None, "the plan has allocated its work area already"
        found.allocates = False

    def make_plan(self, plan: int, shape: tuple[int, int], sums: np.dtype, *, inverse: bool, batch: int) -> int:
        found = self._find(plan)
        assert found.layout is None, "the plan has been made already"
        assert not found.allocates, "the plan would allocate a work area by itself"
        assert min(shape) >= 1, f"there is no transform of {shape}"
        assert batch >= 1, f"there is no batch of {batch}"
        assert sums in (np.float32, np.float64), f"there is no transform of {sums}"
        found.layout = _Layout(*shape, sums, inverse, batch)
        found.work_size = math.ceil(self._spectra_of_work * found.layout.byte_count)
        return found.work_size

    def set_work_area(self, plan: int, address: Address) -> None:
        found = self._find(plan)
        assert found.layout is not None, "the plan has not been made"
        assert address % ALIGNMENT == 0, f"the work area at {address} is not aligned"
        found.work_area = address
        self.work_areas_set += 1

    def set_stream(self, plan: int, stream: Stream) -> None:
        found = self._find(plan)
        assert found.work_area is not None, "the plan has no work area"
        found.stream = stream

    def execute(self, plan: int, source: Address, target: Address) -> None:
        found = self._find(plan)
        assert found.stream is not None, "the plan has no stream"
        assert found.layout is not None
        assert found.work_area is not None
        size = found.layout.byte_count
        for address in (source, target):
            assert address % found.layout.complex.itemsize == 0, f"the data at {address} are not aligned"
            is_apart = address + size <= found.work_area or found.work_area + found.work_size <= address
            assert is_apart, "the work area overlaps the data"
        assert source == target or abs(source - target) >= size, "source and target overlap"
        if found.work_size:
            self._memory.write(found.work_area, np.full(found.work_size, 0xA5, np.uint8))
        self._transform(found.layout, source, target)
        self.executions += 1

    def destroy(self, plan: int) -> None:
        assert self._plans.pop(plan, None) is not None, f"there is no plan {plan}"

    def _find(self, plan: int) -> _Plan:
        assert plan in self._plans, f"there is no plan {plan}"
        return self._plans[plan]

    def _transform(self, layout: _Layout, source: Address, target: Address) -> None:
        if layout.inverse:
            spectra = self._memory.read(source, layout.complex, layout.spectra_shape)
            real = np.full(layout.real_shape, np.nan, layout.real)
            real[..., : layout.columns] = scipy.fft.irfft2(spectra, s=(layout.rows, layout.columns), norm="forward")
            self._memory.write(target, real)
        else:
            real = self._memory.read(source, layout.real, layout.real_shape)[..., : layout.columns]
            self._memory.write(target, scipy.fft.rfft2(real).astype(layout.complex, copy=False))
