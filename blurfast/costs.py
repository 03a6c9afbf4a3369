"""What filtering costs on this machine: the few figures that the choice of a method rests on.

`DEFAULTS` lie between what was measured on two kinds of cores with 512-bit registers, Zen 4 and Zen 5. `blurfast tune`
measures the machine at hand, and keeps the result in the user's cache directory, from where `load` takes it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

logger = logging.getLogger("blurfast")


@dataclass(frozen=True)
class Costs:
    """Nanoseconds of one core, for float32 sums; float64 sums take twice as long.

    Parameters
    ----------
    separable_pixel, direct_pixel, fft_pixel
        For each sample of an image: to gather, convert, round and store it.
    separable_tap, direct_tap
        For each tap and sample.
    fft_point
        For a transform there and back, for each of its points and each doubling of their number.
    """

    separable_pixel: float = 0.9
    separable_tap: float = 0.024
    direct_pixel: float = 0.9
    direct_tap: float = 0.016
    fft_pixel: float = 2.2
    fft_point: float = 0.215


DEFAULTS = Costs()


def costs_path() -> Path:
    """Return the file that `blurfast tune` writes."""
    override = os.environ.get("BLURFAST_CACHE_DIR")
    return Path(override or platformdirs.user_cache_dir("blurfast")) / "costs.json"


@functools.cache
def load() -> Costs:
    """Return what `blurfast tune` measured, or the defaults where it has not run."""
    path = costs_path()
    try:
        figures = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return DEFAULTS
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read, so built-in costs are used; run blurfast tune again: %s", path, error)
        return DEFAULTS
    names = {field.name for field in dataclasses.fields(Costs)}
    if not isinstance(figures, dict) or set(figures) != names or not all(map(_is_cost, figures.values())):
        logger.warning("%s has no usable costs, so built-in ones are used; run blurfast tune again", path)
        return DEFAULTS
    return Costs(**figures)


def save(costs: Costs) -> Path:
    """Keep what was measured, for `load`; return the file."""
    path = costs_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(dataclasses.asdict(costs), indent=1) + "\n")
    partial.replace(path)
    load.cache_clear()
    return path


def _is_cost(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value) and value > 0
