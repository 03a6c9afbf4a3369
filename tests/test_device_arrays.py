"""Arrays that live on a GPU: filtered where they are, in any layout whose pixels lie side by side."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

import blurfast
from tests.executor_provider import executor
from tests.pictures import noise
from tests.test_cuda_end_to_end import assert_near_the_cpu

INTERFACE = "__cuda_array_interface__"


class Lent:
    """An array in the memory of the executor, as a library for GPUs would offer it."""

    def __init__(self, device, array, stream, *, padding=0, offset=0, strides=True):
        self.device, self.stream = device, stream
        self.shape, self.dtype = array.shape, array.dtype
        rows = array.shape[0]
        self.row_bytes = array[0].nbytes + padding
        self.allocation = device.allocate(offset + rows * self.row_bytes)
        self.address = self.allocation + offset
        for row in range(rows):
            device.memory.write(self.address + row * self.row_bytes, array[row].view(np.uint8).reshape(-1))
        self.__cuda_array_interface__ = {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "version": 3,
            "strides": (self.row_bytes, *array.strides[1:]) if strides else None,
            "stream": int(stream),
        }

    def content(self):
        rows = [
            self.device.memory.read(self.address + row * self.row_bytes, self.dtype, self.shape[1:])
            for row in range(self.shape[0])
        ]
        return np.stack(rows)

    def give_back(self):
        self.device.release(self.allocation)


Lent.__module__ = "library_for_gpus.arrays"


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """Offer the library that arrays say they are of, which can make others."""
    library = types.ModuleType("library_for_gpus")
    library.empty_like = lambda like: Lent(like.device, np.zeros(like.shape, like.dtype), like.stream)
    monkeypatch.setitem(sys.modules, "library_for_gpus", library)


@pytest.fixture
def device():
    with executor() as device:
        yield device


@pytest.fixture
def stream(device):
    stream = device.open_stream()
    yield stream
    device.close_stream(stream)


def assert_filtered(lent, expected, **options):
    result = blurfast.gaussian(lent, 2, **options)
    try:
        assert type(result) is Lent
        assert_near_the_cpu(result.content(), expected)
    finally:
        result.give_back()
        lent.give_back()


@pytest.mark.parametrize("layout", [{}, {"padding": 12}, {"padding": 64, "offset": 4}, {"strides": False}])
@pytest.mark.parametrize("shape", [(30, 40), (33, 41), (1, 7), (9, 1)])
def test_same_kind_comes_out(device, stream, layout, shape):
    image = noise(shape, "float32")
    assert_filtered(Lent(device, image, stream, **layout), blurfast.gaussian(image, 2))


@pytest.mark.parametrize(("shape", "axis"), [((20, 30, 3), -1), ((3, 20, 30), 0), ((20, 3, 30), 1)])
def test_channels(device, stream, shape, axis):
    image = noise(shape, "uint8")
    expected = blurfast.gaussian(image, 2, channel_axis=axis)
    assert_filtered(Lent(device, image, stream), expected, channel_axis=axis)


def test_nothing_passes_over_the_bus(device, stream, monkeypatch):
    image = noise((64, 64), "float32")
    lent = Lent(device, image, stream)
    uploaded = []
    upload = device.upload
    monkeypatch.setattr(
        device, "upload", lambda target, source, on: uploaded.append(source.size) or upload(target, source, on)
    )
    monkeypatch.setattr(device, "download", None)
    expected = blurfast.gaussian(image, 2)
    uploaded.clear()
    assert_filtered(lent, expected)
    assert sum(uploaded) < image.nbytes / 4, "more than maps and taps"


def test_result_in_a_given_array_and_in_place(device, stream):
    image = noise((31, 45), "uint8")
    expected = blurfast.gaussian(image, 2)
    lent, out = Lent(device, image, stream), Lent(device, np.zeros_like(image), stream, padding=3)
    assert blurfast.gaussian(lent, 2, out=out) is out
    assert_near_the_cpu(out.content(), expected)
    assert blurfast.gaussian(lent, 2, out=lent) is lent
    assert_near_the_cpu(lent.content(), expected)
    lent.give_back()
    out.give_back()


@pytest.mark.parametrize("mode", ["reflect", "wrap", "constant"])
@pytest.mark.parametrize("sigma", [2, 6, (2, 6), (0, 20), (20, 0)])
def test_small_memory_means_several_tiles(device, stream, sigma, mode):
    image = noise((90, 320), "float32")
    lent, out = Lent(device, image, stream), Lent(device, np.zeros_like(image), stream)
    device._size = device.memory.used + 200_000
    blurfast.gaussian(lent, sigma, mode=mode, out=out)
    assert_near_the_cpu(out.content(), blurfast.gaussian(image, sigma, mode=mode))
    lent.give_back()
    out.give_back()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"typestr": "<c8"}, TypeError, "image has the dtype complex64"),
        ({"typestr": ">f4"}, TypeError, "byte order"),
        ({"mask": object()}, TypeError, "mask"),
        ({"strides": (4, 80)}, ValueError, "do not lie side by side; make it contiguous first"),
        ({"shape": (2, 3, 4), "strides": None}, ValueError, "image has 3 dimensions; it must have 2"),
    ],
)
def test_what_cannot_be_filtered_is_refused(device, stream, change, error, message):
    lent = Lent(device, noise((20, 20), "float32"), stream)
    lent.__cuda_array_interface__ |= change
    with pytest.raises(error, match=message):
        blurfast.gaussian(lent, 2)
    lent.give_back()


def test_arguments_that_do_not_fit(device, stream):
    image = noise((20, 20), "float32")
    lent, small = Lent(device, image, stream), Lent(device, image[:10], stream)
    with pytest.raises(ValueError, match=r"out has the shape \(10, 20\); it must have the image's"):
        blurfast.gaussian(lent, 2, out=small)
    with pytest.raises(ValueError, match="image lives on a GPU, and backend is 'cpu'"):
        blurfast.gaussian(lent, 2, backend="cpu")
    small.__cuda_array_interface__["data"] = (small.address, True)
    with pytest.raises(ValueError, match="out is read-only"):
        blurfast.gaussian(lent, 2, out=small)
    lent.give_back()
    small.give_back()
