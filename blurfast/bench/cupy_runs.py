"""How CuPy runs: an array is copied to the GPU, filtered, and copied back."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from blurfast.bench.cases import Case
from blurfast.bench.ideal import Edges
from blurfast.bench.prepared import FROM_DEVICE, ON_DEVICE, TO_DEVICE, Prepared


def prepared(case: Case, module: str, operation: Callable[[Any, Any], Any], edges: Edges) -> Prepared:
    """Return a case that calls an operation with a module of CuPy and an array on the GPU."""
    import cupy

    library, image = importlib.import_module(module), case.image

    def load() -> Any:
        return cupy.asarray(image)

    def work(pixels: Any) -> Any:
        result = operation(library, pixels)
        cupy.cuda.get_current_stream().synchronize()
        return result

    there = load()
    return Prepared(
        lambda: cupy.asnumpy(work(load())),
        edges,
        {TO_DEVICE: load, ON_DEVICE: lambda: work(there), FROM_DEVICE: lambda: cupy.asnumpy(there)},
    )
