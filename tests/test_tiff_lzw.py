"""LZW data that would crash the decoder are refused before it sees them; all that encoders write is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from blurfast import Gaussian, UnreadableError, UnsupportedError, filter_file
from blurfast.io.tiff_lzw import is_safe
from tests.tiff_corpus import MINISBLACK, noise, strip_page, write_by_hand

CLEAR, END = 256, 257


def packed(codes: Sequence[int]) -> np.ndarray:
    """Return codes of 9 bits, as they are up to the 254th after a clearing."""
    digits = "".join(f"{code:09b}" for code in codes)
    return np.packbits(np.array([int(digit) for digit in digits], np.uint8))


def is_safe_code_by_code(encoded: bytes) -> bool:
    bits = "".join(f"{byte:08b}" for byte in encoded)
    position, table_size, follows_clear = 0, None, False
    while True:
        width = 9 + sum((table_size or 0) >= size for size in (511, 1023, 2047))
        if position + width > len(bits):
            return table_size is not None
        is_near_end = position + 24 > len(bits)  # where the decoder takes the third byte for zero
        end = min(position + width, position // 8 * 8 + 16) if is_near_end else position + width
        code = int(bits[position:end].ljust(width, "0"), 2)
        position += width
        if code == CLEAR:
            table_size, follows_clear = 258, True
        elif table_size is None or (follows_clear and code > END):
            return False
        elif code == END:
            return True
        else:
            table_size += not follows_clear
            follows_clear = False


@pytest.mark.parametrize("values", [1, 2, 9, 256])
@pytest.mark.parametrize("size", [1, 2, 300, 5000, 60000])
def test_what_an_encoder_writes_is_safe(values: int, size: int) -> None:
    pixels = np.random.default_rng(size).integers(0, values, size).astype("uint8")
    assert is_safe(np.frombuffer(imagecodecs.lzw_encode(pixels.tobytes()), np.uint8))


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], False),
        ([CLEAR], False),
        ([CLEAR, 7], True),
        ([7, CLEAR, 7], False),
        ([CLEAR, END], True),
        ([CLEAR, CLEAR, 7, 258, END], True),
        ([CLEAR, 258, END], False),
        ([CLEAR, 7, 258, CLEAR, 300], False),
        ([CLEAR, 7, END, CLEAR, 300], True),
        ([CLEAR] * 100, True),
        ([CLEAR] * 9000, True),
    ],
)
def test_codes_after_a_clearing(codes: list[int], expected: bool) -> None:
    data = packed(codes) if codes != [CLEAR] else np.array([128], np.uint8)
    assert is_safe(data) is expected


@given(seed=st.integers(0, 2**32), flips=st.integers(1, 3), size=st.integers(1, 4000), values=st.integers(1, 256))
def test_damaged_data_are_judged_as_if_code_by_code(seed: int, flips: int, size: int, values: int) -> None:
    generator = np.random.default_rng(seed)
    encoded = bytearray(imagecodecs.lzw_encode(generator.integers(0, values, size).astype("uint8").tobytes()))
    for _ in range(flips):
        encoded[int(generator.integers(len(encoded)))] = int(generator.choice([0, 1, 64, 128, 255]))
    del encoded[int(generator.integers(2, len(encoded) + 1)) :]
    assert is_safe(np.frombuffer(encoded, np.uint8)) == is_safe_code_by_code(bytes(encoded))


def write_tiff(path: Path, encoded: bytes) -> Path:
    tifffile.imwrite(path, iter([encoded]), shape=(16, 16), dtype="uint8", rowsperstrip=16, compression="lzw")
    return path


def test_a_file_with_dangerous_codes_is_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "in.tif", packed([CLEAR, 7, 258, CLEAR, 300]).tobytes())
    with pytest.raises(UnreadableError, match="segment 0 of page 0 holds no valid LZW data"):
        filter_file(path, tmp_path / "out.tif", Gaussian(1))


def test_data_with_the_lowest_bits_first(tmp_path: Path) -> None:
    pixels = noise((16, 16))
    encoded = imagecodecs.bitorder_encode(imagecodecs.lzw_encode(pixels.tobytes()))
    page = strip_page(pixels, 8, MINISBLACK, rows=16, more={259: ("H", [5]), 266: ("H", [2])})
    write_by_hand(tmp_path / "in.tif", page._replace(segments=[encoded]))
    filter_file(tmp_path / "in.tif", tmp_path / "out.tif", Gaussian(0))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), pixels)


def test_the_oldest_kind_is_named(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "in.tif", b"\x00\x01" + bytes(30))
    with pytest.raises(UnsupportedError, match=r"page 0 has LZW compression as it was before TIFF 5\.0; convert it"):
        filter_file(path, tmp_path / "out.tif", Gaussian(1))
