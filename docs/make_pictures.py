"""Make the pictures of the README from a procedural scene: ``python docs/make_pictures.py``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

import blurfast
from blurfast.bench.scene import tissue

FOLDER = Path(__file__).parent / "pictures"
SIDE = 220
GAP = 6


def main() -> None:
    """Write all pictures."""
    scene = _scene()
    _save("blur", [scene, blurfast.gaussian(scene, 4)])
    _save("directions", [blurfast.gaussian(scene, (8, 0)), blurfast.gaussian(scene, (0, 8))])
    _save("derivative", [scene, _edges(scene)])
    _save("edges", [_extended(scene, mode) for mode in ("reflect", "nearest", "wrap", "constant")], side=110)
    _save("alpha", _alpha(scene))


def _scene() -> NDArray[np.uint8]:
    pixels = tissue(4000, 4000, SIDE, SIDE, (8000, 8000), np.uint8).astype(np.float32)
    return np.clip(pixels * 1.7, 0, 255).astype(np.uint8)


def _edges(scene: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the length of the gradient, whose two components are derivatives of a Gaussian."""
    parts = [np.empty(scene.shape, np.float32) for _ in range(2)]
    for order, part in zip(((1, 0), (0, 1)), parts, strict=True):
        blurfast.gaussian(scene, 1.5, order=order, out=part)
    gradient = np.hypot(*parts)
    return np.clip(gradient * (255 / gradient.max()), 0, 255).astype(np.uint8)


def _extended(scene: NDArray[np.uint8], mode: str) -> NDArray[np.uint8]:
    """Return a corner of the scene, blurred strongly enough that the edge mode shows."""
    return blurfast.gaussian(np.ascontiguousarray(scene[:110, :110]), 9, mode=mode)  # type: ignore[arg-type]


def _alpha(scene: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Blur an opaque disk on a transparent black ground with both rules, and lay the results on white."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    opaque = np.hypot(y, x) < SIDE * 0.36
    colours = np.stack([np.where(opaque, scene // 2 + 128, 0), np.where(opaque, 180, 0), np.where(opaque, 60, 0)], -1)
    pixels = np.dstack([colours, np.where(opaque, 255, 0)]).astype(np.uint8)
    source, target = FOLDER / "source.png", FOLDER / "target.png"
    results = []
    for rule in ("independent", "weighted"):
        Image.fromarray(pixels).save(source)
        blurfast.filter_file(source, target, blurfast.Gaussian(8), alpha=rule, overwrite=True)  # type: ignore[arg-type]
        with Image.open(target) as blurred:
            white = Image.new("RGBA", blurred.size, "white")
            results.append(np.asarray(Image.alpha_composite(white, blurred).convert("RGB")))
    source.unlink()
    target.unlink()
    return results


def _save(name: str, panels: list[NDArray[Any]], side: int = SIDE) -> None:
    """Write panels side by side."""
    coloured = [panel if panel.ndim == 3 else np.repeat(panel[..., None], 3, axis=2) for panel in panels]
    gap = np.full((side, GAP, 3), 255, np.uint8)
    row = [part for panel in coloured for part in (panel, gap)][:-1]
    FOLDER.mkdir(exist_ok=True)
    Image.fromarray(np.hstack(row)).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
