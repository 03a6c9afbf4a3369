"""The methods on a device: what is known of them before one is opened."""

from __future__ import annotations

import dataclasses
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blurfast
from blurfast.costs import DEFAULTS
from blurfast.cuda.device import DeviceProperties
from blurfast.cuda.memory import SPAN_PERIOD, LongestSpans
from blurfast.io.base import Grain, ImageSpec
from blurfast.methods import Gpu, Job, OnDevice, candidates, on_device
from blurfast.methods.device import LackOfMemory, device_needs
from blurfast.resources import parse_memory

DEVICE = DeviceProperties(0, "imagined", (8, 0), 8 * 10**9, 1e12, 50, 100_000)

METHODS = {
    "fused": (blurfast.Gaussian(1), "separable"),
    "separable": (blurfast.Gaussian((9, 3), order=(1, 0)), "separable"),
    "sum": (blurfast.Convolution(np.outer([1, 2, 1], [1, 3]) + np.outer([1, 0, -1], [1, 5])), "separable"),
    "multirate": (blurfast.Gaussian((11, 40)), "multirate"),
    "direct": (blurfast.Convolution(np.random.default_rng(0).random((4, 9)), origin=(1, -3)), "direct"),
    "fft": (blurfast.Convolution(np.random.default_rng(0).random((30, 21))), "fft"),
}


def method_of(name, dtype="uint16", channels=3, side=500):
    """Return a method as the CPU carries it out."""
    filter, method = METHODS[name]
    image = ImageSpec(side, side, channels, np.dtype(dtype), Grain(1, side))
    return candidates(Job(filter, image, image.dtype, "reflect", 0.0))[method]


@pytest.mark.parametrize("name", METHODS)
@given(starts=st.lists(st.integers(-300, 300), min_size=2, max_size=2), count=st.integers(1, 200))
def test_spans_are_as_longest_spans_takes_them(name, starts, count):
    needs = device_needs(method_of(name))
    for span in (needs.row_span, needs.column_span):
        first, stop = min(starts), max(starts) + count
        assert span(first, stop) == (span(first, first + 1)[0], span(stop - 1, stop)[1])
        assert np.subtract(span(first + SPAN_PERIOD, stop + SPAN_PERIOD), SPAN_PERIOD).tolist() == list(
            span(first, stop)
        )
        longest = max(stop - start for start, stop in (span(start, start + count) for start in range(SPAN_PERIOD)))
        assert LongestSpans(span).longest(count) == longest


@pytest.mark.parametrize("name", METHODS)
def test_too_little_memory_is_no_lack_of_ability(name):
    """Where it is what is missing, it is told apart from all other reasons."""
    method = method_of(name)
    reason = on_device(method, Gpu(DEVICE, 1000))
    assert isinstance(reason, LackOfMemory)
    assert reason == str(reason.error)
    needed = parse_memory(reason.error.remedy.removeprefix("use --device-memory ").removesuffix(" or more"))
    assert isinstance(on_device(method, Gpu(DEVICE, needed)), OnDevice)
    assert on_device("is no product", Gpu(DEVICE, 1000)) == "is no product"


def kernel_bytes_of(on_device):
    """Return what a method on a device is taken to move in its memory."""
    with mock.patch("blurfast.methods.device.pipeline_seconds", return_value=0.0) as pipeline_seconds:
        on_device.seconds(DEFAULTS)
    return pipeline_seconds.call_args.args[2]


def test_time_counts_what_kernels_move():
    """Fused kernels move no sums between their passes, and transforms move a lot."""
    moved = {name: kernel_bytes_of(OnDevice(method_of(name, "float32", 1, 4096), Gpu(DEVICE))) for name in METHODS}
    pixels = 4096**2
    assert moved["fused"] == moved["direct"] == 8 * pixels
    assert moved["separable"] == 16 * pixels
    assert moved["sum"] == (2 * 8 + 2 * 4 + 4) * pixels
    assert 8 * pixels < moved["multirate"] < 16 * pixels
    assert moved["fft"] > 56 * pixels


def test_time_counts_what_opacity_moves():
    method = method_of("separable", "uint8", 4, 4096)
    image = dataclasses.replace(method.job.image, alpha=3)
    weighted = dataclasses.replace(method, job=method.job._replace(image=image))
    plain, more = (kernel_bytes_of(OnDevice(each, Gpu(DEVICE))) for each in (method, weighted))
    samples = 4 * 4096**2
    assert plain == (1 + 4 + 4 + 1) * samples
    assert more == (1 + 4 + 4 * 4 + 4 + 1) * samples
