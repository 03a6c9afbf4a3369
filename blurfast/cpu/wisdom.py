"""FFTW's wisdom: what it has learnt about the fastest way to transform each size, kept between runs.

Planning tries out several ways and takes up to a second for a size. The file lies beside the compiled kernels and
carries a checksum, so a damaged or foreign one is replaced, never taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.transforms import PlanningEffort

logger = logging.getLogger("blurfast")

_lock = threading.Lock()
_loaded = False
_may_save = True
_kept = b""
_planned: set[tuple[object, ...]] = set()

if hasattr(os, "register_at_fork"):
    # A child must not inherit the planner while another thread is inside.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def plan_transforms(tile: NDArray[Any], spectrum: NDArray[Any], effort: PlanningEffort) -> tuple[Any, Any]:
    """Return FFTW's transforms from `tile` to `spectrum`, and back, which destroys the spectrum.

    Parameters
    ----------
    tile
        Real, two-dimensional, aligned; its content is lost.
    spectrum
        Complex, with half of the columns and one more.
    effort
        How long the first planning of a size may take.
    """
    import pyfftw

    flags = (f"FFTW_{effort.upper()}", "FFTW_DESTROY_INPUT")
    key = (tile.shape, tile.dtype, effort)
    with _lock:
        _load(pyfftw)
        forward = pyfftw.FFTW(tile, spectrum, axes=(0, 1), flags=flags)
        backward = pyfftw.FFTW(spectrum, tile, axes=(0, 1), direction="FFTW_BACKWARD", flags=flags)
        if effort != "estimate" and key not in _planned:
            _planned.add(key)
            _save(pyfftw)
    return forward, backward


def wisdom_path() -> Path:
    """Return the file that keeps the wisdom."""
    from blurfast.cpu import objects  # imports llvmlite, which planning does not need

    return objects.cache_directory() / "fftw.wisdom"


def _load(pyfftw: Any) -> None:
    global _loaded, _kept
    if _loaded:
        return
    _loaded = True
    try:
        text = wisdom_path().read_bytes()
    except OSError:
        return
    checksum, _, payload = text.partition(b"\n")
    if checksum == _checksum(pyfftw, payload):
        pyfftw.import_wisdom(tuple(part.encode() for part in json.loads(payload)))
        _kept = payload
    else:
        logger.info("%s is damaged or from another machine, and is made anew", wisdom_path())


def _save(pyfftw: Any) -> None:
    global _may_save, _kept
    if not _may_save:
        return
    payload = json.dumps([part.decode() for part in pyfftw.export_wisdom()]).encode()
    if payload == _kept:
        return
    path = wisdom_path()
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(_checksum(pyfftw, payload) + b"\n" + payload)
        partial.replace(path)
        _kept = payload
    except OSError as error:
        _may_save = False
        with contextlib.suppress(OSError):
            partial.unlink()
        logger.warning("transforms are planned anew in each run, since %s cannot be kept: %s", path, error)


def _checksum(pyfftw: Any, payload: bytes) -> bytes:
    from blurfast.cpu import machine

    about = f"{pyfftw.fftw_version} {machine.cpu_name()} {machine.cpu_features()}".encode()
    return hashlib.sha256(about + payload).hexdigest().encode()


def aligned_empty(shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array that is aligned as FFTW's vector code wants it."""
    import pyfftw

    return np.asarray(pyfftw.empty_aligned(shape, dtype=dtype))
