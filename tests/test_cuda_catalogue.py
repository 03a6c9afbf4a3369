"""The catalogue of kernels for GPUs: what operators launch, whatever they are made for."""

from __future__ import annotations

import itertools

import pytest

from blurfast.cuda.catalogue import Kernel, all_kernels
from blurfast.dtypes import SUPPORTED
from tests.launches import launches


def launched(pixel: str, target: str) -> set[Kernel]:
    return {shape.kernel for shape in launches(pixel, target)}


@pytest.mark.parametrize("pixel", SUPPORTED)
def test_everything_that_is_launched_is_in_the_catalogue(pixel):
    for target in (pixel, "float32", "float64"):
        assert launched(pixel, target) - set(all_kernels()) == set()


def test_every_function_in_the_catalogue_is_launched():
    """Not for every type: which sums a filter takes for which pixels is no concern of the catalogue's."""
    pairs = {(pixel, target) for pixel in SUPPORTED for target in (pixel, "float32", "float64")}
    found = set().union(*itertools.starmap(launched, pairs))
    assert {function_of(kernel) for kernel in all_kernels()} == {function_of(kernel) for kernel in found}
    assert len(found & set(all_kernels())) > 0.9 * len(all_kernels())


def function_of(kernel: Kernel) -> tuple[str, str, str]:
    return kernel.module, kernel.function, kernel.sums


def test_no_kernel_is_listed_twice_and_names_come_back():
    kernels = all_kernels()
    assert len(set(kernels)) == len(kernels)
    assert [Kernel.parse(str(kernel)) for kernel in kernels] == kernels
