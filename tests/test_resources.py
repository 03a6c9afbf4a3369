"""Limits of threads and memory."""

from __future__ import annotations

import os
import sys

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blurfast import resources
from blurfast.resources import (
    Resources,
    available_memory,
    format_memory,
    parse_memory,
    peak_memory,
    resident_memory,
    thread_count,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("512MB", 512_000_000),
        ("512mb", 512_000_000),
        ("512M", 512_000_000),
        (" 2 GiB ", 2 * 2**30),
        ("2Gi", 2 * 2**30),
        ("1.5K", 1500),
        (".5KiB", 512),
        ("100B", 100),
        ("1TB", 10**12),
        (123, 123),
    ],
)
def test_sizes(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "-5MB", "5 5MB", "1e9", "5XB", "IB", "0", "0.2", 0, -1, "inf", "nan", "1,5G"]
)
def test_wrong_sizes(text):
    with pytest.raises(ValueError, match=r"^max_memory is .*must be"):
        parse_memory(text)


@pytest.mark.parametrize("size", [None, True, 1.5, b"1MB", [1]])
def test_sizes_of_the_wrong_type(size):
    with pytest.raises(TypeError, match=r"^max_memory is"):
        parse_memory(size)


@given(st.integers(1, 10**15))
def test_formatted_sizes_are_rounded_up(count):
    assert parse_memory(format_memory(count)) >= count
    assert parse_memory(format_memory(count)) < count + 10**6


def test_threads():
    assert thread_count(3) == 3
    assert 1 <= thread_count(None) <= (os.cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        assert thread_count(None) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("threads", "error"), [(0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)])
def test_wrong_threads(threads, error):
    with pytest.raises(error, match=r"^threads is .*must be"):
        thread_count(threads)


def test_defaults(monkeypatch):
    monkeypatch.setattr(resources, "available_memory", lambda: 8_000_000_000)
    assert Resources.choose() == Resources(thread_count(None), 2_000_000_000)
    assert Resources.choose(2, "1GB") == Resources(2, 10**9)
    monkeypatch.setattr(resources, "available_memory", lambda: 1)
    assert Resources.choose().max_memory == 256_000_000


@pytest.mark.parametrize("platform", [sys.platform, "another"])
def test_memory_is_that_of_psutil(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    assert available_memory() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    assert resident_memory() == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_memory_of_this_process():
    block = np.ones(100_000_000, np.uint8)
    assert block.nbytes <= resident_memory() <= psutil.virtual_memory().total
    assert peak_memory() >= block.nbytes
    del block
    assert peak_memory() >= 100_000_000
