"""How PyTorch runs, on the CPU and on a GPU: float32 tensors, edge pixels repeated, integers rounded at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blurfast.bench.cases import Case
from blurfast.bench.prepared import FROM_DEVICE, ON_DEVICE, TO_DEVICE, Prepared


def prepared(case: Case, kernels: Sequence[NDArray[np.float32]]) -> Prepared:
    """Return a case that correlates every channel with some kernels, one after the other."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(case.threads)
    image, device = case.image, torch.device(case.backend)
    channels = image.shape[2] if image.ndim == 3 else 1
    banks = [torch.from_numpy(np.stack([kernel] * channels)[:, np.newaxis]).to(device) for kernel in kernels]
    levels = None if image.dtype.kind == "f" else np.iinfo(image.dtype)

    def load() -> Any:
        return torch.from_numpy(image).to(device)

    def work(pixels: Any) -> Any:
        planes = pixels.reshape(*image.shape[:2], channels).permute(2, 0, 1)[None].to(torch.float32)
        for bank in banks:
            rows, columns = (size // 2 for size in bank.shape[2:])
            padded = functional.pad(planes, (columns, columns, rows, rows), mode="replicate")
            planes = functional.conv2d(padded, bank, groups=channels)
        if levels is not None:
            planes = planes.round().clamp(levels.min, levels.max)
        result = planes[0].permute(1, 2, 0).reshape(image.shape).to(pixels.dtype)
        if case.backend == "cuda":
            torch.cuda.synchronize()
        return result

    def fetch(pixels: Any) -> Any:
        return pixels.cpu().numpy()

    def run() -> Any:
        with torch.inference_mode():
            return fetch(work(load()))

    if case.backend == "cpu":
        return Prepared(run, "nearest")
    there = load()
    return Prepared(
        run, "nearest", {TO_DEVICE: load, ON_DEVICE: lambda: work(there), FROM_DEVICE: lambda: fetch(there)}
    )
