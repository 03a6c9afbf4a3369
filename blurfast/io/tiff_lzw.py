"""Whether LZW data are safe to decode.

imagecodecs' decoder follows pointers that nobody has set where the first code after a clearing of its table does not
stand for a single byte, which crashes the process. All else it checks by itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blurfast.cpu.catalogue import Kernel

LZW_CHECK = Kernel("lzw", "check", "uint8", "uint8")


def is_safe(encoded: NDArray[np.uint8]) -> bool:
    """Return whether data begin with a clearing of the table, and each of these is followed by a single byte.

    Parameters
    ----------
    encoded
        The data, with the highest bit of each byte first.
    """
    from blurfast.cpu import objects  # imports llvmlite, which files with other compressions do not need

    (check,) = objects.load([LZW_CHECK])
    verdict = np.empty(1, np.int64)
    check(encoded.ctypes.data, len(encoded), verdict.ctypes.data)
    return bool(verdict[0])
