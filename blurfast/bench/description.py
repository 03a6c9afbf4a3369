"""The machine and the versions that figures depend on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from blurfast.bench.libraries import LIBRARIES
from blurfast.cpu import machine
from blurfast.resources import format_memory

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def describe_machine(threads: int) -> dict[str, Any]:
    """Return what the figures depend on, as plain data."""
    return {
        "model": _model(),
        "processor": machine.cpu_name(),
        "register bits": machine.vector_bits(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "logical cores": os.cpu_count(),
        "caches": _caches(),
        "memory": format_memory(psutil.virtual_memory().total),
        "gpu": _gpus(),
        "threads": threads,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": _versions(library.distribution for library in LIBRARIES.values()),
    }


def _model() -> str:
    """Return the maker's name of the processor, where the system tells it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def _caches() -> str:
    """Return the sizes of the caches of a core, where the system tells them."""
    sizes = []
    for cache in sorted(_CACHES.glob("index*")):
        kind = (cache / "type").read_text().strip()
        if kind != "Instruction":
            sizes.append(f"L{(cache / 'level').read_text().strip()} {(cache / 'size').read_text().strip()}")
    return ", ".join(sizes) or "unknown"


def _gpus() -> str:
    from blurfast.cuda import probe

    names = [properties.name for properties in probe.devices()]
    return ", ".join(names) or f"none: {probe.why_none()}"


def _versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    versions = {}
    for package in dict.fromkeys(("blurfast", "numpy", "numba", "pyvips", *filter(None, distributions))):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
