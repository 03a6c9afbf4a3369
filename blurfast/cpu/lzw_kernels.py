"""A kernel that tells LZW data which are safe to decode from others.

The entry point is `check`. It allocates nothing, raises nothing and holds no lock.
"""

# mypy: disable-error-code="misc, no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

from numba import njit, types

from blurfast.cpu.png_kernels import OPTIONS
from blurfast.cpu.simd import read, write

__all__ = ["OPTIONS", "check", "entry_points"]

CLEAR, END = 256, 257


@njit(**OPTIONS)
def code_at(encoded, length, position, width):
    """Return the code of `width` bits from bit `position` on, as decoders do that never read beyond the data."""
    first = position >> 3
    word = types.int64(read(encoded, first)) << 16 | types.int64(read(encoded, first + 1)) << 8
    if position + 24 <= 8 * length:
        word |= types.int64(read(encoded, first + 2))
    return word >> (24 - (position & 7) - width) & ((1 << width) - 1)


def check(encoded, length, verdict):
    """Write 1 to `verdict` if the table is cleared first, and a single byte or the end follows each clearing; else 0.

    A code has a bit more from each of the sizes of the table on that its width is counted from. The first code after a
    clearing makes the table no longer.
    """
    position, table_size, follows_clearing = 0, 0, False
    is_safe, is_open = False, True
    while is_open:
        width = 9 + (table_size >= 511) + (table_size >= 1023) + (table_size >= 2047)
        if position + width > 8 * length:
            is_safe, is_open = table_size > 0, False
        else:
            code = code_at(encoded, length, position, width)
            position += width
            if code == CLEAR:
                table_size, follows_clearing = END + 1, True
            elif table_size == 0 or (follows_clearing and code > END):
                is_open = False
            elif code == END:
                is_safe, is_open = True, False
            else:
                table_size += not follows_clearing
                follows_clearing = False
    write(verdict, 0, types.int64(is_safe))


def entry_points(pixel: Any, sums: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return the entry point with the Numba types of its arguments."""
    return {"check": (check, (types.CPointer(pixel), types.int64, types.CPointer(types.int64)))}
