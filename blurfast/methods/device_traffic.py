"""What the kernels of a method move in a GPU's memory: the least that they read and write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from blurfast.cuda.memory import TileNeeds

if TYPE_CHECKING:
    from blurfast.cuda.passes import Step
    from blurfast.cuda.separable import SeparableNeeds

# Passes of a 2-D transform over its data: along the rows and along the columns, each reads and writes.
_PASSES_OF_A_TRANSFORM = 4


def bytes_per_sample(needs: TileNeeds, pixel: int, target: int, sums: int) -> float:
    """Return what an operator moves for each sample of an image.

    What overlaps between the blocks of a kernel, and all maps and taps, are taken to come from the cache.

    Parameters
    ----------
    needs
        Those of the operator.
    pixel, target, sums
        Bytes of a sample that is read, of one that is written, and of a sum.
    """
    from blurfast.cuda.fft import FftNeeds
    from blurfast.cuda.passes import PassNeeds
    from blurfast.cuda.separable import SeparableNeeds
    from blurfast.cuda.separable_sum import SeparableSumNeeds

    match needs:
        case SeparableSumNeeds(each=terms):
            return sum(_separable_bytes(term, pixel, sums, sums) + sums for term in terms) + target
        case SeparableNeeds():
            return _separable_bytes(needs, pixel, target, sums)
        case PassNeeds(steps=steps):
            return _chain_bytes(steps, pixel, target, sums)
        case FftNeeds(transform=transform, tile=tile):
            # Packed, transformed, multiplied by the kernel's spectrum, transformed back, and read again.
            in_panel = (1 + _PASSES_OF_A_TRANSFORM + 3 + _PASSES_OF_A_TRANSFORM) * sums
            return (pixel + in_panel) * transform.points / (tile[0] * tile[1]) + sums + target
        case _:  # all in one kernel
            return float(pixel + target)


def weighted_bytes_per_sample(needs: TileNeeds, pixel: int, target: int, sums: int) -> float:
    """Return the same where samples are multiplied by their opacity before, and divided by it afterwards."""
    return pixel + sums + bytes_per_sample(needs, sums, sums, sums) + sums + target


def _separable_bytes(needs: SeparableNeeds, pixel: int, target: int, sums: int) -> float:
    if needs.radius is not None:
        return float(pixel + target)
    return _chain_bytes(needs.passes.steps, pixel, target, sums)


def _chain_bytes(steps: Sequence[Step], pixel: int, target: int, sums: int) -> float:
    """Return what passes move that each read what the one before has written."""
    total, samples = 0.0, 1.0
    for number, (resampler, _) in enumerate(steps):
        total += samples * (sums if number else pixel)
        samples *= resampler.up / resampler.down
        total += samples * (target if number == len(steps) - 1 else sums)
    return total
